"""What foreign pickles may name, and our own functions that make it: NumPy, SciPy, chumpy and PyTorch data.

Each function gets the unpickler first, to account for memory, and then what the pickle gives to the original. None of
the originals is imported or called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from drig.foreign.pickles import Unpickler

_PLAIN = frozenset(f"{kind}{size}" for kind, sizes in (("iu", "1248"), ("f", "248")) for kind in kind for size in sizes)
DTYPES = _PLAIN | {"b1"}
"""NumPy's number types that are read, as its pickles and .npy headers write them, without the byte order."""
STORAGES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "DoubleStorage": torch.float64,
        "FloatStorage": torch.float32,
        "HalfStorage": torch.float16,
        "BFloat16Storage": torch.bfloat16,
        "LongStorage": torch.int64,
        "IntStorage": torch.int32,
        "ShortStorage": torch.int16,
        "CharStorage": torch.int8,
        "ByteStorage": torch.uint8,
        "BoolStorage": torch.bool,
    }
)
"""PyTorch's storage types."""
_MOST_DIMENSIONS = 32


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle mentions. It stands for itself and can do nothing."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True)
class DType:
    """A NumPy number type in the making."""

    code: str
    order: str = "="

    def finished(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


@dataclass(slots=True)
class SparseMatrix:
    """A compressed sparse matrix as SciPy keeps it: line i (a row, or a column) holds entries indptr[i]:indptr[i+1]."""

    by_rows: bool
    state: Mapping[str, Any]

    def dense(self) -> NDArray[Any]:
        """The (rows, columns) array. ValueError where the parts contradict each other, or most of it would be empty."""
        shape = self.state["_shape"] if "_shape" in self.state else self.state["shape"]
        rows, columns = map(_natural, shape)
        data, indices, indptr = (as_array(self.state[name]) for name in ("data", "indices", "indptr"))
        lines, length = (rows, columns) if self.by_rows else (columns, rows)
        if rows * columns > 4096 * (len(data) + 256):  # the real ones have an entry for every vertex or so
            raise ValueError(f"a sparse {rows} x {columns} matrix with {len(data)} entries")
        counts = np.diff(indptr.astype(np.int64))
        if len(indptr) != lines + 1 or indptr[0] != 0 or (counts < 0).any() or indptr[-1] != len(data):
            raise ValueError("a sparse matrix whose lines do not add up")
        if len(indices) != len(data) or (len(data) and (indices.min() < 0 or indices.max() >= length)):
            raise ValueError("a sparse matrix whose entries lie outside it")
        dense = np.zeros((lines, length), data.dtype)
        np.add.at(dense, (np.repeat(np.arange(lines), counts.tolist()), indices), data)
        return dense if self.by_rows else dense.T


@dataclass(slots=True)
class ChumpyArray:
    """An object of the package chumpy, which is not needed to read it: an array `x`, or an expression of others."""

    state: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """Numbers that tensors are views of."""

    values: Tensor
    """(K,)"""


def as_array(value: object) -> NDArray[Any]:
    """The numbers of an array, a tensor, a sparse matrix or a chumpy array. TypeError for anything else."""
    if isinstance(value, ChumpyArray):
        if "x" not in value.state:
            raise TypeError("a chumpy expression, whose numbers are not in the file, where an array belongs")
        value = value.state["x"]
    if isinstance(value, SparseMatrix):
        return value.dense()
    if isinstance(value, Tensor):
        return value.numpy()
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        raise TypeError(f"a {type(value).__name__} where an array of numbers belongs")
    return value


def lookup(module: str, name: str) -> Global | None:
    """The listed name, whichever of its homes over the years is given; None for any other."""
    if module.startswith("chumpy.") and name.isidentifier():
        return _CHUMPY  # also expressions of arrays, which are kept and never computed
    found = Global(_HOMES.get(module, module), name)
    return found if found in CALLS or found in KINDS or found in _NAMES else None


def storage_type(kind: object) -> torch.dtype:
    """The type of a storage that a pickle names. TypeError for anything else."""
    if not isinstance(kind, Global) or kind.module != "torch" or kind.name not in STORAGES:
        raise TypeError(f"{kind if isinstance(kind, Global) else type(kind).__name__} as a kind of storage")
    return STORAGES[kind.name]


def _natural(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r:.40} where a size belongs")
    return value


def _as_bytes(data: Any) -> Any:
    """Python 2 wrote text where bytes belong."""
    return data.encode("latin1") if isinstance(data, str) else data


def _dtype(reader: Unpickler, code: str, *_: object) -> DType:
    if code not in DTYPES and not (code in ("O", "O8") and reader.objects):
        reader.refuse(f"an array of type {code!r:.40}")
    return DType(code)


def _build_dtype(reader: Unpickler, dtype: DType, state: tuple[Any, ...]) -> None:
    _, order, *parts = state
    if order not in ("<", ">", "=", "|") or any(part is not None for part in parts[:3]):
        reader.refuse("an array with fields")
    dtype.order = order


def _new_array(reader: Unpickler, kind: object, *_: object) -> NDArray[Any]:
    if kind != _NDARRAY:
        raise TypeError("an array of another class")
    return np.empty(0)


def _build_array(reader: Unpickler, array: NDArray[Any], state: tuple[Any, ...]) -> None:
    shape, dtype, fortran, data = state[-4:]
    if not isinstance(dtype, DType):
        raise TypeError("an array without a type")
    data = _as_bytes(data)
    finished, count = dtype.finished(), math.prod(map(_natural, shape))
    if finished.hasobject:
        if shape != () or type(data) is not list or len(data) != 1:
            reader.refuse("an array of several Python objects")
    elif len(data) != count * finished.itemsize:
        raise ValueError(f"an array of {count} numbers with {len(data)} bytes")
    reader.take(count * finished.itemsize)
    array.__setstate__((1, shape, finished, bool(fortran), data))  # type: ignore[arg-type]


def _scalar(reader: Unpickler, dtype: DType, data: bytes | str) -> float | int | bool:
    (value,) = np.frombuffer(_as_bytes(data), dtype.finished())
    number: float | int | bool = value.item()
    return number


def _encode(reader: Unpickler, text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        reader.refuse(f"the encoding {encoding!r:.40}")
    reader.take(len(text))
    return text.encode("latin1")


def _ordered_dict(reader: Unpickler, pairs: Sequence[Any] = ()) -> dict[Any, Any]:
    filled: dict[Any, Any] = {}
    reader.take(100 * len(pairs))
    reader.fill(filled, [part for key, value in pairs for part in (key, value)])
    return filled


def _keep_dict(reader: Unpickler, target: dict[Any, Any], state: object) -> None:
    """State dicts carry attributes (`_metadata`), which nobody needs."""


def _set(reader: Unpickler, *_: object) -> list[Any]:
    """Empty, since of the sets in these files (chumpy's notes to itself) nothing is used."""
    return []


def _reconstructor(reader: Unpickler, kind: Global, *_: object) -> Any:
    """How protocols 0 and 1 make an object."""
    return reader.call(KINDS, kind, ())


def _build_state(reader: Unpickler, target: SparseMatrix | ChumpyArray, state: dict[str, Any]) -> None:
    if type(state) is not dict:
        raise TypeError("an object without a state")
    target.state = state


def _tensor(
    reader: Unpickler, storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    """The view of a storage: no larger than it, and nowhere outside it."""
    if not isinstance(storage, Storage):
        raise TypeError("a tensor without a storage")
    sizes, strides = [*map(_natural, size)], [*map(_natural, stride)]
    if len(sizes) != len(strides) or len(sizes) > _MOST_DIMENSIONS:
        raise ValueError(f"a tensor of {len(sizes)} dimensions with {len(strides)} strides")
    count, held = math.prod(sizes), len(storage.values)
    last = _natural(offset) + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    if count > held or (count and last >= held):
        raise ValueError("a tensor larger than its storage")
    return storage.values.as_strided(sizes, strides, offset)


def _parameter(reader: Unpickler, tensor: Tensor, *_: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError("a parameter without a tensor")
    return tensor


def _storage(reader: Unpickler, content: bytes | str) -> Storage:
    from drig.foreign.torch_files import read_storage  # it reads pickles through the module that calls this one

    if reader.nested:
        reader.refuse("a pickle in a pickle in a pickle")
    reader.take(len(content))
    return read_storage(_as_bytes(content), reader.source.name)


_NDARRAY = Global("numpy", "ndarray")
_CHUMPY = Global("chumpy.ch", "Ch")
_HOMES: Mapping[str, str] = MappingProxyType(
    {
        "numpy._core.multiarray": "numpy.core.multiarray",
        "scipy.sparse._csc": "scipy.sparse.csc",
        "scipy.sparse._csr": "scipy.sparse.csr",
        "__builtin__": "builtins",
        "copy_reg": "copyreg",
    }
)
CALLS: Mapping[Global, Callable[..., Any]] = MappingProxyType(
    {
        Global("numpy.core.multiarray", "_reconstruct"): _new_array,
        Global("numpy.core.multiarray", "scalar"): _scalar,
        Global("numpy", "dtype"): _dtype,
        Global("_codecs", "encode"): _encode,
        Global("collections", "OrderedDict"): _ordered_dict,
        Global("builtins", "bytes"): lambda reader: b"",
        Global("builtins", "set"): _set,
        Global("copyreg", "_reconstructor"): _reconstructor,
        Global("torch._utils", "_rebuild_tensor_v2"): _tensor,
        Global("torch._utils", "_rebuild_parameter"): _parameter,
        Global("torch.storage", "_load_from_bytes"): _storage,
    }
)
"""What a pickle may call."""
KINDS: Mapping[Global, Callable[..., Any]] = MappingProxyType(
    {
        Global("scipy.sparse.csc", "csc_matrix"): lambda reader: SparseMatrix(False, {}),
        Global("scipy.sparse.csr", "csr_matrix"): lambda reader: SparseMatrix(True, {}),
        _CHUMPY: lambda reader: ChumpyArray({}),
    }
)
"""What a pickle may make an empty one of."""
_NAMES = frozenset({_NDARRAY, Global("builtins", "object"), *(Global("torch", name) for name in STORAGES)})
BUILDS: Mapping[type, Callable[..., None]] = MappingProxyType(
    {
        DType: _build_dtype,
        np.ndarray: _build_array,
        SparseMatrix: _build_state,
        ChumpyArray: _build_state,
        dict: _keep_dict,
    }
)
"""What a pickle may fill with a state."""
