"""The light that a rendered buffer was shaded with, found again: released data sets do not keep it."""

import numpy as np
import torch
from numpy.typing import NDArray

from drig.errors import PhotoRejected
from drig.faces.lighting import sh_basis

Floats = NDArray[np.float32]

MOST_UNEXPLAINED = 1e-3
"""Root mean square of what the light leaves, as a share of the rendered buffer's. Float32 alone leaves about 1e-7."""


def solve_light(rendered: Floats, normal: Floats, albedo: Floats) -> Floats:
    """Three buffers (3, H, W) of one face -> the light (9, 3), SH index x RGB, with rendered = albedo x shading.

    The shading is linear in the light (SPEC 5), so this is least squares over the face's pixels, one colour at a time.
    Raises PhotoRejected where the buffers show no face, or no light explains them.
    """
    seen = (albedo != 0).any(0)
    if not seen.any():
        raise PhotoRejected("its buffers show no face")
    basis = sh_basis(torch.from_numpy(normal[:, seen].T).double()).numpy()  # (P, 9)
    light = np.empty((9, 3))
    left = 0.0
    for colour in range(3):
        lit = albedo[colour, seen, None] * basis
        wanted = rendered[colour, seen].astype(float)
        light[:, colour] = _least_squares(lit, wanted)
        left += np.square(lit @ light[:, colour] - wanted).sum()
    unexplained = float(np.sqrt(left / max(np.square(rendered[:, seen].astype(float)).sum(), 1e-12)))
    if not unexplained <= MOST_UNEXPLAINED:
        raise PhotoRejected(f"no light explains its rendered buffer: more than {MOST_UNEXPLAINED:.1%} of it is left")
    return light.astype(np.float32)


def _least_squares(matrix: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """By the normal equations, a hundred times as fast as by SVD for many rows; in float64 they lose nothing here."""
    square: NDArray[np.float64] = matrix.T @ matrix
    return np.asarray(np.linalg.lstsq(square, matrix.T @ target, rcond=1e-12)[0], np.float64)
