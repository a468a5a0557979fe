"""The best photos for an album: good ones that differ from each other in pose, expression and light."""

import numpy as np
from numpy.typing import NDArray

from drig.data.albums.variety import shading
from drig.data.albums.verdicts import PhotoMeasures
from drig.faces.codes import FaceCodes
from drig.faces.controls import head_angles

Array = NDArray[np.float64]

# What counts as one step of difference: the spread within albums where everything differs (see `variety`).
_POSE = 15.0  # degrees
_EXPRESSION = 0.5
_LIGHT = 0.15
_WORST = 0.2  # a photo's least weight: none is so bad that it is worth nothing where it is the only one of its kind


def differences(codes: FaceCodes) -> Array:
    """(N, N) how much the photos differ in pose, expression and light: 1 is the usual difference in one of them."""
    balls = shading(codes)
    features = np.hstack(
        [
            head_angles(codes)[:, :2] / _POSE,
            codes.exp.cpu().numpy() / _EXPRESSION,
            balls / balls.shape[1] ** 0.5 / _LIGHT,
        ]
    )
    return np.asarray(np.linalg.norm(features[:, None] - features[None], axis=2))


def weight(photo: PhotoMeasures) -> float:
    """Quality: 1 for a sharp, open and well fitted face, less for others."""
    sharp = np.interp(photo.blur, [0.45, 0.65], [1, 0.4])
    whole = np.interp(photo.covered, [0.1, 0.3], [1, 0.4])
    fitted = np.interp(photo.landmark_error, [3, 6.5], [1, 0.4])
    large = np.interp(photo.enlarged, [1, 3], [1, 0.5])
    return max(_WORST, float(sharp * whole * fitted * large))


def spread(apart: Array, weights: Array, count: int) -> list[int]:
    """`count` of N photos, farthest-point first: each next one is farthest from those chosen, times its weight.

    apart (N, N), weights (N,). The first is the one of most weight. Returned in the order of the photos.
    """
    chosen = [int(weights.argmax())]
    nearest = apart[chosen[0]].copy()
    while len(chosen) < min(count, len(weights)):
        worth = nearest * weights
        worth[chosen] = -1
        chosen.append(int(worth.argmax()))
        nearest = np.minimum(nearest, apart[chosen[-1]])
    return sorted(chosen)
