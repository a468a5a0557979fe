"""A released data set: LMDB with PNG portraits and pickled float32 buffers, 2.25 MiB a face (SPEC 8).

Keys are `image_000000`, `normal_000000`, `albedo_000000`, `rendered_000000`, ..., and `length`, their number in ASCII.
"""

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import lmdb
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from drig.data.photos import read_photo
from drig.data.records import Record
from drig.data.released.light import solve_light
from drig.errors import DrigError, PhotoRejected
from drig.foreign.lmdb_reader import LmdbReader
from drig.foreign.pickles import unpickle
from drig.foreign.source import Source

BUFFERS = ("normal", "albedo", "rendered")
_LEAST_RECORD = 256  # bytes; a length that leaves less for a face is not the file's
_FIRST_MAP_SIZE = 1 << 26


@dataclass(frozen=True, kw_only=True, eq=False)
class ReleasedFace:
    """One face as it is stored."""

    image: NDArray[np.uint8]
    """(S, S, 3) RGB"""
    normal: NDArray[np.float32]
    """(3, S, S) in [-1, 1], zero outside the face."""
    albedo: NDArray[np.float32]
    """(3, S, S) in [0, 1], zero outside the face."""
    rendered: NDArray[np.float32]
    """(3, S, S) albedo x shading."""

    def record(self, key: str, source: str) -> Record:
        """The record of a buffer store. PhotoRejected where no light explains the rendered buffer."""
        light = solve_light(self.rendered, self.normal, self.albedo)
        return Record(
            key=key,
            image=self.image,
            normal=self.normal,
            albedo=self.albedo,
            alpha=(self.normal != 0).any(0) | (self.albedo != 0).any(0),
            codes={"light": light},
            source=source,
        )


class ReleasedDataset:
    """Reads a released data set, one face at a time; a context manager."""

    def __init__(self, path: Path) -> None:
        """Raises DrigError for a folder that is no such data set."""
        self.path = path
        self._reader = LmdbReader(path)
        length = self._reader.get("length")
        if length is None or not length.isdigit() or int(length) * _LEAST_RECORD > self._reader.size:
            self._reader.close()
            raise DrigError(f"{path} is no released data set: an LMDB with the number of its faces under `length`.")
        self._length = int(length)

    def __len__(self) -> int:
        return self._length

    def read(self, index: int) -> ReleasedFace:
        """A face. PhotoRejected where a part of it is missing or damaged, DrigError where the whole file is."""
        image = read_photo(self._value("image", index))
        buffers = {name: self._buffer(name, index) for name in BUFFERS}
        size = len(image)
        for name, buffer in buffers.items():
            if buffer.shape != (3, size, size) or image.shape != (size, size, 3):
                raise PhotoRejected(f"{name} is {buffer.shape} and the image {image.shape}")
        return ReleasedFace(image=image, **buffers)

    def _buffer(self, name: str, index: int) -> NDArray[np.float32]:
        content = self._value(name, index)
        try:
            buffer = unpickle(Source(io.BytesIO(content), f"{name}_{index:06d}", len(content)))
        except DrigError as error:
            raise PhotoRejected(str(error)) from error
        if not isinstance(buffer, Tensor) or buffer.dtype != torch.float32:
            raise PhotoRejected(f"{name} is no tensor of float32 numbers")
        numbers: NDArray[np.float32] = buffer.contiguous().numpy()
        if not np.isfinite(numbers).all():
            raise PhotoRejected(f"{name} holds numbers that are not finite")
        return numbers

    def _value(self, name: str, index: int) -> bytes:
        value = self._reader.get(f"{name}_{index:06d}")
        if value is None:
            raise PhotoRejected(f"{name} is missing")
        return value

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._reader.close()


class ReleasedDatasetWriter:
    """Writes a released data set. A context manager: the folder gets its name when all is written.

    Until then it is `<folder>.partial`; what an interrupted run left there is continued: `len` faces are done.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._partial = folder.with_name(f"{folder.name}.partial")
        if folder.exists():
            raise DrigError(f"{folder} is there already; name a new folder.")
        try:
            self._partial.mkdir(parents=True, exist_ok=True)
            self._lmdb = lmdb.open(str(self._partial), map_size=_FIRST_MAP_SIZE, sync=False, lock=False)
        except (OSError, lmdb.Error) as error:
            raise DrigError(f"cannot write {self._partial}: {error}.") from error
        self._length = self._lmdb.stat()["entries"] // (1 + len(BUFFERS))

    def __len__(self) -> int:
        return self._length

    def begins_with(self, record: Record) -> bool:
        """Whether the first face that an earlier run left is this one's."""
        with self._lmdb.begin() as transaction:
            image: bytes | None = transaction.get(b"image_000000")
        return image == _png(record.image)

    def add(self, record: Record) -> None:
        """The next face."""
        entries = {"image": _png(record.image)}
        for name in BUFFERS:
            # A copy of its own: a view would be pickled with all that it is a view of.
            entries[name] = pickle.dumps(torch.from_numpy(getattr(record, name).copy()))
        self._put({f"{name}_{self._length:06d}": content for name, content in entries.items()})
        self._length += 1

    def _put(self, entries: dict[str, bytes]) -> None:
        """All of them or none."""
        while True:
            try:
                with self._lmdb.begin(write=True) as transaction:
                    for key, content in entries.items():
                        transaction.put(key.encode(), content)
                return
            except lmdb.MapFullError:
                self._lmdb.set_mapsize(2 * self._lmdb.info()["map_size"])
            except lmdb.Error as error:
                raise DrigError(f"cannot write {self._partial}: {error}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None:
            self._put({"length": str(self._length).encode()})
            self._lmdb.sync(True)
        self._lmdb.close()
        if kind is None:
            self._partial.replace(self.folder)


def key_of(index: int) -> str:
    """What a released face is called in a buffer store."""
    return f"{index:06d}"


def _png(image: NDArray[np.uint8]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return content.getvalue()
