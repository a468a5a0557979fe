"""What may be uploaded, by content."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from deployments.access.uploads import TooLargeUpload, UnsupportedUpload, UploadLimits

LIMITS = UploadLimits(pixels=64 * 48, frames=5, seconds=3.0)


def photo(kind: str, size: tuple[int, int] = (64, 48)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "teal").save(buffer, kind)
    return buffer.getvalue()


def video(frames: int, *, rate: int = 5, kind: str = "mp4", size: tuple[int, int] = (64, 48)) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        stream.width, stream.height = size
        picture = av.VideoFrame.from_ndarray(np.zeros((size[1], size[0], 3), np.uint8), format="rgb24")
        for frame in (*[picture] * frames, None):
            container.mux(stream.encode(frame))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_photos(kind: str) -> None:
    LIMITS.check_photo("source", photo(kind))
    with pytest.raises(TooLargeUpload, match=r"source is 64 x 49 pixels"):
        LIMITS.check_photo("source", photo(kind, (64, 49)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        photo("PNG")[:20],
        photo("GIF"),
        photo("BMP"),
        photo("TIFF"),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        video(2),
    ],
    ids=["empty", "text", "cut", "gif", "bmp", "tiff", "svg", "mp4"],
)
def test_no_photos(content: bytes) -> None:
    with pytest.raises(UnsupportedUpload, match="source is no photo"):
        LIMITS.check_photo("source", content)


def test_a_photo_that_says_it_is_huge() -> None:
    bomb = bytearray(photo("PNG"))
    bomb[16:24] = (60_000).to_bytes(4) * 2  # width and height in the header; nothing of it is decoded
    with pytest.raises((TooLargeUpload, UnsupportedUpload)):
        UploadLimits().check_photo("source", bytes(bomb))


def test_videos() -> None:
    assert LIMITS.check_video("driving", video(5)) == pytest.approx(1.0)
    for content, match in (
        (video(6), "6 frames"),
        (video(4, rate=1), "4 s"),
        (video(2, size=(64, 64)), "4,096 pixels"),
    ):
        with pytest.raises(TooLargeUpload, match=match):
            LIMITS.check_video("driving", content)


@pytest.mark.parametrize(
    "content",
    [b"", photo("PNG"), video(2, kind="avi"), video(2)[:40], b"\0\0\0\x18ftypisom" + bytes(100)],
    ids=["empty", "png", "avi", "cut", "made-up"],
)
def test_no_videos(content: bytes) -> None:
    with pytest.raises(UnsupportedUpload, match="driving"):
        LIMITS.check_video("driving", content)
