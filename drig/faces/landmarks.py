"""Faces and their 68 iBUG landmarks in photos, by dlib.

The frontal-face detector is part of dlib; where it finds nothing, a convolutional one looks again, which sees turned
and half hidden faces but takes ten times as long. Its file and the landmark predictor's come in the package
face-recognition-models. The predictor, `shape_predictor_68_face_landmarks.dat`, was trained on the iBUG 300-W photos,
whose licence excludes commercial use: this module is for research, or for users who bring a predictor of their own
under that name.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drig.errors import DrigError
from drig.faces.ibug import CONTOUR

_SEARCH_SIDE = 1000  # Larger photos are reduced to this many pixels before the search: faces from 8% of the side on.
_MOST_UPSAMPLED = 2000  # Where nothing is found the photo is doubled, up to this side: faces from 4% of it on.
_CERTAIN = 0.2  # Fainter finds of the frontal detector are kept only where neither finds anything better.
_MOST_SPREAD = 0.03  # of the landmarks when the box is shifted, in box sides: 0.003 where sure, over 0.04 on profiles
_TURNED_SIDE = 400  # The convolutional detector takes 0.5 s for a photo of this side, and wants faces of a fifth of it.
_TURNED_SHIFT = (0.05, 0.06)  # of its boxes' sides, to where the frontal detector's lie on the same photos
_VOTES = ((0.0, 0.0), (0.05, 0.0), (-0.05, 0.0), (0.0, 0.05), (0.0, -0.05))  # shifts of the box, in box sides


_Box = tuple[float, float, float, float]
_Found = tuple[_Box, float]  # with its score


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a photo; pixels, (0, 0) the centre of the top-left one."""

    box: _Box
    """left, top, right, bottom; it may hang over the photo."""
    landmarks: NDArray[np.float64]
    """(68, 2) x, y."""
    score: float
    """The detector's confidence, above 0; clear frontal faces have 1 to 3."""
    placed: bool = True
    """Whether the landmarks can be believed: on heads in profile, or mostly hidden, they are nonsense."""


class LandmarkDetector:
    """Finds faces and predicts their landmarks. Opens its models at first use in each process, and pickles without."""

    def detect(self, photo: NDArray[np.uint8]) -> list[Face]:
        """The faces in a photo (H, W, 3) uint8 RGB, the largest first; an empty list if there is none.

        About 0.1 s where a face is found at once and up to 2 s where there is none.
        """
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            raise DrigError(f"photo is {photo.shape} {photo.dtype}: give (height, width, 3) uint8 RGB")
        photo = np.ascontiguousarray(photo)
        boxes = next((found for found in self._searches(photo) if found), [])
        certain = [found for found in boxes if found[1] >= _CERTAIN]
        turned = [] if certain else self._search_turned(photo)
        boxes = sorted(certain or turned or boxes, key=lambda found: found[0][2] - found[0][0], reverse=True)
        return [self._face(photo, box, score, sure=bool(certain)) for box, score in boxes]

    def __getstate__(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _detector(self) -> Any:
        import dlib

        return dlib.get_frontal_face_detector()

    @cached_property
    def _turned_detector(self) -> Any:
        import dlib

        return dlib.cnn_face_detection_model_v1(str(model_file("mmod_human_face_detector.dat")))

    @cached_property
    def _predictor(self) -> Any:
        import dlib

        return dlib.shape_predictor(str(model_file("shape_predictor_68_face_landmarks.dat")))

    def _searches(self, photo: NDArray[np.uint8]) -> Iterator[list[_Found]]:
        """Boxes with scores from ever more costly searches: the photo, enlarged, and with a border around it."""
        height, width = photo.shape[:2]
        scale = min(1.0, _SEARCH_SIDE / max(height, width))
        if scale < 1:
            reduced = Image.fromarray(photo).resize((round(width * scale), max(1, round(height * scale))))
            photo = np.asarray(reduced)
        doublings = range(max(1, int(np.log2(_MOST_UPSAMPLED / max(photo.shape[:2]))) + 1))
        attempts = [(0.0, up) for up in doublings[:3]] + [(0.25, 0)]  # tight crops want a border
        for border, doubling in attempts:
            y, x = (int(border * side) for side in photo.shape[:2])
            bordered = np.pad(photo, ((y, y), (x, x), (0, 0)), "edge")
            rectangles, scores, _ = self._detector.run(bordered, doubling, 0.0)
            corners = [(r.left() - x, r.top() - y, r.right() - x, r.bottom() - y) for r in rectangles]
            yield [
                ((left / scale, top / scale, right / scale, bottom / scale), float(score))
                for (left, top, right, bottom), score in zip(corners, scores, strict=True)
            ]

    def _search_turned(self, photo: NDArray[np.uint8]) -> list[_Found]:
        """Boxes of the convolutional detector, moved to where the frontal one would put them."""
        height, width = photo.shape[:2]
        scale = _TURNED_SIDE / max(height, width)
        if min(height, width) * scale < 1:
            return []
        reduced = Image.fromarray(photo).resize((round(width * scale), round(height * scale)))
        found = []
        for hit in self._turned_detector(np.asarray(reduced), 0):
            side = 0.5 * (hit.rect.width() + hit.rect.height()) / scale
            x, y = (
                hit.rect.center().x / scale + _TURNED_SHIFT[0] * side,
                hit.rect.center().y / scale + _TURNED_SHIFT[1] * side,
            )
            found.append(((x - side / 2, y - side / 2, x + side / 2, y + side / 2), float(hit.confidence)))
        return found

    def _face(self, photo: NDArray[np.uint8], box: _Box, score: float, *, sure: bool) -> Face:
        """Landmarks at the photo's full detail: the mean over shifted boxes.

        One prediction moves by 1.7% of the inter-ocular distance when the photo is mirrored, the mean by 1.3%; and the
        mean undoes dlib's rounding to whole pixels.
        """
        import dlib

        side = box[2] - box[0]
        votes = []
        for dx, dy in _VOTES:
            x, y = dx * side, dy * side
            shifted = dlib.rectangle(round(box[0] + x), round(box[1] + y), round(box[2] + x), round(box[3] + y))
            votes.append([(point.x, point.y) for point in self._predictor(photo, shifted).parts()])
        landmarks = np.asarray(np.mean(votes, 0), np.float64)
        inner = np.asarray(votes)[:, CONTOUR.stop :] - landmarks[CONTOUR.stop :]
        spread = float(np.hypot(inner[..., 0], inner[..., 1]).mean()) / side
        return Face(box, landmarks, score, placed=sure or spread < _MOST_SPREAD)


def model_file(name: str) -> Path:
    """A model file in face-recognition-models, without importing the package (its code needs pkg_resources)."""
    package = importlib.util.find_spec("face_recognition_models")
    folders = list(package.submodule_search_locations or []) if package else []
    for folder in folders:
        path = Path(folder) / "models" / name
        if path.is_file():
            return path
    raise DrigError(f"model {name} not found: install the package face-recognition-models")
