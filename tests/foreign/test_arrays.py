import io
from pathlib import Path

import numpy as np
import pytest

from drig.errors import DrigError
from drig.foreign.arrays import read_npz, read_object
from drig.foreign.rebuild import as_array


@pytest.mark.parametrize("last", [None, 2, 9])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_an_npz(save: type, order: str, last: int | None, tmp_path: Path) -> None:
    basis = np.asarray(np.random.default_rng(0).normal(size=(4, 5, 3, 7)), order=order)  # type: ignore[call-overload]
    save(tmp_path / "texture.npz", basis=basis, number=np.float32(3), none=np.zeros((0, 4)))
    np.testing.assert_array_equal(read_npz(tmp_path / "texture.npz", "basis", last), basis[..., :last])
    assert read_npz(tmp_path / "texture.npz", "number") == 3
    assert read_npz(tmp_path / "texture.npz", "none").shape == (0, 4)


def test_an_array_larger_than_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drig.foreign.arrays._BLOCK", 100)
    basis = np.random.default_rng(0).normal(size=(40, 7))
    np.savez(tmp_path / "texture.npz", basis=basis)
    np.testing.assert_array_equal(read_npz(tmp_path / "texture.npz", "basis", 3), basis[:, :3])


def test_an_array_that_is_not_there_or_holds_objects(tmp_path: Path) -> None:
    np.savez(tmp_path / "texture.npz", mean=np.array([{}], object))
    with pytest.raises(DrigError, match="holds no array 'tex_dir'"):
        read_npz(tmp_path / "texture.npz", "tex_dir")
    with pytest.raises(DrigError, match="an array of object"):
        read_npz(tmp_path / "texture.npz", "mean")


def test_the_object_in_an_npy(tmp_path: Path) -> None:
    value = {"faces": np.arange(4), "names": ["a", "b"]}
    np.save(tmp_path / "embedding.npy", value)  # type: ignore[arg-type]
    read = read_object(tmp_path / "embedding.npy")
    np.testing.assert_array_equal(read["faces"], value["faces"])
    assert read["names"] == ["a", "b"]


def test_the_landmark_embedding_of_the_fixtures(shared: Path) -> None:
    path = shared / "parity" / "flame_landmark_embedding.npy"
    read = read_object(path)
    expected = np.load(io.BytesIO(path.read_bytes()), allow_pickle=True)[()]  # our own fixture
    assert read.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(as_array(read[name]), array)
