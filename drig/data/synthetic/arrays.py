"""The arrays of this package, and how loops over them are compiled."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
"""Real numbers: float32 where there are many."""
Indices = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]

compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp", "nsz"})
"""Compiles a loop once for all processes. Of fast mathematics all but the promise that no number is infinite or NaN:
what is computed on a branch that is not taken may be."""


def vector(*values: float) -> Array:
    """A float32 vector: with float64 constants, every large array they meet would double in size."""
    return np.array(values, np.float32)


def unit(vectors: Array) -> Array:
    """(..., D) vectors at length 1; those of no length stay zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Array = vectors / np.maximum(length, 1e-9).astype(vectors.dtype)
    return scaled
