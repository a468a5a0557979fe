"""What honest pickles hold comes out as it went in, whatever wrote them."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from drig.errors import DrigError
from drig.foreign.pickles import read_pickle
from drig.foreign.rebuild import ChumpyArray, SparseMatrix, as_array
from tests import parity
from tests.foreign.crafted import Write

ARRAYS: dict[str, np.ndarray] = {
    "double": np.linspace(0, 1, 7),
    "fortran": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
    "big endian": np.arange(5, dtype=">i4"),
    "unsigned": np.array([[4294967295, 0]], np.uint32),
    "half": np.arange(3, dtype=np.float16),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 3)),
    "number": np.array(3.5),
}


@pytest.mark.parametrize("protocol", range(5))
def test_arrays_and_plain_values(protocol: int, write: Write) -> None:
    value: dict[str, Any] = {
        **ARRAYS,
        "list": [1, -2.5, "ß", None, True, 1 << 80],
        "tuple": (b"bytes", np.float32(0.5)),
        "no bytes": b"",
    }
    read = read_pickle(write("model.pkl", pickle.dumps(value, protocol)))
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
    assert read["list"] == value["list"]
    assert read["tuple"] == (b"bytes", 0.5)


def test_a_chumpy_expression_is_kept_but_not_computed(write: Write) -> None:
    """`chumpy.reordering.Select` and the like: what does not need their numbers can still be read."""
    made = b"ccopy_reg\n_reconstructor\n(cchumpy.reordering\nSelect\nc__builtin__\nobject\nNtR(dS'a'\nI1\nsb"
    written = b"(dp0\nS'J'\n" + made + b"sS'n'\nI2\ns."
    read = read_pickle(write("model.pkl", written))
    assert read["n"] == 2
    with pytest.raises(TypeError, match="chumpy expression"):
        as_array(read["J"])


def test_tensors_in_a_plain_pickle(write: Write) -> None:
    whole = torch.arange(24.0).reshape(2, 3, 4)
    value = OrderedDict(
        whole=whole, part=whole[1, :, ::2], half=whole.half(), ints=whole.long(), none=torch.zeros(0, 3)
    )
    value["parameter"] = torch.nn.Parameter(torch.ones(2))
    read = read_pickle(write("buffers.pkl", pickle.dumps(value)))
    assert list(read) == list(value)
    for name, tensor in value.items():
        assert torch.equal(read[name], tensor), name
        assert read[name].dtype == tensor.dtype


@pytest.mark.parametrize("kind", [scipy.sparse.csc_matrix, scipy.sparse.csr_matrix])
def test_sparse_matrices(kind: Any, write: Write) -> None:
    dense = np.zeros((5, 40))
    dense[[0, 1, 1, 4], [3, 0, 39, 7]] = [1, 2, 3, 4]
    read = read_pickle(write("regressor.pkl", pickle.dumps(kind(dense), 2)))
    assert isinstance(read, SparseMatrix)
    np.testing.assert_array_equal(as_array(read), dense)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("_shape", (5, 41)),
        ("_shape", (1 << 40, 40)),
        ("indices", np.array([0, 1, 1, 5], np.int32)),
        ("indices", np.array([0, 1, 1, -1], np.int32)),
        ("indptr", np.arange(41, dtype=np.int32)),
        ("indptr", np.array([9, *[0] * 39, 4], np.int32)),
        ("data", np.zeros(3)),
        ("data", "four"),
    ],
)
def test_a_sparse_matrix_that_contradicts_itself_is_no_array(field: str, value: object) -> None:
    dense = np.zeros((5, 40))
    dense[[0, 1, 1, 4], [3, 0, 39, 7]] = [1, 2, 3, 4]
    state = dict(vars(scipy.sparse.csc_matrix(dense)))
    with pytest.raises((ValueError, TypeError)):
        as_array(SparseMatrix(False, {**state, field: value}))


def test_python_2_wrote_text_where_bytes_belong(write: Write) -> None:
    """Protocol 0, as NumPy 1 of Python 2 and chumpy wrote the first head models."""
    program = (
        rb"(dp0"
        b"\n"
        rb"S'v_template'"
        b"\n"
        b"p1\n"
        b"ccopy_reg\n_reconstructor\np2\n(cchumpy.ch\nCh\np3\nc__builtin__\nobject\np4\nNtp5\nRp6\n"
        b"(dp7\nS'x'\np8\n"
        b"cnumpy.core.multiarray\n_reconstruct\np9\n(cnumpy\nndarray\np10\n(I0\ntp11\nS'b'\np12\ntp13\nRp14\n"
        b"(I1\n(L2L\ntp15\ncnumpy\ndtype\np16\n(S'f8'\np17\nI0\nI1\ntp18\nRp19\n(I3\nS'<'\np20\nNNNI-1\nI-1\nI0\ntp21\nb"
        b"I00\nS'"
        + b"\\x00\\x00\\x00\\x00\\x00\\x00\\xf0?\\x00\\x00\\x00\\x00\\x00\\x00\\x04\\xc0"
        + b"'\np22\ntp23\nb"
        b"sS'_dirty_vars'\np24\nc__builtin__\nset\np25\n((lp26\ntp27\nRp28\nsbs."
    )
    read = read_pickle(write("generic_model.pkl", program))
    assert isinstance(read["v_template"], ChumpyArray)
    np.testing.assert_array_equal(as_array(read["v_template"]), [1.0, -2.5])


def test_python_2_wrote_tensors_so_too(write: Write) -> None:
    content = pickle.dumps(torch.arange(3.0), 2)
    start = content.index(b"c_codecs\nencode\n")  # how Python 3 writes bytes for Python 2
    end = content.index(b"R", content.index(b"latin1", start)) + 1
    storage = made_by(content[start:end])
    as_text = b"T" + len(storage).to_bytes(4, "little") + storage
    read = read_pickle(write("landmarks.pkl", content[:start] + as_text + content[end:]))
    assert torch.equal(read, torch.arange(3.0))


def made_by(program: bytes) -> bytes:
    """What a part of a pickle of ours makes."""
    made = pickle.loads(b"\x80\x02" + program + b".")
    assert isinstance(made, bytes)
    return made


def test_both_head_models_of_the_fixtures_hold_the_same_numbers(shared: Path) -> None:
    plain = read_pickle(shared / "parity" / "flame_generic_model.pkl")
    chumpy = read_pickle(shared / "parity" / "flame_generic_model_chumpy.pkl")
    assert isinstance(chumpy["J_regressor"], SparseMatrix)
    assert isinstance(chumpy["shapedirs"], ChumpyArray)
    for name, value in plain.items():
        np.testing.assert_allclose(as_array(chumpy[name]), as_array(value), rtol=1e-7)


def test_the_released_mean_shape(shared: Path) -> None:
    mean_shape = read_pickle(shared / "parity" / "reference_dataset.lmdb" / "mean_shape.pkl")
    assert torch.equal(mean_shape, parity.randn("mean_shape", 1, 100))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DrigError, match=r"cannot read .*nothing\.pkl: No such file"):
        read_pickle(tmp_path / "nothing.pkl")
