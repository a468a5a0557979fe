import random
import re
import shutil
from pathlib import Path

import lmdb
import pytest

from drig.errors import DrigError
from drig.foreign.lmdb_reader import LmdbReader


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """60 values of up to 60 kB."""
    path = tmp_path / "dataset.lmdb"
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for i in range(60):
            transaction.put(f"image_{i:06d}".encode(), bytes([i]) * 1000 * i)
    return path


def test_values_by_key(database: Path) -> None:
    with LmdbReader(database) as reader:
        assert reader.get("image_000007") == bytes([7]) * 7000
        assert reader.get("image_000000") == b""
        assert reader.get("length") is None
    with LmdbReader(database / "data.mdb") as reader:
        assert reader.get("image_000003") == bytes([3]) * 3000


def test_no_lmdb_there(tmp_path: Path) -> None:
    with pytest.raises(DrigError, match=r"no data\.mdb"):
        LmdbReader(tmp_path)


@pytest.mark.parametrize("content", [b"", b"Dear Sir", bytes(9000)])
def test_another_kind_of_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    with LmdbReader(tmp_path) as reader, pytest.raises(DrigError, match="damaged"):
        reader.get("length")


def test_a_file_that_ends_its_reader_is_an_error(database: Path) -> None:
    content = (database / "data.mdb").read_bytes()
    (database / "data.mdb").write_bytes(content[: len(content) // 3])
    with LmdbReader(database) as reader, pytest.raises(DrigError, match="damaged: its reader was ended"):
        [reader.get(f"image_{i:06d}") for i in range(60)]


def test_bytes_that_flipped_never_end_this_process(database: Path, tmp_path: Path) -> None:
    content = (database / "data.mdb").read_bytes()
    entries = [match.start() for match in re.finditer(b"image_", content)]  # a key between its lengths and its page
    rng = random.Random(0)
    errors = 0
    for _ in range(12):
        damaged = bytearray(content)
        for entry in entries:
            damaged[entry + rng.randrange(-8, 20)] = rng.randrange(256)
        shutil.rmtree(tmp_path / "damaged", ignore_errors=True)
        (tmp_path / "damaged").mkdir()
        (tmp_path / "damaged" / "data.mdb").write_bytes(damaged)
        try:
            with LmdbReader(tmp_path / "damaged") as reader:
                for i in range(0, 60, 5):
                    reader.get(f"image_{i:06d}")
        except DrigError:
            errors += 1
    assert errors > 3
