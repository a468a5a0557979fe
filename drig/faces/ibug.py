"""The 68 iBUG landmarks by name, and the frame that FFHQ takes from them. Works on NumPy arrays and torch tensors."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Points = TypeVar("Points", Tensor, NDArray[np.floating])

CONTOUR = slice(0, 17)  # jaw line, from the image's left to its right
BROWS = slice(17, 27)
NOSE = slice(27, 36)
RIGHT_EYE = slice(36, 42)  # the person's right: the image's left
LEFT_EYE = slice(42, 48)
MOUTH = slice(48, 68)
MOUTH_CORNERS = (48, 54)
# What each point is called in the mirrored picture.
MIRRORED = (
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
)  # fmt: skip


def eyes_and_mouth(landmarks: Points) -> tuple[Points, Points, Points]:
    """(..., 68, D) -> centres of the image's left and right eye, middle of the mouth corners; each (..., D)."""
    left = landmarks[..., RIGHT_EYE, :].mean(-2)
    right = landmarks[..., LEFT_EYE, :].mean(-2)
    mouth = (landmarks[..., MOUTH_CORNERS[0], :] + landmarks[..., MOUTH_CORNERS[1], :]) / 2
    return left, right, mouth


def ffhq_centre(landmarks: Points) -> Points:
    """(..., 68, D) -> (..., D): eye midpoint + 0.1 eye-to-mouth, the middle of an FFHQ crop (SPEC 6, 7)."""
    left, right, mouth = eyes_and_mouth(landmarks)
    eyes = (left + right) / 2
    return eyes + 0.1 * (mouth - eyes)
