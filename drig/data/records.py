"""One record of the buffer store and its bytes; `docs/buffer-store.md` is the written format.

A record is a safetensors file in memory. Photo and buffers are kept as 8-bit planes (`drig.data.frames`). The light's
shading is not kept but computed on read.

Precision, a decision: normals and albedo in steps of 1/127 take 56 KiB a face at 256 px (61 on the disk, with all else
but the photo) and put the rendered buffer 52 dB or more from the float one (`benchmarks/store.py`, on the open head).
Albedo in steps of 1/255 would gain 4 dB for 6 KiB. The photo is exact.

Legend: S = H = W = size pixels; h, w the box that holds the face.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from drig.data.frames import Planes, compress, expand
from drig.errors import DrigError
from drig.faces.lighting import shade_image

if TYPE_CHECKING:
    from drig.faces.buffers import Buffers
    from drig.faces.codes import FaceCodes

FORMAT = "drig-buffers"
VERSION = 2
STEPS = np.float32(127)
"""Normals and albedo are kept in units of 1 / STEPS."""

_DTYPES = {"U8": np.uint8, "I32": np.int32, "F32": np.float32}

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """One face: the portrait, its physical buffers and what they were rendered from."""

    key: str
    """What names the record within its store, such as the photo's path below the album or data set."""
    image: NDArray[np.uint8]
    """(S, S, 3) RGB portrait."""
    normal: Floats
    """(3, S, S) in [-1, 1], zero outside the face."""
    albedo: Floats
    """(3, S, S) in [0, 1], zero outside the face."""
    alpha: NDArray[np.bool_]
    """(S, S) True where a face covers the pixel's centre."""
    codes: Mapping[str, Floats]
    """The face codes, one array each without a batch dimension; `light` (9, 3) is among them."""
    landmarks: Floats | None = None
    """(68, 2) in image NDC: x right, y down. None = unknown; training does without."""
    source: str = field(default="")
    """Where the photo came from, for people to read."""

    @property
    def size(self) -> int:
        return len(self.image)

    @property
    def light(self) -> Floats:
        """(9, 3) spherical-harmonics coefficients x RGB."""
        return self.codes["light"]

    def face_codes(self) -> "FaceCodes":
        """The codes as a batch of one."""
        from drig.faces.codes import FaceCodes  # imports PyTorch3D, which reading buffers does without

        return FaceCodes.from_dict({name: torch.from_numpy(array)[None] for name, array in self.codes.items()})

    @property
    def rendered(self) -> Floats:
        """(3, S, S) = albedo x shading of the normals by the light, unclipped (SPEC 5)."""
        normal, light = torch.from_numpy(self.normal), torch.from_numpy(self.light)
        rendered: Floats = self.albedo * shade_image(normal[None], light[None])[0].numpy()
        return rendered

    def check(self) -> None:
        """Raise ValueError where a field breaks its promise: the caller's mistake, not the user's."""
        s = self.size
        shapes = {"image": (s, s, 3), "normal": (3, s, s), "albedo": (3, s, s), "alpha": (s, s)}
        if self.landmarks is not None:
            shapes["landmarks"] = (68, 2)
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"record {self.key!r}: {name} is {getattr(self, name).shape}, not {shape}")
        if self.image.dtype != np.uint8 or self.alpha.dtype != np.bool_:
            raise ValueError(f"record {self.key!r}: image must be uint8 and alpha bool")
        if "light" not in self.codes or self.light.shape != (9, 3):
            raise ValueError(f"record {self.key!r}: codes must hold light, (9, 3)")
        for name, array in (("normal", self.normal), ("albedo", self.albedo), *self.codes.items()):
            if not np.isfinite(array).all():
                raise ValueError(f"record {self.key!r}: {name} holds numbers that are not finite")


def records_of(
    keys: Sequence[str],
    images: NDArray[np.uint8],
    landmarks: Floats | None,
    codes: "FaceCodes",
    buffers: "Buffers",
    sources: Sequence[str] | None = None,
) -> list[Record]:
    """N rendered faces as records: images (N, S, S, 3), landmarks (N, 68, 2) or none, codes and buffers of N faces."""
    arrays = {name: value.cpu().numpy() for name, value in codes.as_dict().items()}
    normal, albedo, alpha = (b.cpu().numpy() for b in (buffers.normal, buffers.albedo, buffers.alpha))
    return [
        Record(
            key=key,
            image=images[i],
            normal=normal[i],
            albedo=albedo[i],
            alpha=alpha[i, 0] > 0,
            codes={name: array[i] for name, array in arrays.items()},
            landmarks=None if landmarks is None else landmarks[i],
            source=sources[i] if sources else "",
        )
        for i, key in enumerate(keys)
    ]


def encode(record: Record) -> bytes:
    """Record -> bytes. Normals are clipped to [-1, 1] and albedo to [0, 1]; what lies outside alpha becomes zero."""
    record.check()
    top, left, height, width = box = _face_box(record.alpha)
    face = np.s_[:, top : top + height, left : left + width]
    covered = record.alpha[None][face]
    normal = np.rint(np.clip(record.normal[face], -1, 1) * STEPS).astype(np.int8).view(np.uint8)
    albedo = np.rint(np.clip(record.albedo[face], 0, 1) * STEPS).astype(np.uint8)
    buffers = np.concatenate([_smear(np.concatenate([normal, _less_green(albedo)]), covered[0]), covered])  # (7, h, w)
    arrays: dict[str, NDArray[Any]] = {
        "image": compress(_less_green(record.image.transpose(2, 0, 1))),
        "buffers": compress(buffers),
        "box": np.array(box, np.int32),
        **{f"codes.{name}": np.ascontiguousarray(code, np.float32) for name, code in record.codes.items()},
    }
    if record.landmarks is not None:
        arrays["landmarks"] = np.ascontiguousarray(record.landmarks, np.float32)
    about = {
        "format": FORMAT,
        "version": VERSION,
        "size": record.size,
        "key": record.key,
        "source": record.source,
        "crc32": _checksum(safetensors.numpy.save(arrays)),
    }
    return safetensors.numpy.save(arrays, {"drig": json.dumps(about)})


def decode(content: bytes | memoryview) -> Record:
    """The inverse of `encode`. Bytes that are no record of this version raise DrigError."""
    with _intact():
        about, arrays = _parse(content)
        size = about["size"]
        buffers = _buffer_planes(arrays, size)
        return Record(
            key=about["key"],
            source=about["source"],
            image=_interleave(_image_planes(arrays, size)),
            normal=buffers[:3].view(np.int8).astype(np.float32) / STEPS,
            albedo=buffers[3:6].astype(np.float32) / STEPS,
            alpha=buffers[6].astype(np.bool_),
            codes={name.removeprefix("codes."): a.copy() for name, a in arrays.items() if name.startswith("codes.")},
            landmarks=arrays["landmarks"].copy() if "landmarks" in arrays else None,
        )


def describe(content: bytes | memoryview) -> tuple[str, int]:
    """Key and size in pixels of an encoded record, whose checksum is verified. Errors as for `decode`."""
    with _intact():
        about, _ = _parse(content)
        return about["key"], about["size"]


def decode_packed(content: bytes | memoryview) -> dict[str, Tensor]:
    """Bytes -> packed training item (`drig.data.items`) of the numbers that `decode` gives. Errors as there."""
    with _intact():
        about, arrays = _parse(content)
        size = about["size"]
        buffers = _buffer_planes(arrays, size)
        return {
            "image": torch.from_numpy(_image_planes(arrays, size)),
            "normal": torch.from_numpy(buffers[:3].view(np.int8)),
            "albedo": torch.from_numpy(buffers[3:6]),
            "light": torch.from_numpy(arrays["codes.light"].copy()),
        }


def _parse(content: bytes | memoryview) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The safetensors container: what the record says of itself, and views of its arrays by name."""
    start = _data_start(content)
    header: dict[str, Any] = json.loads(bytes(content[8:start]))
    about: dict[str, Any] = json.loads(header.pop("__metadata__")["drig"])
    if (about["format"], about["version"]) != (FORMAT, VERSION):
        given = f"{about['format']} version {about['version']}"
        raise DrigError(f"the record is {given}; this drig reads {FORMAT} version {VERSION}: extract the photos again.")
    if about["crc32"] != _checksum(content):
        raise ValueError(f"checksum of {about['key']!r} differs")
    arrays, data = {}, memoryview(content)[start:]
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        array = np.frombuffer(data[first:last], _DTYPES[entry["dtype"]])
        arrays[name] = array.reshape(entry["shape"])
    return about, arrays


def _data_start(content: bytes | memoryview) -> int:
    """Where a safetensors file's header ends."""
    return 8 + int.from_bytes(content[:8], "little")


def _checksum(content: bytes | memoryview) -> int:
    """CRC-32 of a safetensors file's data, without the header that is to hold it."""
    return zlib.crc32(memoryview(content)[_data_start(content) :])


@contextmanager
def _intact() -> Iterator[None]:
    """Whatever trips over damaged bytes becomes one error that says so."""
    try:
        yield
    except DrigError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, RuntimeError, OSError, MemoryError) as error:
        raise DrigError(f"these bytes are no intact record of a buffer store ({error}); extract it again.") from error


def _image_planes(arrays: Mapping[str, NDArray[Any]], size: int) -> Planes:
    """(3, S, S) RGB."""
    planes = expand(arrays["image"], (3, size, size))
    planes[0] += planes[1]
    planes[2] += planes[1]
    return planes


def _interleave(planes: Planes) -> NDArray[np.uint8]:
    """(3, S, S) -> (S, S, 3), plane by plane: five times as fast as NumPy's transposing copy."""
    image = np.empty((*planes.shape[1:], 3), np.uint8)
    for k in range(3):
        image[..., k] = planes[k]
    return image


def _buffer_planes(arrays: Mapping[str, NDArray[Any]], size: int) -> Planes:
    """(7, S, S) normal, albedo, alpha, zero outside the face."""
    top, left, height, width = arrays["box"].tolist()
    if min(top, left, height, width) < 0 or top + height > size or left + width > size:
        raise ValueError("the face's box is not in the picture")
    return _placed(expand(arrays["buffers"], (7, height, width)), top, left, size)


@njit(cache=True, nogil=True)
def _placed(planes: Planes, top: int, left: int, size: int) -> Planes:
    """The planes of the face's box (7, h, w), R - G and B - G among them, as (7, S, S) that hold R and B."""
    # Compiled, because it is one pass instead of four: a tenth of all reading.
    whole = np.zeros((7, size, size), np.uint8)
    _, height, width = planes.shape
    for i in range(height):
        alpha, green = planes[6, i], planes[4, i]
        for k in range(7):
            row, target = planes[k, i], whole[k, top + i, left : left + width]
            if k == 3 or k == 5:
                for j in range(width):
                    target[j] = (row[j] + green[j]) & -alpha[j]  # keeps all bits, or none
            else:
                for j in range(width):
                    target[j] = row[j] & -alpha[j]
    return whole


def _face_box(alpha: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Top, left, height, width of the smallest box that holds all True pixels."""
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(rows[0]), int(columns[0]), int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1


def _smear(planes: Planes, covered: NDArray[np.bool_]) -> Planes:
    """(k, h, w) with the pixels outside the face like the last one of the face above them, or the first one below.

    Readers zero them; until then they cost nothing, where the face's edge would cost a jump.
    """
    rows = np.arange(len(covered))[:, None]
    source = np.maximum.accumulate(np.where(covered, rows, -1))  # (h, w)
    source = np.where(source < 0, covered.argmax(0), source) if len(covered) else rows
    smeared: Planes = np.take_along_axis(planes, source[None], 1)
    return smeared


def _less_green(rgb: Planes) -> Planes:
    """(3, h, w) RGB -> R-G, G, B-G modulo 256, since the three differ less from each other than from zero."""
    return np.stack([rgb[0] - rgb[1], rgb[1], rgb[2] - rgb[1]])
