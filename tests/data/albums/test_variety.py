"""Measures of sameness, on codes and pictures that are known."""

import numpy as np
import pytest
import torch

from drig.data.albums.variety import expression_spread, light_spread, places, pose_spread
from drig.faces.codes import FaceCodes
from drig.faces.fit_light_prior import sample_lights
from drig.faces.head import load_head, neutral_codes
from drig.faces.lighting import directional_light


def album(count: int) -> FaceCodes:
    return neutral_codes(load_head("open"), count)


def test_one_light_is_one_whatever_the_exposure_and_white_balance() -> None:
    codes = album(12)
    assert light_spread(codes) < 1e-4
    exposure = torch.linspace(0.3, 1.5, 12)[:, None, None]
    assert light_spread(codes.replace(light=codes.light * exposure)) < 1e-4
    tints = 1 + 0.2 * torch.rand(12, 1, 3, generator=torch.Generator().manual_seed(0))
    assert light_spread(codes.replace(light=codes.light * tints)) < 0.01


def test_lights_from_everywhere_spread() -> None:
    codes = album(12)
    lights = sample_lights(12, torch.Generator().manual_seed(0))
    assert light_spread(codes.replace(light=lights)) > 0.1
    sides = [directional_light(torch.tensor([x, 0.3, 1.0]), torch.full((3,), 0.7), 0.4) for x in (-2.0, 2.0)]
    assert light_spread(album(2).replace(light=torch.stack(sides))) > 0.1


def test_light_that_only_turns_with_the_head_is_the_estimators_mistake() -> None:
    yaw = torch.linspace(-0.5, 0.5, 10)
    codes = album(10)
    light = codes.light.clone()
    light[:, 1] += 0.5 * yaw[:, None]
    pose = torch.zeros(10, 6)
    assert light_spread(codes.replace(light=light)) > 0.05
    pose[:, 1] = yaw
    assert light_spread(codes.replace(light=light, pose=pose)) < 0.01
    few = codes.replace(light=light, pose=pose)[list(range(0, 10, 3))]
    assert light_spread(few) > 0.05  # of four photos it cannot be told


def test_pose_and_expression_spread() -> None:
    codes = album(2)
    pose, exp = codes.pose.clone(), codes.exp.clone()
    pose[:, 1] = torch.tensor([-0.2, 0.2])
    exp[0, 3] = 1.0
    changed = codes.replace(pose=pose, exp=exp)
    assert pose_spread(codes) == expression_spread(codes, ()) == 0
    assert pose_spread(changed) == pytest.approx(np.degrees(0.4) / 2**0.5, rel=1e-3)
    assert expression_spread(changed, ()) == pytest.approx(0.5**0.5)
    names = ["jawOpen"] * exp.shape[1]
    assert expression_spread(changed, names) == pytest.approx(0.5**0.5)
    names[3] = "eyeLookUpLeft"  # where somebody looks is no expression
    assert expression_spread(changed, names) == 0
    assert pose_spread(changed[0]) == 0  # one photo has no spread


def test_places_are_told_by_what_is_beside_the_head() -> None:
    rng = np.random.default_rng(0)
    images = np.full((5, 64, 64, 3), 30, np.uint8)
    images[[1, 3]] = (200, 120, 60)
    images[:, 12:, 12:52] = rng.integers(0, 256, (5, 52, 40, 3))  # the person differs everywhere
    assert places(images).tolist() == [0, 1, 0, 1, 0]
    assert places(images[:1]).tolist() == [0]
