"""Pickles written opcode by opcode, as no honest program writes them, and the files that carry them."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """module.name(*arguments), protocol 2, without the final STOP."""
    return b"c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def blob(value: bytes) -> bytes:
    return b"B" + len(value).to_bytes(4, "little") + value


def number(value: int) -> bytes:
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def program(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def array(shape: bytes, code: str, data: bytes) -> bytes:
    """An array's reduction with whatever shape and data."""
    dtype = call("numpy", "dtype", text(code), b"\x89", b"\x88")
    empty = call("numpy.core.multiarray", "_reconstruct", b"cnumpy\nndarray\n", b"K\x00\x85", blob(b"b"))
    return empty + b"(K\x01" + shape + dtype + b"\x89" + blob(data) + b"tb"


def stored(
    key: str = "0", count: int = 4, kind: str = "torch\nFloatStorage", tag: str = "storage", location: str = "cpu"
) -> bytes:
    """A storage's persistent id."""
    return b"(" + text(tag) + f"c{kind}\n".encode() + text(key) + text(location) + number(count) + b"tQ"


def tensor(storage: bytes, size: bytes | None = None, stride: bytes | None = None, offset: bytes = b"K\x00") -> bytes:
    size, stride = size or numbers(4), stride or numbers(1)
    hooks = call("collections", "OrderedDict")
    return call("torch._utils", "_rebuild_tensor_v2", storage, offset, size, stride, b"\x89", hooks)


def legacy(body: bytes, storages: dict[str, bytes] | None = None) -> bytes:
    """A PyTorch file of the old format around a pickle, its storages of float32."""
    storages = {"0": np.arange(4, dtype=np.float32).tobytes()} if storages is None else storages
    head = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2)]
    data = [(len(content) // 4).to_bytes(8, "little") + content for content in storages.values()]
    return b"".join([*head, program(body), pickle.dumps(list(storages), 2), *data])


def zipped(body: bytes, storages: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A PyTorch file of the zip format around a pickle."""
    storages = {"0": np.arange(4, dtype=np.float32).tobytes()} if storages is None else storages
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program(body))
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/byteorder", "little")
    return file.getvalue()


def object_npy(body: bytes) -> bytes:
    """A 0-d object array's .npy whose pickle holds `body` as its object."""
    dtype = call("numpy", "dtype", text("O8"), b"\x89", b"\x88")
    empty = call("numpy.core.multiarray", "_reconstruct", b"cnumpy\nndarray\n", b"K\x00\x85", blob(b"b"))
    return npy("{'descr': '|O', 'fortran_order': False, 'shape': ()}") + program(
        empty + b"(K\x01)" + dtype + b"\x89](" + body + b"etb"
    )


def npy(header: str, data: bytes = b"") -> bytes:
    content = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content + data


def loaded(body: bytes) -> bytes:
    """A tensor whose storage is a nested PyTorch file around `body`."""
    return tensor(call("torch.storage", "_load_from_bytes", blob(legacy(body))))


Write = Callable[[str, bytes], Path]
