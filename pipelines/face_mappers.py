"""The two halves of buffer extraction, one batch at a time: photos -> portraits -> records of the buffer store.

Plain arrays in and out, weights in the constructor: they run in Ray Data's actors and, the same, without Ray. A photo
that cannot be used stays in the batch with a `reason`, so that every photo comes out as a record or as a reject. Where
the reason is not the photo's fault, such as an S3 that does not answer, it is an `outage`.

Legend: N photos, S side in pixels.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from drig import storage
from drig.data.photos import Photo, read_photo, split_frame_name, video_frame
from drig.data.records import encode, records_of
from drig.errors import DrigError, MissingFile, PhotoRejected
from drig.faces.buffers import Buffers, render_buffers
from drig.faces.codes import FaceCodes
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head
from drig.faces.landmarks import LandmarkDetector
from drig.faces.portraits import DETAIL, Portrait, find_portrait, trusted_portrait
from drig.patience import patiently

Batch = dict[str, NDArray[Any]]


class PortraitFinder:
    """`key`, `source` (N,) -> and `image` (N, S, S, 3), `seen` (N, D, D, 3) uint8, `landmarks` (N, 68, 2), `faces`,
    `reason`, `outage` (N,). `seen` is what the estimator is to see, where that is not `image`.

    A source is a photo's path or s3:// URI, or a frame of a video as `frame_names` names it.

    Args:
        size: S.
        aligned: the photos are FFHQ crops already.
        detect: False takes such crops at their word; their landmarks are then NaN.
        patience_s: how long to wait for a source that cannot be read now.
    """

    def __init__(self, size: int, aligned: bool = False, detect: bool = True, patience_s: float = 0.0) -> None:
        self.size = size
        self.aligned = aligned
        self.patience_s = patience_s
        self.detector = LandmarkDetector() if detect else None
        self._video = ("", b"")  # the one on S3 that was read last, since its frames follow each other

    def __call__(self, batch: Batch) -> Batch:
        found = [self._find(str(source)) for source in batch["source"]]
        portraits = [portrait for portrait, _, _ in found]
        seen = {"seen": np.stack([portrait.seen for portrait in portraits])} if self.size < DETAIL else {}
        return {
            **seen,
            "key": batch["key"],
            "source": batch["source"],
            "image": np.stack([portrait.image for portrait in portraits]),
            "landmarks": np.stack([portrait.landmarks for portrait in portraits]),
            "faces": np.array([portrait.faces_found for portrait in portraits]),
            "reason": np.array([reason for _, reason, _ in found], object),
            "outage": np.array([outage for _, _, outage in found]),
        }

    def _find(self, source: str) -> tuple[Portrait, str, bool]:
        """The portrait; or a black one, why there is none, and whether that may be otherwise in a minute.

        A vanished file is a reject.
        """
        try:
            photo = patiently(lambda: self._read(source), self.patience_s)
            if self.detector is None:
                return trusted_portrait(photo, self.size), "", False
            return find_portrait(photo, self.detector, self.size, aligned=self.aligned), "", False
        except DrigError as error:
            return self.nothing(str(error), outage=not isinstance(error, (MissingFile, PhotoRejected)))

    def nothing(self, reason: str, *, outage: bool = False) -> tuple[Portrait, str, bool]:
        """What `_find` gives where there is no portrait."""
        image, detail = (np.zeros((size, size, 3), np.uint8) for size in (self.size, max(self.size, DETAIL)))
        return Portrait(image, np.zeros((68, 2), np.float32), 0, detail=detail), reason, outage

    def _read(self, source: str) -> Photo:
        frame = split_frame_name(source)
        if frame is None:
            return read_photo(source)
        video, second = frame
        if not storage.is_s3(video):
            return video_frame(video, second)
        if self._video[0] != video:
            self._video = (video, storage.read_bytes(video))
        return video_frame(self._video[1], second)


class BufferRenderer:
    """What `PortraitFinder` gives -> `key`, `record` (N,) bytes (empty for rejects), `faces`, `reason`, `outage` (N,).

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
            codes, buffers = self._render(batch.get("seen", batch["image"])[usable], observed, images.shape[1])
            keys, sources = batch["key"][usable].tolist(), batch["source"][usable].tolist()
            for row, record in zip(usable, records_of(keys, images, observed, codes, buffers, sources), strict=True):
                try:
                    records[row] = encode(record)
                except ValueError as error:  # the record's own check: numbers that are not finite
                    reasons[row] = f"the head could not be fitted to the face: {error}"
        return {**{name: batch[name] for name in ("key", "faces", "outage")}, "record": records, "reason": reasons}

    def _render(
        self, images: NDArray[np.uint8], landmarks: NDArray[np.float32] | None, size: int
    ) -> tuple[FaceCodes, Buffers]:
        # Copies, because Ray's arrays are read-only views of shared memory.
        portraits = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).to(self.device) / 255  # (N, 3, D, D)
        points = None if landmarks is None else torch.from_numpy(landmarks.copy()).to(self.device)
        codes = self.estimator.fit(portraits, points)
        with torch.no_grad():
            return codes, render_buffers(self.head, codes, size)
