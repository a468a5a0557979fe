import contextlib
import dataclasses
import json
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy
import torch
from numpy.typing import NDArray

from drig.data.items import unpacked
from drig.data.photos import to_network
from drig.data.records import STEPS, Record, decode, decode_packed, encode
from drig.errors import DrigError


def ball(size: int = 48, *, key: str = "ada/01.jpg", seed: int = 0) -> Record:
    """A shaded ball in place of a head: smooth normals, a patterned albedo, a noisy portrait."""
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    y, x = (np.mgrid[:size, :size] + 0.5) / size * 2 - 1
    y, x = y + 0.1, (x - 0.05) * 1.2
    alpha = x**2 + y**2 < 0.7
    z = np.sqrt(np.maximum(0, 0.7 - x**2 - y**2))
    normal = (np.stack([x, -y, z]) / np.sqrt(0.7) * alpha).astype(np.float32)
    pattern = np.stack([0.7 + 0.2 * np.sin(9 * x), 0.5 + 0.2 * np.sin(7 * y), 0.4 + 0.1 * np.sin(5 * x * y)])
    light = rng.normal(0, 0.4, (9, 3))
    light[0] += 2.6
    codes = {"light": light, "shape": rng.normal(size=7), "pose": rng.normal(size=6), "crop": rng.normal(size=(2, 3))}
    return Record(
        key=key,
        image=rng.integers(0, 256, (size, size, 3), np.uint8),
        normal=normal,
        albedo=(pattern * alpha).astype(np.float32),
        alpha=alpha,
        codes={name: code.astype(np.float32) for name, code in codes.items()},
        landmarks=rng.uniform(-1, 1, (68, 2)).astype(np.float32),
        source="photos/" + key,
    )


def decibels(error: NDArray[Any]) -> float:
    return float(-10 * np.log10((error**2).mean()))


def test_what_was_put_in_comes_out() -> None:
    record = ball()
    read = decode(encode(record))
    assert (read.key, read.source, read.size) == (record.key, record.source, 48)
    np.testing.assert_array_equal(read.image, record.image)
    np.testing.assert_array_equal(read.alpha, record.alpha)
    np.testing.assert_array_equal(read.landmarks, record.landmarks)
    assert set(read.codes) == set(record.codes)
    for name, code in record.codes.items():
        np.testing.assert_array_equal(read.codes[name], code)


def test_landmarks_may_be_unknown() -> None:
    content = encode(dataclasses.replace(ball(), landmarks=None))
    assert decode(content).landmarks is None
    assert "landmarks" not in safetensors.numpy.load(content)
    known = decode_packed(encode(ball()))
    assert all(torch.equal(tensor, known[name]) for name, tensor in decode_packed(content).items())


def test_buffers_are_within_half_a_step_and_the_rendered_one_within_50_db() -> None:
    record = ball(128)
    read = decode(encode(record))
    assert np.abs(read.normal - record.normal).max() <= 0.5 / 127 + 1e-6
    assert np.abs(read.albedo - record.albedo).max() <= 0.5 / 127 + 1e-6
    assert decibels((read.rendered - record.rendered)[:, record.alpha]) > 50


def test_every_buffer_is_zero_outside_the_face() -> None:
    record = ball()
    stray = dataclasses.replace(record, normal=record.normal + 0.5, albedo=record.albedo + 0.1)
    read = decode(encode(stray))
    for buffer in (read.normal, read.albedo, read.rendered):
        assert not buffer[:, ~record.alpha].any()
        assert buffer[:, record.alpha].any()


def test_the_network_gets_the_same_numbers() -> None:
    records = [decode(encode(ball(key=key))) for key in "ab"]
    items = [decode_packed(encode(record)) for record in records]
    batch = unpacked({name: torch.stack([item[name] for item in items]) for name in items[0]})
    for record, image, buffers in zip(records, batch["image"], batch["buffers"], strict=True):
        np.testing.assert_array_equal(image.numpy(), to_network(record.image).numpy())
        np.testing.assert_allclose(buffers[:3].numpy(), record.rendered, atol=1e-6)
        np.testing.assert_array_equal(buffers[3:].numpy(), np.concatenate([record.normal, record.albedo]))


def test_a_face_at_the_edges_and_no_face_at_all_survive() -> None:
    record = ball()
    for alpha in (np.ones_like(record.alpha), np.zeros_like(record.alpha), np.eye(48, dtype=np.bool_)):
        read = decode(encode(dataclasses.replace(record, alpha=alpha)))
        np.testing.assert_array_equal(read.alpha, alpha)
        item = decode_packed(encode(read))
        np.testing.assert_array_equal(item["normal"].numpy() / STEPS, read.normal)
        np.testing.assert_array_equal(item["albedo"].numpy() / STEPS, read.albedo)


def test_colours_beyond_the_range_are_clipped() -> None:
    record = ball()
    bright = dataclasses.replace(record, albedo=record.albedo * 3)
    np.testing.assert_allclose(decode(encode(bright)).albedo, np.clip(bright.albedo, 0, 1), atol=0.5 / 127 + 1e-6)


def by_hand(record: Record) -> bytes:
    """The record as docs/buffer-store.md describes it, without a line of the code under test."""

    def plane_frame(planes: list[NDArray[np.uint8]]) -> bytes:
        height, width = planes[0].shape
        bits = np.zeros((8, len(planes), -(-height // 8), -(-width // 8) * 8), int)
        for k, plane in enumerate(planes):
            for row in range(height):
                for column in range(width):
                    above = int(plane[row - 1, column]) if row else 0
                    difference = (int(plane[row, column]) - above + 128) % 256 - 128
                    value = 2 * difference if difference >= 0 else -2 * difference - 1
                    for bit in range(8):
                        bits[bit, k, row // 8, column] += (value >> bit) % 2 << row % 8
        return bytes(pa.Codec("lz4_raw", 6).compress(bytes(bits.ravel().tolist())))

    def less_green(red: Any, green: Any, blue: Any) -> list[NDArray[np.uint8]]:
        r, g, b = (channel.astype(int) for channel in (red, green, blue))
        return [((r - g) % 256).astype(np.uint8), g.astype(np.uint8), ((b - g) % 256).astype(np.uint8)]

    def smeared(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        plane = plane.copy()
        for column in range(plane.shape[1]):
            inside = np.flatnonzero(alpha[:, column])
            if len(inside):
                for row in np.flatnonzero(alpha[:, column] == 0):
                    above = inside[inside < row]
                    plane[row, column] = plane[above[-1] if len(above) else inside[0], column]
        return plane

    assert record.landmarks is not None
    rows, columns = np.nonzero(record.alpha)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    alpha = record.alpha[top:bottom, left:right].astype(np.uint8)
    normal = [(np.rint(n[top:bottom, left:right] * 127).astype(int) % 256).astype(np.uint8) for n in record.normal]
    albedo = [np.rint(a[top:bottom, left:right] * np.float32(127)).astype(np.uint8) for a in record.albedo]
    parts: list[tuple[str, str, list[int], bytes]] = [
        *((f"codes.{n}", "F32", list(c.shape), c.tobytes()) for n, c in sorted(record.codes.items())),
        ("landmarks", "F32", [68, 2], record.landmarks.tobytes()),
        ("box", "I32", [4], np.array([top, left, bottom - top, right - left], "<i4").tobytes()),
    ]
    for name, planes in (
        ("buffers", [*map(smeared, [*normal, *less_green(*albedo)]), alpha]),
        ("image", less_green(*np.moveaxis(record.image, 2, 0))),
    ):
        frame = plane_frame(planes)
        parts.append((name, "U8", [len(frame)], frame))
    about = {"format": "drig-buffers", "version": 2, "size": record.size, "key": record.key, "source": record.source}
    about["crc32"] = zlib.crc32(b"".join(content for *_, content in parts))
    header: dict[str, Any] = {"__metadata__": {"drig": json.dumps(about)}}
    offset = 0
    for name, dtype, shape, content in parts:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(content)]}
        offset += len(content)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(content for *_, content in parts)


def test_the_bytes_are_those_of_the_written_format() -> None:
    record = ball(16)
    assert encode(record) == by_hand(record)


def test_a_record_is_a_safetensors_file() -> None:
    arrays = safetensors.numpy.load(encode(ball()))
    assert arrays["codes.light"].shape == (9, 3)
    assert arrays["box"].dtype == np.int32


@pytest.mark.parametrize("reader", [decode, decode_packed])
def test_another_version_says_which(reader: Any) -> None:
    content = encode(ball()).replace(b'\\"version\\": 2', b'\\"version\\": 9')
    with pytest.raises(DrigError, match="drig-buffers version 9; this drig reads drig-buffers version 2"):
        reader(content)


@pytest.mark.parametrize("reader", [decode, decode_packed])
def test_damaged_bytes_are_an_error_and_nothing_worse(reader: Any) -> None:
    content = encode(ball(16))
    rng = np.random.default_rng(0)
    for length in (0, 5, 8, 100, len(content) // 2, len(content) - 1):
        with pytest.raises(DrigError, match="no intact record"):
            reader(content[:length])
    data = 8 + int.from_bytes(content[:8], "little")
    for position in rng.integers(data, len(content), 200):
        damaged = bytearray(content)
        damaged[position] ^= rng.integers(1, 256)
        with pytest.raises(DrigError, match="no intact record"):
            reader(bytes(damaged))
    for position in rng.integers(0, data, 200):  # a letter of the key may change unnoticed, but nothing else may happen
        damaged = bytearray(content)
        damaged[position] ^= rng.integers(1, 256)
        with contextlib.suppress(DrigError):
            reader(bytes(damaged))


@pytest.mark.parametrize("box", [(-1, 0, 9, 9), (0, 8, 16, 9), (8, 0, 9, 16), (0, 0, 16, 1 << 30), (0, 0, -8, 8)])
@pytest.mark.parametrize("reader", [decode, decode_packed])
def test_a_box_that_leaves_the_picture_is_refused_though_its_checksum_is_right(
    reader: Any, box: tuple[int, int, int, int]
) -> None:
    content = encode(ball(16))
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    arrays = {**safetensors.numpy.load(content), "box": np.array(box, np.int32)}
    plain = safetensors.numpy.save(arrays)
    data = plain[8 + int.from_bytes(plain[:8], "little") :]
    about = {**json.loads(header["__metadata__"]["drig"]), "crc32": zlib.crc32(data)}
    with pytest.raises(DrigError, match="box is not in the picture"):
        reader(safetensors.numpy.save(arrays, {"drig": json.dumps(about)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((48, 47, 3), np.uint8)}, "image"),
        ({"image": np.zeros((48, 48, 3), np.float32)}, "uint8"),
        ({"normal": np.zeros((48, 48, 3), np.float32)}, "normal"),
        ({"codes": {"shape": np.zeros(3, np.float32)}}, "light"),
        ({"albedo": np.full((3, 48, 48), np.nan, np.float32)}, "finite"),
        ({"landmarks": np.zeros((5, 2), np.float32)}, "landmarks"),
    ],
)
def test_a_record_that_breaks_its_promises_is_not_written(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(dataclasses.replace(ball(), **change))
