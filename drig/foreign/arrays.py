"""NumPy's files: one array of an .npz, and the .npy that holds one Python object."""

import io
import math
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from drig.foreign.pickles import unpickle
from drig.foreign.rebuild import DTYPES
from drig.foreign.source import Source, open_source

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_LONGEST_HEADER = 10_000  # NumPy's own limit
_BLOCK = 1 << 24  # bytes that are read at once
_MOST_COMPRESSION = 200  # numbers of a texture shrink to a third; only a bomb to a two-hundredth

Header = tuple[tuple[int, ...], bool, np.dtype[Any]]


def read_object(path: Path) -> Any:
    """The Python object in an .npy (a 0-d array of type object); what it may be and errors as for `read_pickle`."""
    with open_source(path) as source:
        shape, _, dtype = _header(source)
        if not dtype.hasobject or shape != ():
            raise ValueError(f"an array {shape} of {dtype} where one Python object belongs")
        array = unpickle(source, objects=True)
        if not isinstance(array, np.ndarray) or array.shape != () or not array.dtype.hasobject:
            raise ValueError("no array around its object")
        return array[()]


def read_npz(path: Path, name: str, last: int | None = None) -> NDArray[Any]:
    """The array `name` of an .npz; of its last axis only the first `last` entries, if that is given.

    The rest is not kept: FLAME's texture space has 1.2 GB, of which a quarter is used. Raises DrigError for a file that
    is missing or damaged, lacks the array, or whose array is not as long as it says.
    """
    with open_source(path) as source, path.open("rb") as file, zipfile.ZipFile(file) as archive:
        if f"{name}.npy" not in archive.namelist():
            raise ValueError(f"it holds no array {name!r}")
        entry = archive.getinfo(f"{name}.npy")
        if entry.file_size > _MOST_COMPRESSION * entry.compress_size or entry.compress_size > source.size:
            raise ValueError(f"{name} is compressed to less than a {_MOST_COMPRESSION}th: no data does that")
        with archive.open(entry) as stream:
            return _read_numbers(Source(stream, source.name, entry.file_size), last)  # type: ignore[arg-type]


def _read_numbers(source: Source, last: int | None) -> NDArray[Any]:
    shape, fortran, dtype = _header(source)
    if dtype.kind + str(dtype.itemsize) not in DTYPES:
        raise ValueError(f"an array of {dtype}")
    if math.prod(shape) * dtype.itemsize != source.remaining:
        raise ValueError(f"an array {shape} of {dtype} with {source.remaining} bytes")
    if fortran:  # the last axis changes slowest: what is wanted comes first
        wanted = (*shape[:-1], shape[-1] if last is None else min(last, shape[-1]))
        content = source.read(math.prod(wanted) * dtype.itemsize)
        return np.frombuffer(content, dtype).reshape(wanted, order="F")
    rows = math.prod(shape[:-1])
    row = math.prod(shape[-1:]) * dtype.itemsize
    step = max(1, _BLOCK // max(1, row))
    blocks = [
        np.frombuffer(source.read(min(step, rows - start) * row), dtype).reshape(-1, *shape[-1:])[..., :last].copy()
        for start in range(0, rows, step)
    ]
    if not shape or not blocks:
        return np.concatenate(blocks).reshape(shape) if blocks else np.empty(shape, dtype)
    return np.concatenate(blocks).reshape(*shape[:-1], blocks[0].shape[1])


def _header(source: Source) -> Header:
    """Shape, whether in Fortran's order, and type of the .npy that begins here."""
    start = source.read(8)
    version = (start[6], start[7])
    if start[:6] != b"\x93NUMPY" or version not in _HEADERS:
        raise ValueError("it does not begin as NumPy's files do")
    prefix = source.read(2 if version == (1, 0) else 4)
    length = int.from_bytes(prefix, "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"a header of {length} bytes")
    stream: BinaryIO = io.BytesIO(prefix + source.read(length))
    shape, fortran, dtype = _HEADERS[version](stream)
    if any(size < 0 for size in shape):
        raise ValueError(f"an array of shape {shape}")
    return shape, fortran, dtype
