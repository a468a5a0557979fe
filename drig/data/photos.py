"""Photos and videos of unknown origin in, RGB arrays out; pictures written whole or not at all.

A photo is (H, W, 3) uint8 sRGB; the network's form of it is (3, H, W) float32 in [-1, 1] (SPEC 2).
"""

import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from drig import storage
from drig.errors import DrigError, MissingFile, PhotoRejected

Photo = NDArray[np.uint8]  # (H, W, 3)

MAX_PIXELS = 89_000_000  # just under Pillow's own warning; a decoded photo then takes at most 267 MB
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # told by content, never by name
# HEIC is listed though it cannot be read, so that a phone's photos become rejects with a reason instead of vanishing.
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif")
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")
_FRAME = re.compile(r"(.*)#t=(\d+\.\d{3})", re.DOTALL)  # as the W3C's Media Fragments name a moment of a video


def read_photo(source: str | Path | bytes) -> Photo:
    """Decode a photo: (H, W, 3) uint8 RGB, upright, first frame, transparency over white.

    `source` is a local path, an s3:// URI or the file's bytes. A path where there is no file raises DrigError; a file
    that is no usable photo raises PhotoRejected. The size is checked before any pixel is decoded.
    """
    content = source if isinstance(source, bytes) else storage.read_bytes(source)
    if not content:
        raise PhotoRejected("the file is empty")
    if content[4:8] == b"ftyp":  # the ISO media box of HEIC and AVIF
        raise PhotoRejected(f"{content[8:12].decode('latin1').upper()} is not supported; export the photo as JPEG")
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PhotoRejected(f"larger than {MAX_PIXELS / 1e6:.0f} megapixels") from error
    except Exception as error:  # Pillow's parsers raise anything from struct.error to IndexError on damaged headers
        raise PhotoRejected(f"not a photo that can be read; allowed are {', '.join(FORMATS)}") from error
    if picture.width * picture.height > MAX_PIXELS:
        raise PhotoRejected(f"{picture.width} x {picture.height} is larger than {MAX_PIXELS / 1e6:.0f} megapixels")
    try:
        return _upright_rgb(picture)
    except PhotoRejected:
        raise
    except Exception as error:  # as above, for damaged pixels
        raise PhotoRejected(f"damaged or cut short {picture.format} file: {error}") from error


def _upright_rgb(picture: Image.Image) -> Photo:
    picture.load()
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):  # 16-bit grey; Pillow's own conversion clips instead of scaling
        grey = np.rint(np.asarray(picture).astype(np.float32) / 257.0).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise PhotoRejected("32-bit pixels have no agreed range; save the photo as 8-bit JPEG or PNG")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.array(picture.convert("RGB"))


def list_photos(folder: str | Path, *, recursive: bool = False, videos: bool = False) -> list[str]:
    """Paths or URIs of the photos in a folder, and of the videos if wanted, by suffix, sorted; no hidden files.

    Raises DrigError for a missing folder or one without a photo.
    """
    suffixes = (*PHOTO_SUFFIXES, *VIDEO_SUFFIXES) if videos else PHOTO_SUFFIXES
    files = storage.list_files(folder, recursive=recursive)
    photos = [f for f in files if Path(f).suffix.lower() in suffixes and not Path(f).name.startswith(".")]
    if not photos:
        what = "photo and no video" if videos else "photo"
        hint = "" if recursive else " (subfolders are not searched)"
        raise DrigError(f"{folder} holds no {what}{hint}; allowed are {', '.join(suffixes)}.")
    return photos


def is_video(path: str | Path) -> bool:
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def video_seconds(source: str | Path | bytes) -> float:
    """From a video's first picture to the end of its last, counted where the file does not say.

    Raises as `video_frames` does.
    """
    with _video(source) as video:
        stream = video.streams.video[0]
        if stream.duration:
            return float(stream.duration * (stream.time_base or 0))
        packets = [packet for packet in video.demux(stream) if packet.pts is not None]
        ends = [float(((packet.pts or 0) + (packet.duration or 0)) * packet.time_base) for packet in packets]
        return max(ends, default=0.0) - _first_second(stream)


def video_frames(
    source: str | Path | bytes, *, every_s: float = 0.5, limit: int | None = None
) -> Iterator[tuple[float, Photo]]:
    """Upright frames of a video, at least `every_s` seconds apart: (time in seconds, (H, W, 3) uint8 RGB).

    Stops after `limit` frames; None = the whole video. A path where there is no file raises MissingFile; a file that is
    no video raises PhotoRejected.
    """
    with _video(source) as video:
        stream = video.streams.video[0]
        stream.thread_type = "AUTO"
        found, next_time = 0, 0.0
        for frame in video.decode(stream):
            time = float(frame.time or 0.0)
            if time + 1e-6 < next_time:
                continue
            if limit is not None and found >= limit:
                return
            yield time, _upright_frame(frame)
            found, next_time = found + 1, time + every_s


def video_rate(source: str | Path | bytes) -> float:
    """Frames a second, on average; 25 where a video does not say. Raises as `video_frames` does."""
    with _video(source) as video:
        return float(video.streams.video[0].average_rate or 25)


def steady_frames(source: str | Path | bytes, fps: float, *, limit: int | None = None) -> Iterator[Photo]:
    """Upright frames (H, W, 3) uint8, `fps` of them a second, however the video counts: each is what is shown then.

    Stops after `limit` frames; None = the whole video. Raises as `video_frames` does.
    """
    shown, count, first = None, 0, None
    for time, frame in video_frames(source, every_s=0.0):
        first = time if first is None else first
        while shown is not None and count / fps < time - first - 1e-6:
            if count == limit:
                return
            yield shown
            count += 1
        shown = frame
    if shown is not None and count != limit:
        yield shown


def video_frame(source: str | Path | bytes, second: float) -> Photo:
    """The upright frame at a time after the first one, (H, W, 3) uint8 RGB. Raises as `video_frames` does.

    It is decoded from the key frame before it, whatever was read before: the same pixels every time.
    """
    with _video(source) as video:
        stream = video.streams.video[0]
        first = _first_second(stream)
        if second > 0:
            video.seek(round((first + second) * av.time_base))
        for frame in video.decode(stream):
            if float(frame.time or 0.0) - first >= second - 1e-3:  # names of frames are in milliseconds
                return _upright_frame(frame)
    raise PhotoRejected(f"the video has no picture any more at {second:.3f} s")


def frame_names(video: str, seconds: float, every_s: float) -> list[str]:
    """Names for the frames of a video of this length, one every so many seconds: `clip.mp4#t=0.500`."""
    count = max(1, math.ceil(seconds / every_s - 1e-6))
    return [f"{video}#t={i * every_s:.3f}" for i in range(count)]


def split_frame_name(name: str) -> tuple[str, float] | None:
    """The video and the second that a name from `frame_names` stands for; None if it is a photo's."""
    match = _FRAME.fullmatch(name)
    return (match[1], float(match[2])) if match and is_video(match[1]) else None


def _first_second(stream: av.VideoStream) -> float:
    return float((stream.start_time or 0) * (stream.time_base or 0))


def _upright_frame(frame: av.VideoFrame) -> Photo:
    # Phones store frames as the sensor lies and the angle (counter-clockwise) beside them.
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))


@contextmanager
def _video(source: str | Path | bytes) -> Iterator[av.container.InputContainer]:
    name = "the file" if isinstance(source, bytes) else str(source)
    try:
        # Opened here and not by FFmpeg, whose errors do not tell a damaged file from a disk that does not answer.
        with _stream(source) as file, av.open(file, "r") as video:
            if not video.streams.video:
                raise PhotoRejected(f"{name} holds no pictures; give a video file.")
            yield video
    except av.FFmpegError as error:
        raise PhotoRejected(f"{name} is not a video that can be read: {error}") from error
    except FileNotFoundError as error:
        raise MissingFile(f"{name} does not exist; check the path.") from error
    except OSError as error:
        raise DrigError(f"cannot read {name}: {error.strerror or error}.") from error


def _stream(source: str | Path | bytes) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return io.BytesIO(storage.read_bytes(source)) if storage.is_s3(source) else Path(source).open("rb")


def save_png(path: str | Path, picture: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) RGB or (H, W) grey uint8 as PNG, whole or not at all; missing folders are made.

    `path` may be an s3:// URI. Raises DrigError where it cannot be written.
    """
    storage.write_bytes(path, encode_png(picture))


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) RGB or (H, W) grey uint8 -> PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def to_network(photos: NDArray[np.uint8]) -> torch.Tensor:
    """(..., H, W, 3) uint8 -> (..., 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.moveaxis(photos, -1, -3).astype(np.float32) / 127.5 - 1.0)


def to_photo(images: torch.Tensor) -> NDArray[np.uint8]:
    """(..., 3, H, W) float in [-1, 1], clipped -> (..., H, W, 3) uint8; the inverse of `to_network`."""
    levels = ((images.detach().float().clamp(-1, 1) + 1.0) * 127.5).round().to(torch.uint8)
    return np.ascontiguousarray(np.moveaxis(levels.cpu().numpy(), -3, -1))
