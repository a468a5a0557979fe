"""Photos and videos of unknown origin in, RGB arrays out; pictures written whole or not at all.

A photo is (H, W, 3) uint8 sRGB; the network's form of it is (3, H, W) float32 in [-1, 1] (SPEC 2).
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from drig import storage
from drig.errors import DrigError, PhotoRejected

Photo = NDArray[np.uint8]  # (H, W, 3)

MAX_PIXELS = 89_000_000  # just under Pillow's own warning; a decoded photo then takes at most 267 MB
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # told by content, never by name
# HEIC is listed though it cannot be read, so that a phone's photos become rejects with a reason instead of vanishing.
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif")
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")


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


def list_photos(folder: str | Path, *, recursive: bool = False) -> list[str]:
    """Paths or URIs of the photos in a folder, by suffix, sorted; hidden files are left out.

    Raises DrigError for a missing folder or one without a photo.
    """
    files = storage.list_files(folder, recursive=recursive)
    photos = [f for f in files if Path(f).suffix.lower() in PHOTO_SUFFIXES and not Path(f).name.startswith(".")]
    if not photos:
        hint = "" if recursive else " (subfolders are not searched)"
        raise DrigError(f"{folder} holds no photo{hint}; allowed are {', '.join(PHOTO_SUFFIXES)}.")
    return photos


def is_video(path: str | Path) -> bool:
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def video_seconds(path: str | Path) -> float:
    """Length of a video; 0 where the file does not say. Raises DrigError as `video_frames` does."""
    with _video(path) as video:
        return float((video.duration or 0) / av.time_base)


def video_frames(path: str | Path, *, every_s: float = 0.5, limit: int | None = None) -> Iterator[tuple[float, Photo]]:
    """Upright frames of a video, at least `every_s` seconds apart: (time in seconds, (H, W, 3) uint8 RGB).

    Stops after `limit` frames; None = the whole video. Raises DrigError if the file is missing or no video.
    """
    with _video(path) as video:
        stream = video.streams.video[0]
        stream.thread_type = "AUTO"
        found, next_time = 0, 0.0
        for frame in video.decode(stream):
            time = float(frame.time or 0.0)
            if time + 1e-6 < next_time:
                continue
            if limit is not None and found >= limit:
                return
            # Phones store frames as the sensor lies and the angle (counter-clockwise) beside them.
            yield time, np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
            found, next_time = found + 1, time + every_s


@contextmanager
def _video(path: str | Path) -> Iterator[av.container.InputContainer]:
    opened = io.BytesIO(storage.read_bytes(path)) if storage.is_s3(path) else str(path)
    try:
        with av.open(opened, "r") as video:
            if not video.streams.video:
                raise DrigError(f"{path} holds no pictures; give a video file.")
            yield video
    except FileNotFoundError as error:
        raise DrigError(f"{path} does not exist; check the path.") from error
    except (av.FFmpegError, OSError) as error:
        raise DrigError(f"{path} is not a video that can be read: {error}") from error


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
