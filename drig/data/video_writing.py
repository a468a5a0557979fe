"""Pictures -> an MP4 that every browser plays."""

import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from drig.errors import DrigError
from drig.pictures import Picture

SMALLEST = 256
"""Side in pixels that smaller frames are enlarged to: players draw tiny videos badly."""


def write_mp4(frames: Iterable[Picture], *, fps: float, size: int | None = None) -> bytes:
    """H.264 of frames (H, W, 3) uint8, all alike; their height becomes `size`, by default at least SMALLEST.

    Raises DrigError for no frames.
    """
    stream = None
    # The index goes to the front, so that players begin before they have all of it; FFmpeg moves it in a real file.
    with (
        tempfile.TemporaryDirectory() as folder,
        av.open(file := f"{folder}/video.mp4", "w", options={"movflags": "+faststart"}) as container,
    ):
        for frame in frames:
            if stream is None:
                height = size or max(SMALLEST, frame.shape[0])
                stream = container.add_stream(
                    "libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "16"}
                )
                stream.height = height // 2 * 2  # its colours are stored at half the size
                stream.width = round(height * frame.shape[1] / frame.shape[0]) // 2 * 2
                stream.pix_fmt = "yuv420p"
            picture = Image.fromarray(frame).resize((stream.width, stream.height), Image.Resampling.LANCZOS)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")))
        if stream is None:
            raise DrigError("a video of no frames cannot be written; give at least one")
        container.mux(stream.encode(None))
        container.close()
        return Path(file).read_bytes()
