"""PyTorch's files read without `torch.load`: the zip format, and the one before PyTorch 1.6."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from drig.errors import DrigError
from drig.foreign.pickles import unpickle
from drig.foreign.rebuild import Storage, storage_type
from drig.foreign.source import Source, open_source

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # what the old format begins with
ZIP_MAGIC = b"PK\x03\x04"


def read_torch(path: Path) -> Any:
    """What `torch.save` wrote: containers of tensors, on the CPU wherever they were.

    Raises DrigError for a file that is missing, damaged, or asks for anything but data.
    """
    with open_source(path) as source, path.open("rb") as file:
        start = file.read(len(ZIP_MAGIC))
        if start == ZIP_MAGIC:
            return _read_zip(file, source.name, source.size)
        if not start.startswith(b"\x80"):
            raise ValueError("it does not begin as PyTorch's files do")
        return _read_legacy(source)


def read_storage(content: bytes, name: str) -> Storage:
    """The storage in what `torch.storage._load_from_bytes` is given: a file of the old format."""
    storage = _read_legacy(Source(io.BytesIO(content), name, len(content)), nested=True)
    if not isinstance(storage, Storage):
        raise TypeError("a tensor without a storage")
    return storage


def tensors_in(value: object, name: str) -> dict[str, Tensor]:
    """A state dict as it was read. DrigError for anything but text -> tensor."""
    if not isinstance(value, dict) or not value:
        raise DrigError(f"{name} holds no state dict: give a file of weights.")
    for key, tensor in value.items():
        if not isinstance(key, str) or not isinstance(tensor, Tensor):
            raise DrigError(f"{name} is no state dict: its entry {key!r:.60} is no tensor. Give a file of weights.")
    return value


def load_state(module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Put weights into a module of the same names and shapes. DrigError that lists what differs."""
    wanted = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in state.items()}
    problems = [f"{key} is missing" for key in wanted.keys() - found.keys()]
    problems += [f"{key:.80} does not belong there" for key in found.keys() - wanted.keys()]
    problems += [f"{k} is {found[k]}, not {wanted[k]}" for k in wanted.keys() & found.keys() if found[k] != wanted[k]]
    if problems:
        some = "; ".join(sorted(problems)[:3])
        raise DrigError(f"{name} holds other weights than {type(module).__name__}'s ({len(problems)} differ: {some}).")
    types = {key: tensor.dtype for key, tensor in module.state_dict().items()}
    module.load_state_dict({key: tensor.to(types[key]).contiguous() for key, tensor in state.items()}, assign=True)


def _read_legacy(source: Source, *, nested: bool = False) -> Any:
    """Pickles one after the other (magic number, version, system, object, keys of the storages), then the storages."""
    if unpickle(source, nested=True) != _MAGIC or unpickle(source, nested=True) != _PROTOCOL:
        raise ValueError("it does not begin as PyTorch's files do")
    _check_little_endian(unpickle(source, nested=True))
    buffers: dict[str, bytearray] = {}
    storages: dict[str, Storage] = {}

    left = source.size

    def storage(pid: object) -> Storage:
        nonlocal left
        dtype, key, count = _storage_of(pid)
        if key not in storages:
            length = count * dtype.itemsize
            left -= length
            if left < 0:
                raise ValueError("storages larger than the file")
            buffers[key] = bytearray(length)
            storages[key] = _view(buffers[key], dtype)
        return storages[key]

    value = unpickle(source, persistent=storage, nested=nested)
    keys = unpickle(source, nested=True)
    if not isinstance(keys, list) or sorted(keys) != sorted(storages):
        raise ValueError("other storages than its tensors need")
    for key in keys:
        if int.from_bytes(source.read(8), "little") != len(storages[key].values):
            raise ValueError("a storage of another size than its tensors need")
        source.readinto(memoryview(buffers[key]))
    return value


def _check_little_endian(system: object) -> None:
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("numbers of a big-endian machine")


def _read_zip(file: BinaryIO, name: str, size: int) -> Any:
    """An uncompressed archive: `data.pkl`, and a file for each storage below `data/`."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [entry for entry in entries if entry.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError(f"an archive with {len(pickles)} data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        storages: dict[str, Storage] = {}
        left = size

        def read(entry: str, length: int | None = None) -> bytearray:
            nonlocal left
            info = entries[entry]
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise ValueError(f"{entry:.80} is compressed, which PyTorch's files are not")
            left -= info.file_size
            if left < 0 or length not in (None, info.file_size):
                raise ValueError(f"{entry:.80} has another size than its tensors need")
            content = bytearray(info.file_size)
            with archive.open(info) as stream:
                Source(stream, name, info.file_size).readinto(memoryview(content))  # type: ignore[arg-type]
            return content

        def storage(pid: object) -> Storage:
            dtype, key, count = _storage_of(pid)
            if key not in storages:
                storages[key] = _view(read(f"{root}data/{key}", count * dtype.itemsize), dtype)
            return storages[key]

        if f"{root}byteorder" in entries and read(f"{root}byteorder") != b"little":
            raise ValueError("numbers of a big-endian machine")
        program = read(pickles[0])
        return unpickle(Source(io.BytesIO(program), name, len(program)), persistent=storage, nested=True)


def _storage_of(pid: object) -> tuple[torch.dtype, str, int]:
    """Type, key and length of the storage that a persistent id names."""
    if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
        raise ValueError("a persistent id that names no storage")
    _, kind, key, _, count, *view = pid
    if view not in ([], [None]):
        raise ValueError("a storage that is a part of another one, as PyTorch 0.3 wrote them")
    if not isinstance(key, str) or not isinstance(count, int) or count < 0:
        raise ValueError("a storage without a key or a length")
    return storage_type(kind), key, count


def _view(content: bytearray, dtype: torch.dtype) -> Storage:
    return Storage(torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype))
