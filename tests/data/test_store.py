import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from drig.data.items import unpacked
from drig.data.records import encode
from drig.data.store import (
    BufferStore,
    BufferStoreWriter,
    PackedDataset,
    Shard,
    ShardWriter,
    StoreDataset,
    commit_shards,
    resume,
)
from drig.data.store import writing as store_writing
from drig.errors import DrigError
from tests.data.test_records import ball

KIND: dict[str, Any] = {"size": 16, "head": "open", "estimator": "fit"}


def write(folder: Path, keys: list[str], *, seed: int = 0) -> None:
    with BufferStoreWriter(folder, **KIND) as writer:
        for key in keys:
            writer.put(ball(16, key=key, seed=seed))


def write_shard(folder: Path, keys: list[str], *, seed: int = 0) -> Shard:
    with ShardWriter(folder, **KIND) as writer:
        for key in keys:
            writer.put(ball(16, key=key, seed=seed))
    return writer.shard


def files(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


def test_records_are_read_back_by_key_and_in_the_order_of_keys(tmp_path: Path) -> None:
    write(tmp_path, ["c", "a", "b/2.png"])
    store = BufferStore(tmp_path)
    assert (len(store), store.size, store.keys()) == (3, 16, ["a", "b/2.png", "c"])
    np.testing.assert_array_equal(store.read("c").image, ball(16, key="c").image)
    assert store.read(1).key == "b/2.png"
    with pytest.raises(DrigError, match="no record 'd'"):
        store.read("d")


def test_the_same_key_again_replaces(tmp_path: Path) -> None:
    with BufferStoreWriter(tmp_path, **KIND) as writer:
        writer.put(ball(16, key="a", seed=1))
        writer.put(ball(16, key="a", seed=2))
    write(tmp_path, ["b"])
    np.testing.assert_array_equal(BufferStore(tmp_path).read("a").image, ball(16, key="a", seed=2).image)
    write(tmp_path, ["a"], seed=3)
    store = BufferStore(tmp_path)
    assert store.keys() == ["a", "b"]
    np.testing.assert_array_equal(store.read("a").image, ball(16, key="a", seed=3).image)


def test_how_records_fall_into_shards_changes_nothing(tmp_path: Path) -> None:
    for name, split in (("one", [["a", "b", "c", "d"]]), ("many", [["d"], ["b", "a"], ["c"]])):
        commit_shards(tmp_path / name, [write_shard(tmp_path / name, keys) for keys in split])
    one, many = PackedDataset(tmp_path / "one"), PackedDataset(tmp_path / "many")
    assert one.store.keys() == many.store.keys()
    for i in range(4):
        assert all(torch.equal(tensor, many[i][name]) for name, tensor in one[i].items())


def test_a_shard_grows_beyond_its_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_writing, "_FIRST_MAP_SIZE", 1 << 15)
    write(tmp_path, [f"{i:03}" for i in range(100)])
    store = BufferStore(tmp_path)
    assert len(store) == 100
    assert store.read("099").key == "099"


def test_a_single_writer_commits_shards_as_they_fill_up(tmp_path: Path) -> None:
    with BufferStoreWriter(tmp_path, shard=2, **KIND) as writer:
        for key in "abcd":
            writer.put(ball(16, key=key))
        writer.put_encoded("e", encode(ball(16, key="e")))
        assert BufferStore(tmp_path).keys() == ["a", "b", "c", "d"]
    assert [shard.count for shard in BufferStore(tmp_path).manifest.shards] == [2, 2, 1]


def put_then_stop(writer: BufferStoreWriter | ShardWriter, key: str) -> None:
    with writer:
        writer.put(ball(16, key=key))
        raise KeyboardInterrupt


def test_an_error_keeps_what_was_put_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        put_then_stop(BufferStoreWriter(tmp_path, **KIND), "a")
    assert BufferStore(tmp_path).keys() == ["a"]
    with pytest.raises(KeyboardInterrupt):
        put_then_stop(ShardWriter(tmp_path, **KIND), "b")
    assert files(tmp_path, "*.tmp") == []
    assert len(files(tmp_path, "shard-*")) == 1


KILLED = """
import os, sys
from pathlib import Path
from drig.data import store
from tests.data.test_records import ball
writer = store.BufferStoreWriter(Path(sys.argv[1]), size=16, head="open", estimator="fit", shard=2).__enter__()
for key in "abc":
    writer.put(ball(16, key=key))
os.kill(os.getpid(), 9)
"""


def test_a_killed_writer_leaves_what_it_committed_and_the_same_command_goes_on(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=root, check=False)
    assert BufferStore(tmp_path).keys() == ["a", "b"]
    assert len(files(tmp_path, "*.tmp")) == 1
    with BufferStoreWriter(tmp_path, **KIND) as writer:
        assert writer.done == {"a", "b"}
        writer.put(ball(16, key="c"))
    assert BufferStore(tmp_path).keys() == ["a", "b", "c"]
    assert files(tmp_path, "*.tmp") == []


def test_finished_shards_that_no_driver_committed_are_taken_over(tmp_path: Path) -> None:
    commit_shards(tmp_path, [write_shard(tmp_path, ["a"])])
    with ShardWriter(tmp_path, **KIND) as writer:
        writer.put(ball(16, key="b"))
        writer.reject("c", "no face found")
    assert BufferStore(tmp_path).keys() == ["a"]
    assert resume(tmp_path, **KIND) == {"a", "b", "c"}
    store = BufferStore(tmp_path)
    assert store.keys() == ["a", "b"]
    assert store.rejects == {"c": "no face found"}
    assert resume(tmp_path, **KIND) == {"a", "b", "c"}
    assert len(files(tmp_path, "shard-*.lmdb")) == 2


def test_committing_twice_counts_once(tmp_path: Path) -> None:
    shard = pickle.loads(pickle.dumps(write_shard(tmp_path, ["a"])))
    commit_shards(tmp_path, [shard])
    manifest = commit_shards(tmp_path, [shard])
    assert [listed.count for listed in manifest.shards] == [1]


def test_rejects_are_kept_until_the_photo_is_stored(tmp_path: Path) -> None:
    with BufferStoreWriter(tmp_path, **KIND) as writer:
        writer.put(ball(16, key="a"))
        writer.reject("b", "no face found")
        writer.reject("c", "the file is empty")
    write(tmp_path, ["b"])
    store = BufferStore(tmp_path)
    assert store.rejects == {"c": "the file is empty"}
    assert resume(tmp_path, **KIND) == {"a", "b", "c"}


def test_nothing_done_yet_is_no_error(tmp_path: Path) -> None:
    assert resume(tmp_path / "new", **KIND) == set()
    assert not (tmp_path / "new").exists()


def test_a_store_of_another_kind_is_not_added_to(tmp_path: Path) -> None:
    write(tmp_path, ["a"])
    for change in ({"size": 32}, {"head": "flame"}, {"estimator": "deca"}):
        with pytest.raises(DrigError, match="16 px, head open, estimator fit"):
            resume(tmp_path, **{**KIND, **change})
        with ShardWriter(tmp_path, **{**KIND, **change}) as writer:
            pass
        with pytest.raises(DrigError, match="name another folder"):
            commit_shards(tmp_path, [writer.shard])
    with pytest.raises(DrigError, match="24 px"), ShardWriter(tmp_path, **KIND) as writer:
        writer.put(ball(24))


def change_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_is_no_intact_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(DrigError, match=r"has no manifest\.json"):
        BufferStore(tmp_path / "absent")
    write(tmp_path, ["a"])
    change_manifest(tmp_path, size=32)
    with pytest.raises(DrigError, match="holds 32 px"):
        BufferStore(tmp_path)
    change_manifest(tmp_path, size=16, version=1)
    with pytest.raises(DrigError, match="version 1; this drig reads drig-buffers version 2: extract the photos again"):
        BufferStore(tmp_path)
    for content in ("not json", "[]", '{"format": "drig-buffers", "version": 2}'):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(DrigError, match="damaged"):
            BufferStore(tmp_path)
    with pytest.raises(DrigError, match="local folder"):
        BufferStore("s3://bucket/store")


def test_a_shard_cut_short_or_lost_is_found_when_the_store_is_opened(tmp_path: Path) -> None:
    write(tmp_path, ["a", "b"])
    [shard] = tmp_path.glob("shard-*.lmdb")
    content = shard.read_bytes()
    shard.write_bytes(content[:-4096])
    with pytest.raises(DrigError, match="bytes instead of"):
        BufferStore(tmp_path)
    shard.write_bytes(b"x" * len(content))
    with pytest.raises(DrigError, match="cannot be read"):
        BufferStore(tmp_path)
    shard.unlink()
    with pytest.raises(DrigError, match="0 bytes instead of"):
        BufferStore(tmp_path)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    write(tmp_path, ["a"])
    [shard] = tmp_path.glob("shard-*.lmdb")
    content = bytearray(shard.read_bytes())
    light = ball(16, key="a").light.tobytes()
    content[content.index(light)] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DrigError, match="'a': these bytes are no intact record"):
        BufferStore(tmp_path).read("a")


def test_keys_that_lmdb_cannot_hold_are_refused(tmp_path: Path) -> None:
    for key in ("", "\0a", "x" * 512):
        with pytest.raises(DrigError, match="1 to 511 bytes"), ShardWriter(tmp_path, **KIND) as writer:
            writer.put(ball(16, key=key))


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DrigError, match="cannot write"):
        ShardWriter(tmp_path / "file" / "store", **KIND)


def test_items_are_what_the_network_takes(tmp_path: Path) -> None:
    write(tmp_path, ["a", "b"])
    dataset = StoreDataset(tmp_path)
    assert len(dataset) == 2
    item, record = dataset[1], dataset.store.read("b")
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in item.items()} == {
        "image": ((3, 16, 16), torch.float32),
        "buffers": ((9, 16, 16), torch.float32),
    }
    np.testing.assert_allclose(item["image"].numpy(), np.moveaxis(record.image, 2, 0) / 127.5 - 1, atol=1e-6)
    stacked = np.concatenate([record.rendered, record.normal, record.albedo])
    np.testing.assert_allclose(item["buffers"].numpy(), stacked, atol=1e-6)
    with pytest.raises(IndexError):
        dataset[2]


def test_packed_items_are_bytes_and_unpack_to_the_same_numbers(tmp_path: Path) -> None:
    write(tmp_path, ["a", "b"])
    packed, dataset = PackedDataset(tmp_path), StoreDataset(tmp_path)
    [batch] = DataLoader(packed, batch_size=2)
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in batch.items()} == {
        "image": ((2, 3, 16, 16), torch.uint8),
        "normal": ((2, 3, 16, 16), torch.int8),
        "albedo": ((2, 3, 16, 16), torch.uint8),
        "light": ((2, 9, 3), torch.float32),
    }
    for name, tensor in unpacked(batch).items():
        assert torch.equal(tensor, torch.stack([dataset[0][name], dataset[1][name]]))


def test_a_store_of_rejects_alone_is_no_training_data(tmp_path: Path) -> None:
    with BufferStoreWriter(tmp_path, **KIND) as writer:
        writer.reject("a", "no face found")
    with pytest.raises(DrigError, match="all 1 photos were rejected"):
        StoreDataset(tmp_path)


def test_two_readers_of_one_store_share_its_files(tmp_path: Path) -> None:
    write(tmp_path, ["a"])
    first, second = BufferStore(tmp_path), BufferStore(tmp_path)
    assert first.read("a").key == second.read("a").key == pickle.loads(pickle.dumps(first)).read("a").key


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_workers_read_what_the_parent_has_open(tmp_path: Path) -> None:
    write(tmp_path, [f"{i:02}" for i in range(8)])
    dataset = StoreDataset(tmp_path)
    expected = torch.stack([dataset[i]["image"] for i in range(8)])  # opens the shard in this process
    loader = DataLoader(dataset, batch_size=2, num_workers=2, multiprocessing_context="fork")
    for _ in range(2):
        assert torch.equal(torch.cat([batch["image"] for batch in loader]), expected)
    assert torch.equal(dataset[3]["image"], expected[3])


def test_records_encoded_elsewhere_are_checked_on_the_way_in(tmp_path: Path) -> None:
    content = encode(ball(16, key="a"))
    with ShardWriter(tmp_path, **KIND) as writer:
        writer.put_encoded("a", content)
        with pytest.raises(DrigError, match="under 'b'"):
            writer.put_encoded("b", content)
        with pytest.raises(DrigError, match="no intact record"):
            writer.put_encoded("a", content[:-1])
    commit_shards(tmp_path, [writer.shard])
    assert BufferStore(tmp_path).read("a").key == "a"


def test_face_codes_come_back_as_a_batch_of_one(tmp_path: Path) -> None:
    record = ball(16, key="a")
    rng = np.random.default_rng(0)
    shapes = {"shape": (10,), "tex": (5,), "exp": (6,), "pose": (6,), "cam": (3,), "crop": (2, 3)}
    codes = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    with BufferStoreWriter(tmp_path, **KIND) as writer:
        writer.put(dataclasses.replace(record, codes={**codes, "light": record.light}))
    read = BufferStore(tmp_path).read("a").face_codes()
    assert len(read) == 1
    np.testing.assert_array_equal(read.exp[0].numpy(), codes["exp"])
    np.testing.assert_array_equal(read.light[0].numpy(), record.light)
