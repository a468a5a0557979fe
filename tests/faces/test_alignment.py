"""FFHQ alignment against the released implementation's crops, and its affine against the picture."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from drig.errors import PhotoRejected
from drig.faces.alignment import _gaussian, align, face_quad
from drig.faces.ibug import eyes_and_mouth


def face_at(centre: tuple[float, float], eyes_apart: float, tilt: float = 0.0) -> NDArray[np.float64]:
    """Landmarks (68, 2) of which only eyes and mouth matter: an upright face, turned by `tilt` radians."""
    points = np.zeros((68, 2))
    points[36:42], points[42:48] = (-0.5, 0.0), (0.5, 0.0)
    points[48], points[54] = (-0.3, 1.0), (0.3, 1.0)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    return np.asarray(eyes_apart * points @ turn.T + np.array(centre))


def smooth_photo(height: int, width: int) -> NDArray[np.uint8]:
    """Red falls along x, green along y, blue waves: a photo from which a pixel's position can be read."""
    y, x = np.mgrid[:height, :width]
    waves = 127 + 100 * np.sin(x / 40) * np.cos(y / 30)
    return np.stack([255 * x / width, 255 * y / height, waves], -1).round().astype(np.uint8)


def test_crops_match_the_released_implementation(shared: Path) -> None:
    photo = np.asarray(Image.open(shared / "parity" / "align_source.png").convert("RGB"))
    with np.load(shared / "parity" / "align.npz") as stored:
        for landmarks, crop in zip(stored["landmarks"], stored["aligned"], strict=True):
            ours = align(photo, landmarks, 64, transform_size=256).image
            assert np.abs(ours.astype(float) - crop).mean() < 0.02


@pytest.mark.parametrize(
    ("shape", "centre", "eyes_apart", "tilt"),
    [
        ((300, 400), (200.0, 140.0), 40.0, 0.3),  # inside
        ((300, 400), (60.0, 60.0), 50.0, -0.2),  # over the border: padded
        ((1501, 1333), (700.0, 650.0), 330.0, 0.1),  # shrunk by an odd factor
        ((1501, 1333), (300.0, 300.0), 300.0, 0.0),  # shrunk and padded
    ],
)
def test_the_affine_says_where_each_pixel_came_from(
    shape: tuple[int, int], centre: tuple[float, float], eyes_apart: float, tilt: float
) -> None:
    spot = np.array(centre) + eyes_apart * np.array([0.4, 0.3])
    y, x = np.mgrid[: shape[0], : shape[1]]
    bell = 250 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / (2 * (0.1 * eyes_apart) ** 2))
    crop = align(np.repeat(bell[..., None], 3, 2).round().astype(np.uint8), face_at(centre, eyes_apart, tilt), 64)
    weight = crop.image[..., 0] / crop.image[..., 0].sum()
    y, x = np.mgrid[:64, :64]
    centroid = [(weight * x).sum(), (weight * y).sum()]
    np.testing.assert_allclose(centroid, crop.to_portrait @ [*spot, 1], atol=0.02)


def test_the_face_ends_upright_and_centred() -> None:
    landmarks = face_at((200.0, 140.0), 40.0, tilt=0.5)
    crop = align(smooth_photo(300, 400), landmarks, 128)
    moved = landmarks @ crop.to_portrait[:, :2].T + crop.to_portrait[:, 2]
    left, right, mouth = eyes_and_mouth(moved)
    assert left[1] == pytest.approx(right[1])
    assert (left + right)[0] / 2 == pytest.approx(63.5)
    assert mouth[0] == pytest.approx(63.5)
    assert left[0] < right[0]
    assert mouth[1] > left[1]


def test_drawing_at_four_times_the_size_loses_little() -> None:
    photo = smooth_photo(700, 800)
    landmarks = face_at((400.0, 300.0), 110.0, tilt=0.2)
    small, large = (align(photo, landmarks, 64, transform_size).image.astype(float) for transform_size in (None, 1024))
    assert 0 <= np.abs(small - large).mean() < 0.3


def test_the_fast_blur_is_scipys() -> None:
    image = np.random.default_rng(0).random((90, 70, 3), np.float32)
    np.testing.assert_allclose(_gaussian(image, 4.3), gaussian_filter(image, (4.3, 4.3, 0)), atol=2e-6)


@pytest.mark.parametrize("broken", [np.zeros((68, 2)), np.full((68, 2), np.nan), face_at((-5000.0, 60.0), 40.0)])
def test_landmarks_that_are_no_face_in_the_photo_are_rejected(broken: NDArray[np.float64]) -> None:
    with pytest.raises(PhotoRejected):
        align(smooth_photo(100, 100), broken, 64)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (40, 40)])
def test_faces_larger_than_their_photo_are_padded(shape: tuple[int, int]) -> None:
    crop = align(smooth_photo(*shape), face_at((shape[1] / 2, shape[0] / 2), 5000.0), 32)
    assert crop.image.shape == (32, 32, 3)
    assert np.isfinite(crop.to_portrait).all()


def test_the_quad_is_a_square_whose_scale_eyes_or_mouth_set() -> None:
    wide, long = face_at((0.0, 0.0), 10.0), face_at((0.0, 0.0), 10.0)
    wide[[48, 54], 1], long[[48, 54], 1] = 4.0, 20.0
    for landmarks, half in ((wide, 2.0 * 10), (long, 1.8 * 20)):
        quad = face_quad(landmarks)
        sides = np.linalg.norm(quad - np.roll(quad, 1, 0), axis=1)
        np.testing.assert_allclose(sides, 2 * half)
        np.testing.assert_allclose(quad[0] - quad.mean(0), [-half, -half], atol=1e-9)
