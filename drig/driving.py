"""A video drives a portrait: one photo, edited frame by frame to the light, expression or pose of somebody's video.

All frames share their start noise and the photo's global code, so that what does not change stays still (SPEC 6), and
the codes that are read from the video are smoothed over time: an estimator that looks at one frame at a time trembles.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

from drig.data.photos import Photo
from drig.editing import Editor
from drig.errors import DrigError, PhotoRejected
from drig.faces.codes import FaceCodes, transfer
from drig.faces.controls import Controls, apply_controls
from drig.pictures import Picture
from drig.reading import Face

MODES = ("light", "exp", "pose")
"""What a video can give; a global code that changed with every frame would flicker."""
SMOOTH_S = 0.05
"""Standard deviation of the smoothing over time in seconds: a frame or so, less than a blink."""
BATCH = 4
"""Frames that are sampled together."""


@dataclass(frozen=True)
class Drive:
    """What a video tells a portrait to do."""

    codes: FaceCodes
    """(T, ...) of each frame, smoothed."""
    unseen: int
    """Frames without a usable face; they have the codes of the nearest frame with one."""

    def __len__(self) -> int:
        return len(self.codes)


class DriveReader:
    """Finds and fits the faces of a video's frames, one after the other."""

    def __init__(self, editor: Editor) -> None:
        self._editor = editor
        self._found: dict[int, FaceCodes] = {}
        self._frames = 0

    def add(self, frame: Photo) -> None:
        """The next frame, (H, W, 3) uint8."""
        with suppress(PhotoRejected):  # a hand before the face, a turn away: its neighbours tell what to do
            self._found[self._frames] = self._editor.read(frame).codes
        self._frames += 1

    def drive(self, fps: float) -> Drive:
        """What the frames so far tell. Raises PhotoRejected where none of them shows a face."""
        if not self._found:
            raise PhotoRejected(f"none of the {self._frames} frames of the video shows a face that can be found")
        seen = np.array(sorted(self._found))
        nearest = seen[np.abs(np.arange(self._frames)[:, None] - seen).argmin(1)]
        codes = FaceCodes.cat([self._found[i] for i in nearest])
        return Drive(smooth(codes, fps), self._frames - len(self._found))


def smooth(codes: FaceCodes, fps: float) -> FaceCodes:
    """Codes (T, ...) of a video's frames, each number smoothed over time; its ends are held."""
    sigma = SMOOTH_S * fps
    # Rotations as axis-angle: neighbours are near, and heads do not turn by half a circle.
    return FaceCodes.from_dict(
        {
            name: torch.from_numpy(gaussian_filter1d(value.cpu().numpy(), sigma, axis=0, mode="nearest"))
            for name, value in codes.as_dict().items()
        }
    )


@torch.no_grad()
def edit_frames(
    editor: Editor,
    source: Face,
    drive: Drive,
    *,
    modes: Collection[str] = MODES,
    controls: Controls | None = None,
    steps: int | None = None,
    sampler: str = "ddim",
    seed: int = 0,
) -> Iterator[Picture]:
    """The frames (S, S, 3) uint8 of the edited portrait, as many as the drive has.

    Arguments are those of `Editor.edit`; controls hold for every frame. Raises DrigError for other modes.
    """
    if not modes or set(modes) - set(MODES):
        raise DrigError(f"modes {', '.join(modes) or 'none'}: a video gives any of {', '.join(MODES)}")
    editor, source = editor.meeting(source)
    for start in range(0, len(drive), BATCH):
        targets = drive.codes[slice(start, start + BATCH)]
        sources = FaceCodes.cat([source.codes] * len(targets))
        codes = transfer(sources, editor.own(targets), modes)
        if controls:
            codes = apply_controls(codes, controls, editor.expression_names)
        buffers = editor.buffers(sources, codes).stacked()  # (B, 9, S, S)
        portraits = [source.portrait.image] * len(targets)
        yield from editor.sample(buffers, portraits, steps=steps, sampler=sampler, seed=seed)
