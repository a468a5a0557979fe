"""The arrays of this package."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
"""Real numbers: float32 where there are many."""
Indices = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]


def vector(*values: float) -> Array:
    """A float32 vector: with float64 constants, every large array they meet would double in size."""
    return np.array(values, np.float32)


def unit(vectors: Array) -> Array:
    """(..., D) vectors at length 1; those of no length stay zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Array = vectors / np.maximum(length, 1e-9).astype(vectors.dtype)
    return scaled
