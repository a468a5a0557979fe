"""Photo -> face: what an editor, or a preview, has to know of a photo. Needs a head and an estimator, but no rig."""

from dataclasses import dataclass

from drig.data.photos import Photo
from drig.faces.codes import FaceCodes
from drig.faces.estimators import Estimator, estimate
from drig.faces.head import HeadModel
from drig.faces.landmarks import LandmarkDetector
from drig.faces.portraits import Portrait, find_portrait


@dataclass(frozen=True)
class Face:
    """A photo as the editor sees it: make it once with `Editor.read`, edit it many times."""

    portrait: Portrait
    codes: FaceCodes
    """One face, with its own shape code."""
    warnings: tuple[str, ...]


class FaceReader:
    """Finds the largest face in a photo and fits the head to it."""

    def __init__(self, head: HeadModel, estimator: Estimator) -> None:
        self.head = head
        self.estimator = estimator
        self.detector = LandmarkDetector()

    def read(self, photo: Photo, size: int, *, aligned: bool = False) -> Face:
        """The face of a photo (H, W, 3) uint8, its portrait size x size. Raises PhotoRejected where there is none.

        aligned: the photo is an FFHQ crop already; it is only resized.
        """
        portrait = find_portrait(photo, self.detector, size, aligned=aligned)
        codes = estimate(self.estimator, [portrait])
        found = portrait.faces_found
        warnings = (f"{found} faces in the photo; the largest was taken",) if found > 1 else ()
        return Face(portrait, codes, warnings)
