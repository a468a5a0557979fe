"""Valid files with some bytes changed, cut or added, and bytes at random: a DrigError or a value, in little memory."""

import io
import pickle
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drig.errors import DrigError
from drig.foreign.arrays import read_npz, read_object
from drig.foreign.obj import read_obj
from drig.foreign.pickles import read_pickle
from drig.foreign.rebuild import as_array
from drig.foreign.torch_files import read_torch
from tests.foreign import crafted

BOUNDED = settings(
    derandomize=True, max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def torch_file(new: bool) -> bytes:
    content = io.BytesIO()
    torch.save({"E_flame": {"weight": torch.arange(6.0)}}, content, _use_new_zipfile_serialization=new)
    return content.getvalue()


def npz() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 4)}"
        archive.writestr("mean.npy", crafted.npy(header, np.arange(24, dtype=np.float32).tobytes()))
    return content.getvalue()


def model(protocol: int) -> bytes:
    matrix = scipy.sparse.csc_matrix(np.eye(3))
    value = {"v": np.arange(6.0).reshape(2, 3), "J": matrix, "f": np.arange(3, dtype=np.uint32), "style": ["lbs", 1.5]}
    return pickle.dumps(value, protocol)


def mesh() -> bytes:
    return b"v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\n"


def read_all_arrays(path: Path) -> None:
    """What the head model's reader does: every array as numbers."""
    value = read_pickle(path)
    for item in value.values() if isinstance(value, dict) else ():
        try:
            as_array(item)
        except (KeyError, TypeError, ValueError, OverflowError):  # readers turn these into DrigErrors
            continue


FORMATS: dict[str, tuple[bytes, Callable[[Path], Any]]] = {
    "pickle, protocol 0": (model(0), read_all_arrays),
    "pickle, protocol 2": (model(2), read_all_arrays),
    "pickle, protocol 4": (model(4), read_all_arrays),
    "pickled tensor": (pickle.dumps(torch.arange(6.0).reshape(2, 3)), read_pickle),
    "PyTorch zip": (torch_file(True), read_torch),
    "PyTorch legacy": (torch_file(False), read_torch),
    "object .npy": (crafted.object_npy(crafted.call("collections", "OrderedDict")), read_object),
    ".npz": (npz(), lambda path: read_npz(path, "mean", 2)),
    "OBJ": (mesh(), read_obj),
}


@pytest.fixture(autouse=True)
def little_memory() -> Any:
    """Whatever a file claims, this process never grows by more than 200 MB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def survives(read: Callable[[Path], Any], path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        read(path)
    except DrigError as error:
        assert path.name in str(error)  # noqa: PT017


@pytest.mark.parametrize("name", FORMATS)
def test_valid_files_are_valid(name: str, tmp_path: Path) -> None:
    content, read = FORMATS[name]
    path = tmp_path / "file.bin"
    path.write_bytes(content)
    read(path)


@pytest.mark.parametrize("name", FORMATS)
@BOUNDED
@given(data=st.data())
def test_damaged_files(name: str, tmp_path: Path, data: st.DataObject) -> None:
    content, read = FORMATS[name]
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(damaged)))
        end = start + data.draw(st.sampled_from([0, 1, 1, 1, 4, 16]))
        damaged[start:end] = data.draw(st.binary(max_size=9))
    survives(read, tmp_path / "file.bin", bytes(damaged))


@pytest.mark.parametrize("name", FORMATS)
@BOUNDED
@given(start=st.integers(0, 40), rest=st.binary(max_size=200))
def test_random_bytes_after_a_valid_beginning(name: str, tmp_path: Path, start: int, rest: bytes) -> None:
    content, read = FORMATS[name]
    survives(read, tmp_path / "file.bin", content[:start] + rest)


OPCODES = b"(.012FGIJKLMNPQRSTUVXabcdeghijloqrstu}]){~" + bytes(range(0x80, 0x99))


@BOUNDED
@given(
    parts=st.lists(
        st.one_of(
            st.sampled_from([bytes([code]) for code in OPCODES]),
            st.sampled_from([b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"ctorch\nFloatStorage\n", b"cos\nsystem\n"]),
            st.binary(max_size=4),
        ),
        max_size=60,
    )
)
def test_random_opcodes(tmp_path: Path, parts: list[bytes]) -> None:
    survives(read_pickle, tmp_path / "file.bin", b"\x80\x04" + b"".join(parts) + b".")
