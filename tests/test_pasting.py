"""An edit pasted back: where it lies, what it leaves alone, and that the seam is smooth."""

import numpy as np
import pytest

from drig.data.photos import Photo
from drig.faces.alignment import align
from drig.pasting import FEATHER, HAIR, paste_back
from tests.faces.test_alignment import face_at, smooth_photo

CASES = [
    ((300, 400), (200.0, 140.0), 40.0, 0.3),  # inside, turned
    ((300, 400), (60.0, 60.0), 50.0, -0.2),  # over the photo's edge
    ((900, 800), (420.0, 400.0), 120.0, 0.1),  # the portrait is smaller than its crop
    ((120, 160), (80.0, 56.0), 9.0, 0.0),  # ... and larger
]


@pytest.mark.parametrize(("shape", "centre", "eyes_apart", "tilt"), CASES)
@pytest.mark.parametrize("enlarged", [1, 3])
def test_an_unchanged_portrait_pasted_back_is_the_photo(
    shape: tuple[int, int], centre: tuple[float, float], eyes_apart: float, tilt: float, enlarged: int
) -> None:
    photo = smooth_photo(*shape)
    crop = align(photo, face_at(centre, eyes_apart, tilt), 128)
    edit = crop.image if enlarged == 1 else align(photo, face_at(centre, eyes_apart, tilt), 128 * enlarged).image
    pasted = paste_back(photo, edit, crop.to_portrait, 128)
    assert pasted.shape == photo.shape
    # Over the photo's edge the crop was invented, and faded: there the seam is of the photo's own edge.
    difference = np.abs(pasted.astype(int) - photo)[8:-8, 8:-8]
    assert difference.mean() < 0.5
    assert np.percentile(difference, 99) <= 4


@pytest.mark.parametrize(("shape", "centre", "eyes_apart", "tilt"), CASES)
def test_the_edit_is_whole_in_the_middle_and_nothing_outside(
    shape: tuple[int, int], centre: tuple[float, float], eyes_apart: float, tilt: float
) -> None:
    photo = smooth_photo(*shape)
    crop = align(photo, face_at(centre, eyes_apart, tilt), 64)
    pasted = paste_back(photo, np.full((64, 64, 3), 9, np.uint8), crop.to_portrait, 64)
    y, x = np.mgrid[: shape[0], : shape[1]]
    places = crop.to_portrait @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])  # (2, H W)
    depth = np.minimum(places + 0.5, 63.5 - places).min(0).reshape(shape) / 64
    assert (pasted[depth < 0] == photo[depth < 0]).all()
    assert (pasted[depth > FEATHER + 0.02] == 9).all()
    assert (depth > FEATHER + 0.02).any()


def test_the_seam_is_smooth() -> None:
    photo = np.full((200, 200, 3), 200, np.uint8)
    crop = align(photo, face_at((100.0, 100.0), 24.0, 0.2), 64)
    pasted = paste_back(photo, np.zeros((64, 64, 3), np.uint8), crop.to_portrait, 64).astype(int)
    assert pasted.min() == 0
    assert max(np.abs(np.diff(pasted, axis=axis)).max() for axis in (0, 1)) < 60  # a hard edge would be 200


def test_only_the_head_goes_back() -> None:
    photo = np.full((200, 200, 3), 200, np.uint8)
    crop = align(photo, face_at((100.0, 100.0), 24.0, 0.0), 64)
    y, x = np.mgrid[:32, :32]
    head = np.hypot(x - 15.5, y - 15.5) < 6  # of the portrait's width: 12 of 32
    pasted = paste_back(photo, np.zeros((64, 64, 3), np.uint8), crop.to_portrait, 64, head)
    places = crop.to_portrait @ np.stack([*np.mgrid[:200, :200][::-1].reshape(2, -1), np.ones(40_000)])
    away = np.hypot(*(places - 31.5)).reshape(200, 200) / 64 - 6 / 32  # from the head, in portrait sides
    assert pasted[away < HAIR - 0.04].max() <= 3
    assert pasted[away > 2 * HAIR + 0.04].min() >= 197
    assert max(np.abs(np.diff(pasted.astype(int), axis=axis)).max() for axis in (0, 1)) < 60


def test_the_photo_itself_is_left_alone() -> None:
    photo: Photo = smooth_photo(200, 200)
    before = photo.copy()
    crop = align(photo, face_at((100.0, 100.0), 24.0), 64)
    paste_back(photo, 255 - crop.image, crop.to_portrait, 64)
    assert (photo == before).all()
