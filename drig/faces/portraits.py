"""Photo -> portrait: the FFHQ crop of its largest face, with landmarks; or a reason why not."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drig.errors import PhotoRejected
from drig.faces.alignment import align, face_quad
from drig.faces.landmarks import LandmarkDetector
from drig.metrics import Mask, face_region

DETAIL = 128
"""Least side in pixels of the pictures that estimators see. Of 64 px they are a quarter further off in light and twice
as far in albedo; of more than 128 px hardly better (`benchmarks/fit.py --seen`)."""
_SMALLEST_CROP = 0.25  # of the output's side: below, the portrait would be mostly invented
_ALIGNED_TOLERANCE = 0.3  # NDC, how far a crop's corners may be from FFHQ's; found again they are 0.22 off at most


@dataclass(frozen=True, eq=False)
class Portrait:
    """One face as FFHQ shows it."""

    image: NDArray[np.uint8]
    """(S, S, 3) RGB."""
    landmarks: NDArray[np.float32]
    """(68, 2) iBUG points in image NDC: x right, y down, the image's edges at -1 and 1."""
    faces_found: int
    """Faces in the photo; this is the largest of them, unless another was asked for."""
    source_side: float = 0.0
    """Side of the crop in the photo's own pixels: below S, the portrait is enlarged. 0 = not known."""
    to_portrait: NDArray[np.float64] | None = None
    """(2, 3) affine: pixel (x, y, 1) of the photo -> of the portrait, pixel centres whole numbers. None = not known."""
    detail: NDArray[np.uint8] | None = None
    """(DETAIL, DETAIL, 3) the same crop, where S is less. None = there is none, or no need of it."""

    @property
    def seen(self) -> NDArray[np.uint8]:
        """What an estimator should look at: (D, D, 3) RGB."""
        return self.image if self.detail is None else self.detail

    @property
    def face(self) -> Mask:
        """(S, S) what lies within the landmarks: brows to chin."""
        return face_region(self.landmarks, len(self.image))

    def corners(self) -> NDArray[np.float64]:
        """(4, 2) where the portrait's corners lie in the photo, in pixels counted from its top-left corner: top-left,
        top-right, bottom-right, bottom-left. For portraits that know where they came from."""
        assert self.to_portrait is not None
        size = len(self.image)
        square = np.array([[0, 0], [size, 0], [size, size], [0, size]]) - 0.5
        return np.asarray(np.linalg.solve(self.to_portrait[:, :2], (square - self.to_portrait[:, 2]).T).T + 0.5)


def find_portrait(
    photo: NDArray[np.uint8], detector: LandmarkDetector, size: int, *, aligned: bool = False
) -> Portrait:
    """The largest face in a photo (H, W, 3) uint8 RGB as a size x size portrait, or PhotoRejected.

    aligned: the photo is an FFHQ crop already; it is resized, not warped, and refused if it is no such crop.
    """
    faces = detector.detect(photo)
    if not faces:
        raise PhotoRejected("no face found (faces under 4% of the photo's side are not)")
    if not faces[0].placed:
        raise PhotoRejected("the face is turned away or hidden so far that its landmarks cannot be placed")
    landmarks = faces[0].landmarks
    if aligned:
        _check_aligned(photo, face_quad(landmarks))
        scale = size / len(photo)
        resized = np.array([[scale, 0, scale / 2 - 0.5], [0, scale, scale / 2 - 0.5]])
        side = float(len(photo))
        found = _to_ndc(landmarks, len(photo))
        return Portrait(_resized(photo, size), found, len(faces), side, resized, _resized_detail(photo, size))
    return cut_portrait(photo, landmarks, size, len(faces))


def cut_portrait(photo: NDArray[np.uint8], landmarks: NDArray[np.float64], size: int, faces_found: int = 1) -> Portrait:
    """The face at these landmarks (68, 2) in pixels, one of `faces_found`, as a portrait; or PhotoRejected."""
    quad = face_quad(landmarks)
    side = float(np.hypot(*(quad[3] - quad[0])))
    if side < _SMALLEST_CROP * size:
        least = int(np.ceil(_SMALLEST_CROP * size))
        raise PhotoRejected(f"the face is too small: its crop is {side:.0f} px wide, {least} are needed")
    crop = align(photo, landmarks, size)
    moved = landmarks @ crop.to_portrait[:, :2].T + crop.to_portrait[:, 2]
    detail = align(photo, landmarks, DETAIL).image if size < DETAIL else None
    return Portrait(crop.image, _to_ndc(moved, size), faces_found, side, crop.to_portrait, detail)


def trusted_portrait(photo: NDArray[np.uint8], size: int) -> Portrait:
    """An FFHQ crop as a portrait, its face not looked for: its landmarks are NaN. PhotoRejected if it is not square."""
    _check_square(photo)
    unknown = np.full((68, 2), np.nan, np.float32)
    return Portrait(_resized(photo, size), unknown, 1, float(len(photo)), detail=_resized_detail(photo, size))


def _resized_detail(photo: NDArray[np.uint8], size: int) -> NDArray[np.uint8] | None:
    return _resized(photo, DETAIL) if size < DETAIL else None


def _resized(photo: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.LANCZOS))


def _check_square(photo: NDArray[np.uint8]) -> None:
    height, width = photo.shape[:2]
    if height != width:
        raise PhotoRejected(f"an aligned photo is square, this one is {width} x {height}")


def _check_aligned(photo: NDArray[np.uint8], quad: NDArray[np.float64]) -> None:
    _check_square(photo)
    ffhq = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]])
    if np.abs(_to_ndc(quad, len(photo)) - ffhq).max() > _ALIGNED_TOLERANCE:
        raise PhotoRejected("not an FFHQ crop, though it was said to be aligned: let it be aligned")


def _to_ndc(points: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    return ((2 * points + 1) / size - 1).astype(np.float32)
