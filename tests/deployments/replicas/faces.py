"""Faces as they travel, for tests that look at no face."""

import numpy as np

from deployments.messages import FoundFace
from drig.faces.head import load_head, neutral_codes


def found_face(head: str = "open", size: int = 32) -> FoundFace:
    """A neutral head in a portrait that is the top left of its photo."""
    codes = neutral_codes(load_head("open"))
    return FoundFace(
        image=np.zeros((size, size, 3), np.uint8),
        landmarks=np.zeros((68, 2), np.float32),
        codes={name: tensor.numpy() for name, tensor in codes.as_dict().items()},
        head=head,
        faces_found=1,
        warnings=(),
        to_portrait=np.eye(2, 3),
        corners=((0.0, 0.0), (size, 0.0), (size, size), (0.0, size)),
        photo_size=(2 * size, 2 * size),
        pose=(0.0, 0.0, 0.0),
        actions={},
    )
