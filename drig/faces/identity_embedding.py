"""Who a face is: dlib's re-identification network, whose distances tell people apart.

A residual network of 29 convolutions that maps a 150 px chip of a face to 128 numbers; trained so that two photos of
one person lie less than 0.6 apart, two people farther (99.4% of the pairs of Labeled Faces in the Wild, by its author).
On the shared photos: 0.27 to 0.45 within an album of posed photos, 0.34 to 0.63 within a dark video, 0.50 to 0.97
between people. Its file comes with face-recognition-models.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drig.errors import DrigError
from drig.faces.landmarks import model_file
from drig.faces.portraits import Portrait

SAME_PERSON = 0.6
"""Distance of embeddings below which two faces are one person's, as the network was trained."""
SIZE = 128
_CHIP = 150  # px, what the network sees
_PADDING = 0.25  # of the chip around the face, as in training
_BATCH = 16  # chips at a time; the numbers do not depend on it


class IdentityEmbedder:
    """Opens its network at first use in each process, and pickles without. Deterministic, on the CPU."""

    def embed(
        self, photos: Sequence[NDArray[np.uint8]], landmarks: Sequence[NDArray[np.floating]]
    ) -> NDArray[np.float32]:
        """Photos (H, W, 3) uint8 RGB of any sizes with the landmarks (68, 2) in pixels of a face in each -> (N, 128).

        About 0.1 s a face. Raises DrigError where the two do not match.
        """
        if len(photos) != len(landmarks):
            raise DrigError(f"{len(photos)} photos and {len(landmarks)} sets of landmarks: give one set for each photo")
        chips = [_chip(photo, points) for photo, points in zip(photos, landmarks, strict=True)]
        found = [
            np.array(embedding, np.float32)
            for start in range(0, len(chips), _BATCH)
            for embedding in self._network.compute_face_descriptor(chips[start : start + _BATCH])
        ]
        return np.stack(found) if found else np.zeros((0, SIZE), np.float32)

    def embed_portraits(self, portraits: Sequence[Portrait]) -> NDArray[np.float32]:
        """Portraits -> (N, 128)."""
        pixels = [((portrait.landmarks + 1) * len(portrait.image) - 1) / 2 for portrait in portraits]
        return self.embed([portrait.image for portrait in portraits], pixels)

    def __getstate__(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _network(self) -> Any:
        import dlib

        return dlib.face_recognition_model_v1(str(model_file("dlib_face_recognition_resnet_model_v1.dat")))


def distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embeddings (N, 128) and (M, 128) -> (N, M)."""
    return np.asarray(np.linalg.norm(a[:, None] - b[None], axis=2), np.float32)


def _chip(photo: NDArray[np.uint8], landmarks: NDArray[np.floating]) -> NDArray[np.uint8]:
    """(150, 150, 3): the face upright, its eyes and mouth where the network expects them."""
    import dlib

    if landmarks.shape != (68, 2) or not np.isfinite(landmarks).all():
        raise DrigError(f"landmarks are {landmarks.shape}: give (68, 2) finite pixel coordinates")
    points = [dlib.point(round(x), round(y)) for x, y in landmarks.tolist()]
    height, width = photo.shape[:2]
    face = dlib.full_object_detection(dlib.rectangle(0, 0, width - 1, height - 1), points)
    return np.asarray(dlib.get_face_chip(np.ascontiguousarray(photo), face, _CHIP, _PADDING))
