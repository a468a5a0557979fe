"""The two halves of buffer extraction, one batch at a time: photos -> portraits -> records of the buffer store.

Plain arrays in and out, weights in the constructor: they run in Ray Data's actors and, the same, without Ray. A photo
that cannot be used stays in the batch with a `reason`, so that every photo comes out as a record or as a reject.

Legend: N photos, S side in pixels.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from drig.data.photos import read_photo
from drig.data.records import encode, records_of
from drig.errors import DrigError
from drig.faces.buffers import Buffers, render_buffers
from drig.faces.codes import FaceCodes
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head
from drig.faces.landmarks import LandmarkDetector
from drig.faces.portraits import Portrait, find_portrait, trusted_portrait

Batch = dict[str, NDArray[Any]]


class PortraitFinder:
    """`key`, `source` (N,) -> also `image` (N, S, S, 3) uint8, `landmarks` (N, 68, 2), `faces`, `reason` (N,).

    Args:
        size: S.
        aligned: the photos are FFHQ crops already.
        detect: False takes such crops at their word; their landmarks are then NaN.
    """

    def __init__(self, size: int, aligned: bool = False, detect: bool = True) -> None:
        self.size = size
        self.aligned = aligned
        self.detector = LandmarkDetector() if detect else None

    def __call__(self, batch: Batch) -> Batch:
        found = [self._find(str(source)) for source in batch["source"]]
        portraits = [portrait for portrait, _ in found]
        return {
            "key": batch["key"],
            "source": batch["source"],
            "image": np.stack([portrait.image for portrait in portraits]),
            "landmarks": np.stack([portrait.landmarks for portrait in portraits]),
            "faces": np.array([portrait.faces_found for portrait in portraits]),
            "reason": np.array([reason for _, reason in found], object),
        }

    def _find(self, source: str) -> tuple[Portrait, str]:
        """The portrait, or a black one and the reason why there is none. A vanished file is a reject as well."""
        try:
            photo = read_photo(source)
            if self.detector is None:
                return trusted_portrait(photo, self.size), ""
            return find_portrait(photo, self.detector, self.size, aligned=self.aligned), ""
        except DrigError as error:
            image = np.zeros((self.size, self.size, 3), np.uint8)
            return Portrait(image, np.zeros((68, 2), np.float32), 0), str(error)


class BufferRenderer:
    """What `PortraitFinder` gives -> `key`, `record` (N,) bytes (empty for rejects), `faces`, `reason` (N,).

    Args:
        head, head_folder, estimator: as `load_head` and `load_estimator` take them.
        device: where codes are estimated and buffers rendered; None = the GPU that this process was given, if any.
    """

    def __init__(self, head: str, head_folder: Path | None, estimator: str, *, device: str | None = None) -> None:
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.head = load_head(head, head_folder).to(self.device)
        self.estimator = load_estimator(estimator, self.head)

    def __call__(self, batch: Batch) -> Batch:
        reasons = batch["reason"].copy()
        records = np.full(len(reasons), b"", object)
        usable = np.flatnonzero(reasons == "")
        if len(usable):
            images, landmarks = batch["image"][usable], batch["landmarks"][usable]
            observed = None if np.isnan(landmarks).any() else landmarks  # a run finds all faces, or none
            codes, buffers = self._render(images, observed)
            keys, sources = batch["key"][usable].tolist(), batch["source"][usable].tolist()
            for row, record in zip(usable, records_of(keys, images, observed, codes, buffers, sources), strict=True):
                try:
                    records[row] = encode(record)
                except ValueError as error:  # the record's own check: numbers that are not finite
                    reasons[row] = f"the head could not be fitted to the face: {error}"
        return {"key": batch["key"], "record": records, "faces": batch["faces"], "reason": reasons}

    def _render(self, images: NDArray[np.uint8], landmarks: NDArray[np.float32] | None) -> tuple[FaceCodes, Buffers]:
        # Copies, because Ray's arrays are read-only views of shared memory.
        portraits = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).to(self.device) / 255  # (N, 3, S, S)
        points = None if landmarks is None else torch.from_numpy(landmarks.copy()).to(self.device)
        codes = self.estimator.fit(portraits, points)
        with torch.no_grad():
            return codes, render_buffers(self.head, codes, images.shape[1])
