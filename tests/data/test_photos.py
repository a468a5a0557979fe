import errno
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from drig.data.photos import (
    frame_names,
    is_video,
    list_photos,
    read_photo,
    save_png,
    split_frame_name,
    to_network,
    to_photo,
    video_frame,
    video_frames,
    video_seconds,
)
from drig.errors import DrigError, PhotoRejected


def picture(height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    """A smooth picture that no flip or turn leaves alone."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 7, y * 9, (x + y) * 4], axis=-1).astype(np.uint8)


NOISE = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)  # long enough, encoded, to cut short


def encoded(array: NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_are_read_exactly(kind: str, options: dict[str, Any]) -> None:
    np.testing.assert_array_equal(read_photo(encoded(picture(), kind, **options)), picture())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_lossy_formats_are_read_closely(kind: str) -> None:
    difference = read_photo(encoded(picture(), kind, quality=95)).astype(int) - picture()
    assert np.abs(difference).mean() < 8


def test_the_format_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    (tmp_path / "really_a.png").write_bytes(encoded(picture(), "BMP"))
    np.testing.assert_array_equal(read_photo(tmp_path / "really_a.png"), picture())
    np.testing.assert_array_equal(read_photo(str(tmp_path / "really_a.png")), picture())


@pytest.mark.parametrize(
    ("orientation", "shown"),
    [
        (1, lambda p: p),
        (2, lambda p: p[:, ::-1]),
        (3, lambda p: p[::-1, ::-1]),
        (4, lambda p: p[::-1]),
        (5, lambda p: p.transpose(1, 0, 2)),
        (6, lambda p: np.rot90(p, -1)),
        (7, lambda p: p[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda p: np.rot90(p, 1)),
    ],
)
def test_photos_stand_upright(orientation: int, shown: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(read_photo(encoded(picture(), exif=exif)), shown(picture()))


def test_every_pixel_kind_becomes_8_bit_rgb() -> None:
    grey = picture()[..., 0]
    as_rgb = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_photo(encoded(grey)), as_rgb)
    np.testing.assert_array_equal(read_photo(encoded(grey.astype(np.uint16) * 257)), as_rgb)
    np.testing.assert_array_equal(read_photo(encoded(grey.astype(np.uint16) * 257, "TIFF")), as_rgb)
    buffer = io.BytesIO()
    Image.fromarray(as_rgb).quantize(256).save(buffer, "PNG")
    np.testing.assert_array_equal(read_photo(buffer.getvalue()), as_rgb)
    buffer = io.BytesIO()
    Image.fromarray(picture()).convert("CMYK").save(buffer, "JPEG", quality=100)
    assert np.abs(read_photo(buffer.getvalue()).astype(int) - picture()).mean() < 4


def test_what_is_transparent_shows_white() -> None:
    see_through = np.dstack([picture(), np.zeros((24, 32), np.uint8)])
    see_through[:12, :, 3] = 255
    for kind in ("PNG", "WEBP", "TIFF"):
        photo = read_photo(encoded(see_through, kind, **({"lossless": True} if kind == "WEBP" else {})))
        np.testing.assert_array_equal(photo[:12], picture()[:12])
        assert (photo[12:] == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], duration=100, **{"lossless": True})
    photo = read_photo(buffer.getvalue())
    assert photo.shape == (16, 16, 3)
    assert (photo == (255, 0, 0)).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"this is no photo, only a text file named .jpg", "not a photo"),
        (encoded(NOISE)[:-9000], "cut short PNG"),
        (encoded(NOISE, "JPEG")[:1500], "cut short JPEG"),
        (encoded(picture())[:20], "not a photo|cut short"),
        (png_header(40_000, 40_000), "megapixels"),
        (png_header(10_000, 9_000), "10000 x 9000 is larger than 89 megapixels"),
        (png_header(64, 64), "cut short PNG"),
        (encoded(np.zeros((4, 4), np.float32), "TIFF"), "32-bit"),
        (b"\0\0\0\x20ftypheic" + bytes(64), "HEIC is not supported; export the photo as JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a photo"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_file_that_is_no_usable_photo_is_rejected_with_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(PhotoRejected, match=reason):
        read_photo(content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.filterwarnings("ignore")
def test_damage_anywhere_gives_a_photo_or_a_reject(kind: str) -> None:
    content = encoded(picture(), kind)
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(content[: rng.integers(1, len(content) + 1)])
        for position in rng.integers(0, len(damaged), 3):
            damaged[position] = rng.integers(256)
        try:
            photo = read_photo(bytes(damaged))
        except PhotoRejected:
            continue
        assert photo.dtype == np.uint8
        assert photo.shape[2:] == (3,)


def test_a_path_without_a_file_is_the_users_to_fix(tmp_path: Path) -> None:
    with pytest.raises(DrigError, match=r"absent\.jpg does not exist") as raised:
        read_photo(tmp_path / "absent.jpg")
    assert not isinstance(raised.value, PhotoRejected)
    with pytest.raises(DrigError, match="cannot read"):
        read_photo(tmp_path)


def test_a_folder_lists_its_photos_in_order(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "phone.heic", "notes.txt", "._a.png", "deeper/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    here = [str(tmp_path / name) for name in ("a.png", "b.JPG", "phone.heic")]
    assert list_photos(tmp_path) == here
    assert sorted(list_photos(tmp_path, recursive=True)) == sorted([*here, str(tmp_path / "deeper" / "c.webp")])


def test_a_folder_without_photos_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DrigError, match="holds no photo"):
        list_photos(tmp_path)
    with pytest.raises(DrigError, match="does not exist"):
        list_photos(tmp_path / "absent")
    with pytest.raises(DrigError, match="is a file, not a folder"):
        list_photos(tmp_path / "notes.txt")


def write_video(path: Path) -> None:
    """4 s at 10 frames/s, 64 x 48: the left half brightens with time, the right half is black."""
    with av.open(str(path), "w") as video:
        stream = video.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(40):
            frame = np.zeros((48, 64, 3), np.uint8)
            frame[:, :32] = 5 * index + 30
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        video.mux(stream.encode(None))


def test_video_frames_are_spaced_in_time(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4")
    frames = list(video_frames(tmp_path / "v.mp4", every_s=0.5))
    np.testing.assert_allclose([time for time, _ in frames], np.arange(8) * 0.5, atol=1e-3)
    assert all(frame.shape == (48, 64, 3) and frame.dtype == np.uint8 for _, frame in frames)
    brightness = [float(frame[:, :24].mean()) for _, frame in frames]
    np.testing.assert_allclose(brightness, np.arange(8) * 25 + 30, atol=4)
    assert len(list(video_frames(tmp_path / "v.mp4", every_s=0.5, limit=3))) == 3


def test_a_phones_video_is_shown_upright(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4")
    content = bytearray((tmp_path / "v.mp4").read_bytes())
    # The track header's matrix, as a phone held upright writes it: x' = height - y, y' = x, a clockwise quarter turn.
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    start = content.index(b"tkhd") + 44
    content[start : start + 36] = matrix
    (tmp_path / "turned.mp4").write_bytes(content)
    [(_, frame)] = video_frames(tmp_path / "turned.mp4", limit=1)
    assert frame.shape == (64, 48, 3)
    assert frame[:24].mean() > 20 > frame[40:].mean()  # the left half of the sensor is the upper half of the picture


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])  # the latter does not say how long its pictures last
def test_a_frame_is_found_by_its_second(tmp_path: Path, name: str) -> None:
    write_video(tmp_path / name)
    assert video_seconds(tmp_path / name) == pytest.approx(4, abs=0.11)
    content = (tmp_path / name).read_bytes()
    assert video_seconds(content) == video_seconds(tmp_path / name)
    for second in (2.5, 0.0, 3.9):
        assert video_frame(content, second)[:, :24].mean() == pytest.approx(50 * second + 30, abs=4)
    with pytest.raises(PhotoRejected, match=r"no picture any more at 4\.200 s"):
        video_frame(content, 4.2)


def test_frames_have_names() -> None:
    names = frame_names("a#t=1/clip.MOV", 1.2, 0.5)
    assert names == [f"a#t=1/clip.MOV#t={second}" for second in ("0.000", "0.500", "1.000")]
    assert split_frame_name(names[1]) == ("a#t=1/clip.MOV", 0.5)
    assert split_frame_name("clip.mov#t=1.500/a.png") is None
    assert split_frame_name("photo.png#t=1.500") is None


def test_a_disk_that_does_not_answer_is_no_damaged_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "v.mp4")

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", lambda *_: Failing())
    with pytest.raises(DrigError, match="Input/output error") as raised:
        video_seconds(tmp_path / "v.mp4")
    assert not isinstance(raised.value, PhotoRejected)


def test_what_is_no_video_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DrigError, match="not a video"):
        list(video_frames(tmp_path / "text.mp4"))
    with pytest.raises(DrigError, match="does not exist"):
        list(video_frames(tmp_path / "absent.mp4"))
    assert is_video("me/clip.MOV")
    assert not is_video("me/clip.jpg")


def test_the_shared_clip_is_read(shared: Path) -> None:
    frames = list(video_frames(shared / "photos" / "clip.mp4", every_s=0.5))
    times = np.array([time for time, _ in frames])
    assert len(frames) >= 3
    assert (np.diff(times) >= 0.5 - 1e-3).all()
    assert len({frame.shape for _, frame in frames}) == 1
    assert all(frame.std() > 10 for _, frame in frames)


def test_a_saved_picture_is_read_back(tmp_path: Path) -> None:
    save_png(tmp_path / "new" / "folder" / "out.png", picture())
    np.testing.assert_array_equal(read_photo(tmp_path / "new" / "folder" / "out.png"), picture())
    assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == ["out.png"]
    (tmp_path / "file").touch()
    with pytest.raises(DrigError, match="cannot write"):
        save_png(tmp_path / "file" / "out.png", picture())


def test_photos_and_network_images_are_inverse_to_each_other() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    image = to_network(levels)
    assert image.shape == (3, 16, 16)
    assert [float(image.min()), float(image.max())] == [-1.0, 1.0]
    np.testing.assert_array_equal(to_photo(image), levels)
    assert to_network(np.stack([levels, levels])).shape == (2, 3, 16, 16)
    assert to_photo(torch.full((3, 2, 2), 7.0)).tolist() == np.full((2, 2, 3), 255).tolist()
