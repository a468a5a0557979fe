"""Files that try to run something or to exhaust the memory: refused by name, and nothing runs."""

import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drig.errors import DrigError
from drig.foreign.arrays import read_npz, read_object
from drig.foreign.pickles import read_pickle
from drig.foreign.torch_files import read_torch
from tests.foreign import crafted
from tests.foreign.crafted import (
    Write,
    array,
    blob,
    call,
    legacy,
    loaded,
    number,
    numbers,
    program,
    stored,
    tensor,
    text,
)

CARRIERS: dict[str, tuple[str, Callable[[bytes], bytes], Callable[[Path], Any]]] = {
    "pickle": ("model.pkl", program, read_pickle),
    "a tensor's storage": ("shape.pkl", lambda body: program(loaded(body)), read_pickle),
    "object .npy": ("landmarks.npy", crafted.object_npy, read_object),
    "PyTorch zip": ("model.pt", crafted.zipped, read_torch),
    "PyTorch legacy": ("deca_model.tar", legacy, read_torch),
}


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the payloads below would make, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "canary"


COMMAND = text("touch canary")
CODE = text("open('canary', 'w')")
RUNS = {
    "os.system": call("os", "system", COMMAND),
    "posix.system": call("posix", "system", COMMAND),
    "subprocess.check_output": call("subprocess", "check_output", COMMAND),
    "builtins.eval": call("builtins", "eval", CODE),
    "__builtin__.eval": call("__builtin__", "eval", CODE),
    "builtins.exec": call("builtins", "exec", CODE),
    "builtins.open": call("builtins", "open", text("canary"), text("w")),
    "io.open": call("io", "open", text("canary"), text("w")),
    "builtins.__import__": call("builtins", "__import__", text("this")),
    "builtins.getattr": call("builtins", "getattr", b"cos\nsystem\n", text("__call__")),
    "numpy.f2py.diagnose.run": call("numpy", "f2py.diagnose.run"),
    "numpy.f2py.crackfortran.getlincoef": call("numpy.f2py.crackfortran", "getlincoef", CODE, b"}"),
    "numpy.ndarray.tofile": call("numpy", "ndarray.tofile", text("canary")),
    "torch.hub.load": call("torch.hub", "load", text("canary")),
    "torch.load": call("torch", "load", text("canary")),
    "torch.serialization.load": call("torch.serialization", "load", text("canary")),
    "torch.jit.load": call("torch", "jit.load", text("canary")),
    "chumpy.ch.os.system": call("chumpy.ch", "os.system", COMMAND),
    "collections.OrderedDict.fromkeys": call("collections", "OrderedDict.fromkeys", text("ab")),
    "pickle.loads": call("pickle", "loads", blob(program(call("os", "system", COMMAND)))),
}


def refused(read: Callable[[Path], Any], path: Path) -> str:
    with pytest.raises(DrigError) as error:
        read(path)
    return str(error.value)


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("name", RUNS)
def test_whatever_would_run_is_refused_by_name(name: str, carrier: str, write: Write, canary: Path) -> None:
    file, wrap, read = CARRIERS[carrier]
    # The first of the names that the payload mentions; getattr's argument is evaluated after getattr itself.
    message = refused(read, write(file, wrap(RUNS[name])))
    assert f"{file} asks for {name}, which is not data: refused" in message
    assert not canary.exists()


def test_the_payloads_do_run_in_pickle_itself(canary: Path) -> None:
    import pickle

    pickle.loads(program(RUNS["os.system"]))
    assert canary.exists()


STEPS = {
    "stack global": (b"\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch canary\x85R", "os.system"),
    "old-style instance": (b"(" + COMMAND + b"ios\nsystem\n", "os.system"),
    "object from a mark": (b"(cos\nsystem\n" + COMMAND + b"o", "os.system"),
    "new object": (b"cos\nsystem\n" + COMMAND + b"\x85\x81", "os.system"),
    "new object of an array": (b"cnumpy\nndarray\nK\x09\x85\x81", "a call of numpy.ndarray"),
    "new object with keywords": (b"cnumpy\nndarray\n)}\x92", "opcode 0x92"),
    "extension 1": (b"\x82\x01", "an extension code"),
    "extension 2": (b"\x83\x01\x00", "an extension code"),
    "extension 4": (b"\x84\x01\x00\x00\x00", "an extension code"),
    "persistent id": (b"Psecret\n", "persistent id"),
    "binary persistent id": (b"K\x01Q", "persistent id"),
    "state of a function": (b"cnumpy\ndtype\n}" + text("__code__") + b"K\x01sb", "a change of numpy.dtype"),
    "state of a class": (b"cnumpy\nndarray\nN}" + text("x") + b"K\x01s\x86b", "a change of numpy.ndarray"),
    "state of a number": (b"K\x01}b", "a change of int"),
    "call of a class": (b"cnumpy\nndarray\n)R", "a call of numpy.ndarray"),
    "call of a result": (b"K\x07)R", "a call of int"),
    "array of objects": (array(b")", "O8", b"12345678"), "array of type 'O8'"),
    "array of text": (array(b")", "S8", b"12345678"), "array of type 'S8'"),
    "array with fields": (
        call("numpy", "dtype", text("f8")) + b"(K\x03" + text("<") + b"N" + text("ab") + b"}tb",
        "array with fields",
    ),
    "another encoding": (call("_codecs", "encode", text("a"), text("rot13")), "encoding 'rot13'"),
    "byte array": (b"\x96" + (1 << 40).to_bytes(8, "little"), "opcode 0x96"),
    "frozen set": (b"(\x91", "opcode 0x91"),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_that_are_no_data_are_refused(name: str, write: Write, canary: Path) -> None:
    body, what = STEPS[name]
    assert what in refused(read_pickle, write("model.pkl", b"\x80\x05" + body + b"."))
    assert not canary.exists()


def nested(depth: int) -> bytes:
    """A tensor whose storage lies in a file in a file ..."""
    body = call("torch.storage", "_load_from_bytes", blob(legacy(stored())))
    for _ in range(depth - 1):
        body = call("torch.storage", "_load_from_bytes", blob(legacy(body, {})))
    return program(tensor(body))


DAMAGE = {
    "a memo index of 4 billion": (program(b"]r\xff\xff\xff\xffq\x00h\x07"), read_pickle),
    "a long text that is not there": (program(b"X\xff\xff\xff\x7fabc"), read_pickle),
    "8 exabytes that are not there": (b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b"ab.", read_pickle),
    "a frame that is not there": (b"\x80\x04\x95" + (1 << 60).to_bytes(8, "little") + b"N.", read_pickle),
    "an array larger than its data": (program(array(numbers(1 << 40), "f8", b"12345678")), read_pickle),
    "an array of negative size": (program(array(numbers(-1), "f8", b"")), read_pickle),
    "no stop": (b"\x80\x02K\x01", read_pickle),
    "nothing": (b"", read_pickle),
    "a key that is a list": (program(b"}]K\x01s"), read_pickle),
    "a key that nests deeply": (program(b"}" + b")" + b"\x85" * 50_000 + b"K\x01s"), read_pickle),
    "an item of an array": (program(array(numbers(1), "f8", b"12345678") + b"K\x00K\x01s"), read_pickle),
    "deep nesting": (program(b")" + b"\x85" * 50_000), read_pickle),
    "deep nesting of lists": (program(b"](" * 25_000 + b"e" * 25_000), read_pickle),
    "deep nesting of files": (nested(60), read_pickle),
    "the same bytes a thousand times": (
        program(
            blob(bytes(1 << 20))
            + b"q\x01]("
            + array(numbers(1 << 20), "i1", b"").replace(blob(b""), b"h\x01") * 1000
            + b"e"
        ),
        read_pickle,
    ),
    "a tensor larger than its storage": (crafted.zipped(tensor(stored(), numbers(5))), read_torch),
    "a tensor beyond its storage": (crafted.zipped(tensor(stored(), offset=b"K\x01")), read_torch),
    "a tensor before its storage": (crafted.zipped(tensor(stored(), offset=number(-1))), read_torch),
    "expanding strides": (crafted.zipped(tensor(stored(), numbers(1 << 40), numbers(0))), read_torch),
    "huge strides": (crafted.zipped(tensor(stored(), numbers(2), numbers(1 << 60))), read_torch),
    "many dimensions": (crafted.zipped(tensor(stored(), numbers(*[1] * 500), numbers(*[1] * 500))), read_torch),
    "a storage longer than its entry": (crafted.zipped(tensor(stored(count=1 << 40))), read_torch),
    "a storage without an entry": (crafted.zipped(tensor(stored(key="../../x"))), read_torch),
    "a legacy storage longer than the file": (legacy(tensor(stored(count=1 << 26))), read_torch),
    "a legacy storage of another length": (legacy(tensor(stored(count=3), numbers(3))), read_torch),
    "a legacy storage that no tensor has": (legacy(b"N"), read_torch),
    "a hostile kind of storage": (crafted.zipped(tensor(stored(kind="numpy\nndarray"))), read_torch),
    "a persistent id of no storage": (crafted.zipped(tensor(stored(tag="module"))), read_torch),
    "a compressed PyTorch file": (
        crafted.zipped(tensor(stored()), {"0": bytes(16)}, zipfile.ZIP_DEFLATED),
        read_torch,
    ),
    "an encrypted-looking zip": (
        crafted.zipped(tensor(stored())).replace(
            b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00"
        ),
        read_torch,
    ),
    "an archive of something else": (b"PK\x05\x06" + bytes(18), read_torch),
    "text": (b"Dear Sir\n" * 9, read_torch),
    "an .npy with a huge shape": (
        crafted.npy("{'descr': '|O', 'fortran_order': False, 'shape': (99999999,)}"),
        read_object,
    ),
    "an .npy of numbers": (crafted.npy("{'descr': '<f8', 'fortran_order': False, 'shape': ()}", bytes(8)), read_object),
    "an .npy with a program as header": (crafted.npy("__import__('os').system('touch canary')"), read_object),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_and_bombs_are_one_error_and_little_memory(name: str, write: Write, canary: Path) -> None:
    content, read = DAMAGE[name]
    path = write("file.bin", content)
    tracemalloc.start()
    try:
        assert "file.bin" in refused(read, path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 150 * len(content) + (1 << 20)
    assert not canary.exists()


def test_one_file_may_lie_in_another_but_no_third_in_that(write: Write) -> None:
    assert read_pickle(write("shape.pkl", nested(1))).tolist() == [0, 1, 2, 3]
    assert "a pickle in a pickle in a pickle" in refused(read_pickle, write("shape.pkl", nested(2)))


def test_too_many_steps_are_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs some memory however short it is."""
    monkeypatch.setattr("drig.foreign.pickles.MOST_STEPS", 1000)
    assert len(read_pickle(write("model.pkl", program(b"(" + b"]" * 990 + b"t")))) == 990
    assert "more than 1,000 steps" in refused(read_pickle, write("model.pkl", program(b"(" + b"]" * 1000 + b"t")))


def test_a_zip_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "FLAME_texture.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        header = crafted.npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4194304,)}")
        archive.writestr("mean.npy", header + bytes(8 << 22))
    tracemalloc.start()
    try:
        assert "compressed" in refused(lambda path: read_npz(path, "mean"), path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", ["(1099511627776,)", "(3,)", "(-4,)", "(2, 2, 2)"])
def test_an_npz_array_is_as_long_as_it_says(shape: str, tmp_path: Path) -> None:
    path = tmp_path / "FLAME_texture.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "mean.npy", crafted.npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}", bytes(32))
        )
    assert "an array" in refused(lambda path: read_npz(path, "mean"), path)


def test_globals_are_never_the_real_thing(write: Write) -> None:
    value = read_pickle(write("model.pkl", program(b"cnumpy\nndarray\n")))
    assert value is not np.ndarray
    with pytest.raises(AttributeError):
        value.name = "system"
    assert not callable(value)


def test_long_and_strange_names_are_shown_in_short(write: Write) -> None:
    path = write("model.pkl", program(b"cos\n" + b"\x1b[31m" * 5000 + b"\n"))
    message = refused(read_pickle, path)
    assert "\x1b" not in message
    assert len(message) < 1000 + len(str(path))
