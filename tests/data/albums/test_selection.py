"""Selection: different photos first, good ones of those that are alike."""

from dataclasses import replace

import numpy as np
import torch

from drig.data.albums.selection import differences, spread, weight
from drig.faces.head import load_head, neutral_codes
from drig.faces.lighting import directional_light
from tests.data.albums.test_verdicts import GOOD


def test_the_farthest_are_chosen_and_the_better_of_two_that_are_alike() -> None:
    places = np.array([0.0, 0.1, 5.0, 5.1, 9.0])
    apart = np.abs(places[:, None] - places[None])
    assert spread(apart, np.array([1, 0.9, 0.5, 1, 0.9]), 3) == [0, 3, 4]
    assert spread(apart, np.ones(5), 20) == [0, 1, 2, 3, 4]


def test_a_turn_a_grimace_and_a_lamp_are_differences_and_exposure_is_none() -> None:
    codes = neutral_codes(load_head("open"), 5)
    pose, exp, light = codes.pose.clone(), codes.exp.clone(), codes.light.clone()
    pose[1, 1] = 0.5
    exp[2, :2] = 0.7
    light[3] = directional_light(torch.tensor([2.0, 0.0, 0.5]), torch.full((3,), 0.9), 0.2)
    light[4] *= 0.5
    from_first = differences(codes.replace(pose=pose, exp=exp, light=light))[0]
    assert from_first[1:4].min() > 1
    assert from_first[4] < 1e-3


def test_blur_a_hand_and_a_bad_fit_weigh_less() -> None:
    assert weight(GOOD) == 1
    for worse in (replace(GOOD, blur=0.6), replace(GOOD, covered=0.25), replace(GOOD, landmark_error=6.0)):
        assert 0.2 <= weight(worse) < 0.8
