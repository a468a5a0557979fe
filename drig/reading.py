"""Photo -> face: what an editor, or a preview, has to know of a photo. Needs a head and an estimator, but no rig."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from drig.data.photos import Photo
from drig.faces.codes import FaceCodes
from drig.faces.estimators import Estimator, estimate, to_pictures
from drig.faces.fit import Fit
from drig.faces.head import HeadModel
from drig.faces.landmarks import LandmarkDetector
from drig.faces.likeness import Likeness
from drig.faces.portraits import Portrait, find_portrait
from drig.faces.unwrapping import unwrap


@dataclass(frozen=True)
class Face:
    """A photo as the editor sees it: make it once with `Editor.read`, edit it many times."""

    portrait: Portrait
    codes: FaceCodes
    """One face, with its own shape code until it is read again as one of a known person's."""
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

    def acquainted(self, faces: Sequence[Face], *, detail: bool) -> tuple[Likeness, list[Face]]:
        """The person whom all faces show, and the faces as they look to who knows that person.

        As in the paper (SPEC 6) that is the mean shape; for `fit` also the mean skin, and with `detail` the skin's, by
        which each photo is read again: by as much of it as the others show.
        """
        codes = FaceCodes.cat([face.codes for face in faces])
        if not isinstance(self.estimator, Fit):
            return Likeness.of_shapes(codes), list(faces)
        photos = np.stack([face.portrait.seen for face in faces])
        likeness, unwrapped = Likeness.of_skins(self.head, codes, photos)
        if not detail:
            return replace(likeness, skin_detail=None), list(faces)
        if len(faces) > 1:
            codes, _ = self._refitted(photos, codes, likeness, unwrapped.detail_of_others())
            likeness = replace(likeness, skin_detail=unwrap(self.head, codes, photos).detail())
        return likeness, [replace(face, codes=codes[i]) for i, face in enumerate(faces)]

    def reread(self, face: Face, likeness: Likeness) -> Face:
        """The face of a photo that shows, or may show, a person of that likeness.

        It has the person's skin and, where the photo does show its detail, the pose, expression and light by which they
        agree.
        """
        if likeness.skin_detail is not None:
            photo = face.portrait.seen[None]
            codes, shown = self._refitted(photo, face.codes, likeness, likeness.skin_detail)
            if shown.item():
                return replace(face, codes=codes)
        return replace(face, codes=likeness.own(self.head, face.codes))

    def _refitted(
        self, photos: NDArray[np.uint8], codes: FaceCodes, likeness: Likeness, detail: Tensor
    ) -> tuple[FaceCodes, Tensor]:
        """Photos (N, D, D, 3), detail (N or 1, 3, T, T) -> codes, and (N,) bool: the photo does show that person."""
        assert isinstance(self.estimator, Fit), "nobody has a detail but for it"
        own = likeness.shaped(likeness.own(self.head, codes))
        return self.estimator.refit(to_pictures(photos), own, detail)
