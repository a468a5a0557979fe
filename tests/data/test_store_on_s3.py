import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from drig import patience, storage
from drig.data.records import encode
from drig.data.store import BufferStore, BufferStoreWriter, on_s3
from drig.data.store.on_s3 import S3StoreWriter, copy_shards, read_manifest
from drig.errors import DrigError
from tests.data.test_records import ball

KIND: dict[str, Any] = {"size": 16, "head": "open", "estimator": "fit"}
PLACE = "s3://lab/store"


@pytest.fixture(autouse=True)
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An S3 with the bucket `lab`."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        storage._new_client.cache_clear()
        boto3.client("s3").create_bucket(Bucket="lab")
        yield
    storage._new_client.cache_clear()


def writer(**options: Any) -> S3StoreWriter:
    return S3StoreWriter(PLACE, **KIND, shard=2, **options)


def put(writer: S3StoreWriter, *keys: str) -> None:
    for key in keys:
        writer.put_encoded(key, encode(ball(16, key=key)))


def names() -> list[str]:
    return [Path(file).suffix for file in storage.list_files(PLACE)]


def test_a_store_on_s3_is_a_store_when_it_is_copied(tmp_path: Path) -> None:
    with writer() as there:
        put(there, "b", "a", "c")
        there.reject("d", "no face found")
    assert there.done == {"a", "b", "c", "d"}
    storage.download_folder(PLACE, tmp_path / "copy")
    with BufferStoreWriter(tmp_path / "local", **KIND) as local:
        for key in ("a", "b", "c"):
            local.put(ball(16, key=key))
    copy, reference = BufferStore(tmp_path / "copy"), BufferStore(tmp_path / "local")
    keys = reference.keys()
    assert copy.keys() == keys
    assert [copy._content(key) for key in keys] == [reference._content(key) for key in keys]
    assert copy.rejects == {"d": "no face found"}


def test_no_more_than_the_open_shard_is_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with writer() as there:
        put(there, "a", "b", "c", "d", "e")
        assert len([file for file in tmp_path.rglob("shard-*") if file.is_file()]) == 1
        assert names().count(".lmdb") == 2
    assert not list(tmp_path.iterdir())


def test_what_a_lost_machine_had_uploaded_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = writer()
    monkeypatch.setattr(lost, "_save", lambda: None)  # it does not come to list them, nor to its end
    put(lost, "a", "b", "c")
    lost.reject("d", "no face found")
    put(lost, "e")
    assert names() == [".json", ".lmdb", ".json", ".lmdb"]
    with writer() as again:
        assert again.done == {"a", "b", "c", "d"}
        assert sum(shard.count for shard in read_manifest(PLACE).shards) == 3
        put(again, "e")
    assert writer().done == {"a", "b", "c", "d", "e"}
    assert sum(shard.count for shard in read_manifest(PLACE).shards) == 4


def test_a_shard_that_was_not_uploaded_whole_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost_power(file: Path, place: str) -> None:
        raise KeyboardInterrupt

    lost = writer()
    monkeypatch.setattr(storage, "upload_file", lost_power)
    with pytest.raises(KeyboardInterrupt):
        put(lost, "a", "b", "c")
    monkeypatch.undo()
    assert names() == [".json"]
    assert writer().done == set()


def test_an_outage_is_waited_for_and_then_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    upload, left = storage.upload_file, [2]

    def outage(file: Path, place: str) -> None:
        if left[0]:
            left[0] -= 1
            raise DrigError(f"{place}: SlowDown")
        upload(file, place)

    monkeypatch.setattr(storage, "upload_file", outage)
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.0)
    with writer(patience_s=60) as there:
        put(there, "a", "b")
    left[0] = 99
    with pytest.raises(DrigError, match="SlowDown"), writer() as there:
        put(there, "c", "d", "e")
    left[0] = 0
    assert writer().done == {"a", "b"}


def test_a_reject_that_was_stored_at_last_is_no_reject() -> None:
    with writer() as there:
        there.reject("a", "no face found")
        put(there, "b")
    with writer() as again:
        put(again, "a")
    assert read_manifest(PLACE).rejects == {}
    assert writer().rejects == {}


def test_shards_can_be_looked_at_alone(tmp_path: Path) -> None:
    with writer() as there:
        put(there, "a", "b", "c")
    second = read_manifest(PLACE).shards[1]
    assert copy_shards(PLACE, tmp_path, [second]).keys() == ["c"]


def test_another_kind_and_a_copied_store_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with writer() as there:
        put(there, "a")
    with pytest.raises(DrigError, match="holds 16 px, head open, estimator fit; name another"):
        S3StoreWriter(PLACE, **{**KIND, "size": 32})
    with BufferStoreWriter(tmp_path, **KIND) as local:
        local.put(ball(16, key="a"))
    storage.upload_folder(tmp_path, "s3://lab/copied")
    with pytest.raises(DrigError, match="was copied to S3, not written there"):
        S3StoreWriter("s3://lab/copied", **KIND)
    monkeypatch.setattr(on_s3, "VERSION", 0)
    with pytest.raises(DrigError, match="of another version of drig"):
        writer()
    with pytest.raises(DrigError, match="the bucket does not exist"):
        S3StoreWriter("s3://no-such-bucket/store", **KIND)
