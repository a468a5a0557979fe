"""Landmarks as a detector would find them, without one: the true ones, off as they were found to be on a like pose.

So the recipe needs neither dlib's predictor, which is 100 MB and not for commercial use, nor the time that it takes,
and the estimator is as wrong about the portraits as it will be about photos.

Legend: B portraits in the bank, N portraits.
"""

import io
from importlib.resources import files
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from drig import storage
from drig.data.photos import read_photo
from drig.data.synthetic import read_truth
from drig.errors import PhotoRejected
from drig.faces.landmarks import LandmarkDetector
from drig.faces.portraits import find_portrait

NEIGHBOURS = 8
"""Portraits of the bank with the most similar pose, of which one gives its errors."""
ASSET = "assets/landmark_errors.npz"

Floats = NDArray[np.float32]


class DetectorErrors:
    """A bank of portraits' head rotations (B, 3), axis-angle, and of the detector's errors on them (B, 68, 2), NDC."""

    def __init__(self, rotations: Floats, errors: Floats) -> None:
        self.rotations, self.errors = rotations, errors

    @classmethod
    def load(cls) -> Self:
        """The shipped bank."""
        with np.load(io.BytesIO((files("drig.training.base") / ASSET).read_bytes())) as arrays:
            return cls(arrays["rotations"].astype(np.float32), arrays["errors"].astype(np.float32))

    @classmethod
    def measure(cls, portraits: list[Path]) -> Self:
        """Of the portraits of `drig synth`, by `LandmarkDetector`; those where it finds no face are left out."""
        detector, rotations, errors = LandmarkDetector(), [], []
        for path in portraits:
            codes, truth = read_truth(path)
            try:
                found = find_portrait(read_photo(path), detector, 256, aligned=True).landmarks
            except PhotoRejected:
                continue
            rotations.append(codes.pose[0, :3].numpy())
            errors.append(found - truth.numpy())
        return cls(np.array(rotations, np.float32), np.array(errors, np.float32))

    def save(self, path: Path) -> None:
        """Writes what `load` reads, in half precision."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, rotations=self.rotations.astype(np.float16), errors=self.errors.astype(np.float16))
        storage.write_bytes(path, buffer.getvalue())

    def detect(self, landmarks: Floats, rotation: torch.Tensor, rng: np.random.Generator) -> Floats:
        """True landmarks (68, 2) of a head with that rotation (3,) -> as they might be found."""
        distance = np.square(self.rotations - rotation.numpy()).sum(1)
        alike = np.argpartition(distance, NEIGHBOURS)[:NEIGHBOURS]
        found: Floats = landmarks.astype(np.float32) + self.errors[rng.choice(alike)]
        return found
