"""What may be uploaded: PNG, JPEG, WebP and MP4, told by content, of bounded size, before anything is decoded."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import av
from PIL import Image, ImageOps

from drig.errors import DrigError

PHOTOS = ("PNG", "JPEG", "WEBP")
_MP4_BRANDS = {b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ", b"dash", b"MSNV"}
PROBE_BYTES = 1_000_000
"""How much of a video FFmpeg may look at to tell what is in it."""


class UnsupportedUpload(DrigError):
    """Of a kind that is not taken, HTTP 415."""


class TooLargeUpload(DrigError):
    """Over a limit, HTTP 413."""


@dataclass(frozen=True, kw_only=True)
class UploadLimits:
    """Of one file."""

    pixels: int = 40_000_000
    """Of a photo, or of one frame of a video."""
    frames: int = 1_000
    """Of a video."""
    seconds: float = 120.0
    """Of a video."""

    def check_photo(self, what: str, content: bytes) -> None:
        """Raise UnsupportedUpload for anything but PNG, JPEG and WebP, TooLargeUpload for one over the limit."""
        with _photo_errors(what):
            width, height = Image.open(io.BytesIO(content), formats=PHOTOS).size
        if width * height > self.pixels:
            raise TooLargeUpload(
                f"{what} is {width} x {height} pixels; allowed are {self.pixels / 1e6:g} megapixels. Make it smaller."
            )

    def check_video(self, what: str, content: bytes) -> float:
        """Seconds of an MP4. Raises UnsupportedUpload for anything else, TooLargeUpload for one over the limits.

        Counts what the container says; who decodes stops at `frames` all the same.
        """
        if not (content[4:8] == b"ftyp" and content[8:12] in _MP4_BRANDS):
            raise UnsupportedUpload(f"{what} is no MP4; send a video as MP4")
        try:
            with av.open(io.BytesIO(content), "r", format="mp4", options={"probesize": str(PROBE_BYTES)}) as container:
                if not container.streams.video:
                    raise UnsupportedUpload(f"{what} holds no pictures; send a video of a face")
                stream = container.streams.video[0]
                pixels, rate = stream.width * stream.height, float(stream.average_rate or 25)
                seconds = float((container.duration or 0) / av.time_base)
                frames = stream.frames or math.ceil(seconds * rate)
        except av.FFmpegError as error:
            raise UnsupportedUpload(f"{what} cannot be read as MP4 ({error.strerror}); export it again") from None
        if pixels > self.pixels:
            raise TooLargeUpload(f"{what} has frames of {pixels:,} pixels; allowed are {self.pixels:,}")
        if frames > self.frames or seconds > self.seconds:
            raise TooLargeUpload(
                f"{what} has {frames:,} frames in {seconds:.0f} s; allowed are {self.frames:,} frames and "
                f"{self.seconds:g} s. Cut it."
            )
        return seconds


def without_metadata(what: str, content: bytes) -> bytes:
    """A checked photo's pixels alone, upright, as a JPEG: no place, no camera, no comment, no thumbnail.

    Raises UnsupportedUpload for a damaged one.
    """
    with _photo_errors(what):
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(content), formats=PHOTOS))
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        bare = Image.new("RGB", picture.size)
        bare.paste(picture.convert("RGB"))
        buffer = io.BytesIO()
        bare.save(buffer, "JPEG", quality=95, subsampling=0)
        return buffer.getvalue()


@contextmanager
def _photo_errors(what: str) -> Iterator[None]:
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLargeUpload(f"{what} has too many pixels ({error})") from None
    except Exception as error:  # Pillow's parsers raise anything from struct.error to IndexError on damaged files
        allowed = ", ".join(PHOTOS)
        raise UnsupportedUpload(f"{what} is no photo that can be read; allowed are {allowed}") from error
