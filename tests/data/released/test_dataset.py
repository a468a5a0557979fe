"""A released data set: its exact values, and a store's way into one and back."""

import pickle
from collections.abc import Callable, Iterable
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch

from drig.data.photos import to_network
from drig.data.released.conversion import export_released, import_released
from drig.data.released.dataset import ReleasedDataset, ReleasedDatasetWriter
from drig.data.store import BufferStore, BufferStoreWriter
from drig.errors import DrigError, PhotoRejected
from tests import parity
from tests.data.test_records import ball, decibels

KEYS = ["ada/0.jpg", "ada/1.jpg", "bob/0.jpg", "bob/1.jpg", "cyd.jpg"]


def silently(faces: Iterable[int], total: int) -> Iterable[int]:
    return faces


def convert(path: Path, out: Path, progress: Callable[[Iterable[int], int], Iterable[int]] = silently) -> list[str]:
    return import_released(path, out, mean_shape=None, size=None, progress=progress)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with BufferStoreWriter(tmp_path / "store", size=32, head="flame", estimator="deca") as writer:
        for seed, key in enumerate(KEYS):
            writer.put(ball(32, key=key, seed=seed))
    return tmp_path / "store"


@pytest.fixture
def released(store: Path, tmp_path: Path) -> Path:
    export_released(store, tmp_path / "released", base=None, progress=silently)
    return tmp_path / "released"


def change(path: Path, entries: dict[str, bytes | None]) -> None:
    """Replace or remove entries of an LMDB."""
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            if value is None:
                transaction.delete(key.encode())
            else:
                transaction.put(key.encode(), value)


def test_the_released_values_exactly(shared: Path) -> None:
    with ReleasedDataset(shared / "parity" / "reference_dataset.lmdb") as dataset:
        assert len(dataset) == 3
        for i in range(3):
            face = dataset.read(i)
            np.testing.assert_array_equal(face.albedo, parity.rand(f"albedo_{i}", 3, 32, 32))
            np.testing.assert_array_equal(face.rendered, parity.rand(f"rendered_{i}", 3, 32, 32))
            np.testing.assert_array_equal(face.normal, parity.randn(f"normal_{i}", 3, 32, 32).clamp(-1, 1))
            np.testing.assert_array_equal(face.image, (parity.rand(f"image_{i}", 32, 32, 3) * 255).to(torch.uint8))


def test_random_numbers_have_no_light(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(DrigError, match=r"not one of the 3 faces .*\n.*rejected 3: no light explains"):
        convert(shared / "parity" / "reference_dataset.lmdb", tmp_path / "store")
    assert set(BufferStore(tmp_path / "store").rejects) == {"000000", "000001", "000002"}


def test_a_store_exported_and_imported_gives_the_same_numbers(store: Path, released: Path, tmp_path: Path) -> None:
    lines = convert(released, tmp_path / "again")
    assert "5 faces of 32 px" in lines[0]
    ours, again = BufferStore(store), BufferStore(tmp_path / "again")
    assert again.keys() == ["000000", "000001", "000002", "000003", "000004"]
    assert (again.manifest.kind.head, again.manifest.kind.estimator) == ("flame", "deca")
    for i in range(5):
        before, after = ours.read(i), again.read(i)
        np.testing.assert_array_equal(after.image, before.image)
        np.testing.assert_array_equal(after.alpha, before.alpha)
        np.testing.assert_array_equal(after.normal, before.normal)  # both are multiples of 1/127
        np.testing.assert_array_equal(after.albedo, before.albedo)
        np.testing.assert_allclose(after.light, before.light, atol=1e-4)
        assert decibels(after.rendered - before.rendered) > 90
        assert after.landmarks is None
        image, buffers = again.read_for_network(i)
        torch.testing.assert_close(image, to_network(before.image))
        assert buffers.shape == (9, 32, 32)


def test_an_exported_data_set_is_what_the_released_implementation_reads(store: Path, released: Path) -> None:
    """By LMDB and plain pickle, as it does."""
    with lmdb.open(str(released), readonly=True, lock=False) as environment, environment.begin() as transaction:
        assert transaction.get(b"length") == b"5"
        record = BufferStore(store).read(1)
        for name in ("normal", "albedo", "rendered"):
            content = transaction.get(f"{name}_000001".encode())
            assert content is not None
            tensor = pickle.loads(content)
            assert tensor.dtype == torch.float32
            np.testing.assert_array_equal(tensor, getattr(record, name))
            assert len(content) < tensor.numel() * 4 + 1000
        image = transaction.get(b"image_000001")
        assert image is not None
        assert image.startswith(b"\x89PNG")


def test_records_that_cannot_be_used_are_rejects_with_their_reasons(released: Path, tmp_path: Path) -> None:
    small = pickle.dumps(torch.zeros(3, 16, 16))
    hostile = b"cos\nsystem\n(S'touch canary'\ntR."
    change(released, {"albedo_000001": None, "normal_000002": small, "rendered_000003": hostile, "image_000004": b"x"})
    lines = convert(released, tmp_path / "imported")
    store = BufferStore(tmp_path / "imported")
    assert store.keys() == ["000000"]
    assert store.rejects["000001"] == "albedo is missing"
    assert "normal is (3, 16, 16)" in store.rejects["000002"]
    assert "asks for os.system" in store.rejects["000003"]
    assert "not a photo" in store.rejects["000004"]
    assert any("4 rejected" in line for line in lines)


def test_the_same_command_continues_an_import(released: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    def stops_after_two(faces: Iterable[int], total: int) -> Iterable[int]:
        for index in faces:
            if len(seen) == 2:
                raise KeyboardInterrupt
            seen.append(index)
            yield index

    with pytest.raises(KeyboardInterrupt):
        convert(released, tmp_path / "imported", stops_after_two)
    rest: list[tuple[list[int], int]] = []

    def note(faces: Iterable[int], total: int) -> Iterable[int]:
        rest.append((list(faces), total))
        return rest[-1][0]

    convert(released, tmp_path / "imported", note)
    assert rest == [([2, 3, 4], 3)]
    assert len(BufferStore(tmp_path / "imported")) == 5


def test_another_data_set_does_not_continue_it(store: Path, released: Path, tmp_path: Path) -> None:
    with pytest.raises(DrigError, match="holds other faces"):
        convert(released, store)
    convert(released, tmp_path / "imported")
    with ReleasedDatasetWriter(tmp_path / "other") as writer:
        writer.add(ball(32, key="else", seed=9))
    with pytest.raises(DrigError, match="holds other faces"):
        convert(tmp_path / "other", tmp_path / "imported")


def test_the_same_command_continues_an_export(store: Path, tmp_path: Path) -> None:
    def stops_at_two(faces: Iterable[int], total: int) -> Iterable[int]:
        for index in faces:
            if index == 2:
                raise KeyboardInterrupt
            yield index

    out = tmp_path / "exports" / "released"
    with pytest.raises(KeyboardInterrupt):
        export_released(store, out, base=None, progress=stops_at_two)
    assert not out.exists()
    other = tmp_path / "other"
    with BufferStoreWriter(other, size=32, head="flame", estimator="deca") as writer:
        writer.put(ball(32, key="else", seed=9))
    with pytest.raises(DrigError, match="begun from another store"):
        export_released(other, out, base=None, progress=silently)
    export_released(store, out, base=None, progress=lambda faces, total: faces if total == 3 else [])
    with ReleasedDataset(out) as dataset:
        assert len(dataset) == 5
        np.testing.assert_array_equal(dataset.read(4).image, BufferStore(store).read(4).image)
    with pytest.raises(DrigError, match="is there already"):
        export_released(store, out, base=None, progress=silently)


@pytest.mark.parametrize("length", [None, b"many", b"-3", b"99999999999"])
def test_a_length_that_cannot_be_is_no_data_set(length: bytes | None, released: Path) -> None:
    change(released, {"length": length})
    with pytest.raises(DrigError, match="no released data set"):
        ReleasedDataset(released)


def test_a_file_that_ends_its_reader_stops_the_import(released: Path, tmp_path: Path) -> None:
    content = (released / "data.mdb").read_bytes()
    (released / "data.mdb").write_bytes(content[: len(content) // 4])
    with pytest.raises(DrigError, match="damaged"):
        convert(released, tmp_path / "store")


def test_numbers_that_are_not_finite_are_rejected(released: Path) -> None:
    change(released, {"albedo_000000": pickle.dumps(torch.full((3, 32, 32), torch.nan))})
    with ReleasedDataset(released) as dataset, pytest.raises(PhotoRejected, match="not finite"):
        dataset.read(0)


def test_a_large_record_grows_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drig.data.released.dataset._FIRST_MAP_SIZE", 1 << 16)
    with ReleasedDatasetWriter(tmp_path / "released") as writer:
        writer.add(ball(96))
        writer.add(ball(96, seed=1))
    with ReleasedDataset(tmp_path / "released") as dataset:
        np.testing.assert_array_equal(dataset.read(1).image, ball(96, seed=1).image)
