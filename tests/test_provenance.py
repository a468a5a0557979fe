"""Marks are real: signed by C2PA's own library, read back by it, and broken by any change."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from drig.errors import DrigError
from drig.provenance import CHAIN, KEY, SOURCE_TYPE, Marker, own_folder, read_mark

PIXELS = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def marker(tmp_path_factory: pytest.TempPathFactory) -> Marker:
    return Marker(tmp_path_factory.mktemp("credentials"))


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    return buffer.getvalue()


def mp4() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
        stream.width = stream.height = 64
        for frame in (av.VideoFrame.from_ndarray(PIXELS, format="rgb24"), None):
            container.mux(stream.encode(frame))
    return buffer.getvalue()


@pytest.mark.parametrize(("content", "media_type"), [(png(), "image/png"), (mp4(), "video/mp4")])
def test_a_mark_says_what_was_done(marker: Marker, content: bytes, media_type: str) -> None:
    edit = {"changed": ["light", "pose"]}
    marked = marker.mark(content, media_type, edit)
    mark = read_mark(marked, media_type)
    assert mark is not None
    assert mark.intact
    assert (mark.made_by, mark.source_type, mark.edit) == ("drig", SOURCE_TYPE, edit)
    assert mark.signer == "drig on this machine"
    assert len(marked) - len(content) < 5_000
    assert read_mark(content, media_type) is None


def test_the_pixels_stay(marker: Marker) -> None:
    marked = marker.mark(png(), "image/png", {})
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(marked))), PIXELS)


def test_a_changed_picture_is_told(marker: Marker) -> None:
    marked = bytearray(marker.mark(png(), "image/png", {}))
    marked[bytes(marked).rindex(b"IDAT") + 100] ^= 1
    mark = read_mark(bytes(marked), "image/png")
    assert mark is not None
    assert not mark.intact


def test_the_machine_keeps_its_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    Marker()
    chain = (own_folder() / CHAIN).read_bytes()
    assert own_folder().is_relative_to(tmp_path)
    assert (own_folder() / KEY).stat().st_mode & 0o077 == 0
    Marker()
    assert (own_folder() / CHAIN).read_bytes() == chain


@pytest.mark.parametrize("damaged", [CHAIN, KEY])
def test_a_damaged_certificate_is_told(tmp_path: Path, damaged: str) -> None:
    Marker(tmp_path)
    (tmp_path / damaged).write_text("-----BEGIN NOTHING-----")
    with pytest.raises(DrigError, match="to sign with"):
        Marker(tmp_path)
