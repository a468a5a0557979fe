"""A picture that was changed shows what its changed codes say."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from drig.faces.buffers import render_buffers
from drig.faces.camera import project
from drig.faces.codes import FaceCodes
from drig.faces.open_head import OpenHead
from drig.faces.regressor import PORTRAIT, SIDE, crop
from drig.training.regressor.portraits import Portraits
from drig.training.regressor.variations import UNMARKED, Variations


@pytest.fixture(scope="module")
def vary(head: OpenHead) -> Variations:
    return Variations(head)


@pytest.fixture(scope="module")
def floats(portraits: Portraits) -> Portraits:
    return replace(portraits, images=portraits.images.float() / 255)


def shown(head: OpenHead, codes: FaceCodes) -> Tensor:
    """What the network would see of these heads, in [0, 1]."""
    buffers = render_buffers(head, codes, PORTRAIT)
    return crop((buffers.rendered + 0.5 * (1 - buffers.alpha)).clamp(0, 1)) / 2 + 0.5


def points(head: OpenHead, codes: FaceCodes) -> Tensor:
    return project(head.landmarks(codes, head.vertices(codes)), codes)[..., :2]


def difference(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().mean().item()


def test_the_mirrored_codes_are_those_of_the_mirrored_picture(
    head: OpenHead, vary: Variations, floats: Portraits
) -> None:
    mirrored = vary.mirrored(floats)
    assert difference(crop(mirrored.images) / 2 + 0.5, shown(head, mirrored.codes)) < 0.01
    assert difference(crop(mirrored.images) / 2 + 0.5, shown(head, floats.codes)) > 0.05
    assert difference(mirrored.landmarks, points(head, mirrored.codes)) < 0.005
    twice = vary.mirrored(mirrored)
    for name in ("exp", "pose", "cam", "light"):
        torch.testing.assert_close(getattr(twice.codes, name), getattr(floats.codes, name), msg=name)
    assert torch.equal(twice.landmarks, floats.landmarks)


def test_reframed_codes_follow_the_picture(head: OpenHead, vary: Variations, floats: Portraits) -> None:
    n = len(floats)
    turn, zoom, shift = torch.full((n,), 0.15), torch.full((n,), 1.1), torch.tensor([[0.06, -0.04]]).repeat(n, 1)
    moved = vary.reframed(floats, turn, zoom, shift)
    assert difference(moved.images, shown(head, moved.codes)) < 0.012
    assert difference(moved.images, shown(head, moved.codes)) < 0.25 * difference(
        moved.images, shown(head, floats.codes)
    )
    torch.testing.assert_close(moved.landmarks, points(head, moved.codes), atol=1e-4, rtol=0)


def test_variations_are_the_same_for_the_same_generator_and_differ_otherwise(
    vary: Variations, floats: Portraits
) -> None:
    first, again, other = (vary(floats, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.images.shape == (len(floats), 3, SIDE, SIDE)
    assert first.images.min() >= -1
    assert first.images.max() <= 1
    assert torch.equal(first.images, again.images)
    assert difference(first.images, other.images) > 0.05
    assert not torch.equal(first.codes.light, floats.codes.light)


def test_most_of_what_was_varied_agrees_with_its_codes(head: OpenHead, vary: Variations, floats: Portraits) -> None:
    """Over many variations, what is not hidden, blurred or noisy."""
    varied = [vary(floats, torch.Generator().manual_seed(seed)) for seed in range(4)]
    errors = [(one.images / 2 + 0.5 - shown(head, one.codes)).abs().mean((1, 2, 3)) for one in varied]
    assert torch.cat(errors).median() < 0.04
    places = torch.cat([one.landmarks - points(head, one.codes) for one in varied])
    unknown = places.isnan().any(2).any(1)
    assert abs(unknown.float().mean().item() - UNMARKED) < 0.2
    assert places[~unknown].abs().mean() < 0.01
