import numpy as np
import pytest
from numpy.typing import NDArray

from drig.data.frames import compress, expand

SHAPES = [(3, 16, 16), (7, 9, 17), (1, 1, 1), (2, 8, 5), (2, 23, 8), (7, 0, 0)]


@pytest.mark.parametrize("shape", SHAPES)
def test_planes_of_any_shape_and_value_come_back(shape: tuple[int, int, int]) -> None:
    planes = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    before = planes.copy()
    np.testing.assert_array_equal(expand(compress(planes), shape), before)
    np.testing.assert_array_equal(planes, before)


def slope(size: int) -> NDArray[np.uint8]:
    """A noisy slope that wraps from 255 to 0."""
    rows, columns = np.mgrid[:size, :size]
    noise = np.random.default_rng(0).integers(-1, 2, (2, size, size))
    planes: NDArray[np.uint8] = (3 * rows + 2 * columns + noise).astype(np.uint8)
    return planes


def test_what_is_smooth_down_a_column_becomes_small() -> None:
    planes = slope(64)
    assert compress(planes).nbytes < 0.6 * planes.nbytes
    assert compress(np.full_like(planes, 77)).nbytes < 0.02 * planes.nbytes


def test_the_same_planes_are_the_same_bytes() -> None:
    planes = slope(24)
    strided = np.moveaxis(np.ascontiguousarray(np.moveaxis(planes, 0, 2)), 2, 0)
    np.testing.assert_array_equal(compress(planes), compress(strided))
