import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from drig.metrics import face_region, psnr, ssim


def noise(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (32, 40, 3), np.uint8)


def test_psnr_is_that_of_its_definition() -> None:
    reference = np.full((8, 8, 3), 100, np.uint8)
    assert psnr(reference + np.uint8(5), reference) == pytest.approx(20 * math.log10(255 / 5))
    assert psnr(reference, reference) == math.inf


def test_psnr_counts_the_masked_pixels_only() -> None:
    reference = np.full((8, 8, 3), 100, np.uint8)
    picture = reference.copy()
    picture[:4] += 5
    mask = np.zeros((8, 8), np.bool_)
    mask[:2] = True
    assert psnr(picture, reference, mask) == pytest.approx(20 * math.log10(255 / 5))
    assert psnr(picture, reference, ~mask) > psnr(picture, reference, mask)


def test_ssim_of_constant_pictures_is_the_luminance_term() -> None:
    dark, bright = np.full((32, 32, 3), 50, np.uint8), np.full((32, 32, 3), 100, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(dark, bright) == pytest.approx((2 * 50 * 100 + c1) / (50**2 + 100**2 + c1))
    assert ssim(dark, dark) == 1.0


def test_ssim_looks_at_the_masked_pixels_only() -> None:
    reference = noise(0)
    picture = reference.copy()
    picture[:, 20:] = noise(1)[:, 20:]
    left = np.zeros((32, 40), np.bool_)
    left[:, :14] = True  # the Gaussian window is 11 wide
    assert ssim(picture, reference, left) == pytest.approx(1.0)
    assert ssim(picture, reference, ~left) < 0.5


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_what_does_not_follow_the_convention_is_refused(metric: Callable[..., float]) -> None:
    picture = noise(0)
    with pytest.raises(ValueError, match="uint8"):
        metric(picture.astype(np.float32), picture)
    with pytest.raises(ValueError, match="one size"):
        metric(picture[:16], picture)
    with pytest.raises(ValueError, match="True"):
        metric(picture, picture, np.zeros(picture.shape[:2], np.bool_))


def test_the_face_region_is_the_hull_of_the_landmarks() -> None:
    square = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [0.0, 0.0]])
    region = face_region(square, 64)
    assert region.mean() == pytest.approx(0.25, abs=0.02)
    assert region[32, 32]
    assert not region[4, 32]
