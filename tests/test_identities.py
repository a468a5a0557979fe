"""The registry of identities on a local SQLite store, and on S3 as moto plays it."""

import json
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from moto import mock_aws
from safetensors.numpy import save_file

from drig.cli import main
from drig.diffusion.deltas import content_hash
from drig.diffusion.weights import load_weights
from drig.errors import DrigError
from drig.identities import BASE, Identities, UnknownIdentity
from drig.shipped_base import SHIPPED_BASE
from drig.tracking import Tracker, connect


def rig_file(folder: Path, value: float, size: int = 64) -> Path:
    """What the registry needs to see of a weights file: the header."""
    path = folder / "weights.safetensors"
    save_file({"w": np.full(4, value, np.float32)}, path, metadata={"config": json.dumps({"size": size})})
    return path


def delta_file(folder: Path, base: str, value: float) -> Path:
    """What the registry needs to see of a delta."""
    path = folder / "delta.safetensors"
    header = {"format": "drig-delta", "base": base, "config": json.dumps({"size": 64})}
    save_file({"w": np.full(4, value, np.float32)}, path, metadata=header)
    return path


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for the module: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('my registry')}/mlflow.db"


@pytest.fixture
def identities(uri: str, tmp_path: Path) -> Iterator[Identities]:
    """An empty registry."""
    registry = pickle.loads(pickle.dumps(Identities(uri, cache=tmp_path / "cache")))
    yield registry
    for info in reversed(registry.list()):  # the base last: it stays while there are deltas over it
        registry.delete(info.name)


def test_a_registered_identity_comes_back_as_it_was(identities: Identities, tmp_path: Path) -> None:
    report = {"photos": 12, "rejects": {"blurred.jpg": "no face"}}
    version = identities.register("ada", rig_file(tmp_path, 1.0), album_report=report, tags={"stage1": "v3"})
    info = identities.get("ada")
    assert (info.name, info.version, info.photos, info.size, info.tags) == ("ada", version, 12, 64, {"stage1": "v3"})
    assert abs(info.created - datetime.now(UTC)) < timedelta(minutes=5)
    assert identities.fetch("ada").read_bytes() == (tmp_path / "weights.safetensors").read_bytes()
    assert identities.album_report("ada") == report
    assert not (tmp_path / "cache").exists()  # a local store is read in place


def test_weights_from_elsewhere_are_registered_on_the_command_line(
    identities: Identities, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", identities.tracking_uri)
    for name in (BASE, "ada"):
        assert main(["identities", "--register", name, "--weights", str(rig_file(tmp_path, 1.0))]) == 0
        assert identities.fetch(name).read_bytes() == (tmp_path / "weights.safetensors").read_bytes()
    capsys.readouterr()
    assert main(["identities"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[-2:]] == [["base", "1", "-", "64"], ["ada", "1", "-", "64"]]


def test_the_newest_version_is_live_and_older_ones_stay(identities: Identities, tmp_path: Path) -> None:
    first = identities.register("ada", rig_file(tmp_path, 1.0), album_report={"photos": 10})
    old = identities.fetch("ada").read_bytes()
    second = identities.register("ada", rig_file(tmp_path, 2.0), album_report={"photos": 11})
    assert second == first + 1
    assert identities.get("ada").version == second
    assert identities.fetch("ada", first).read_bytes() == old
    assert identities.fetch("ada").read_bytes() != old
    with pytest.raises(UnknownIdentity, match="ada has no version 9"):
        identities.fetch("ada", 9)


def test_the_same_weights_are_not_registered_twice(identities: Identities, tmp_path: Path) -> None:
    weights = rig_file(tmp_path, 1.0)
    first = identities.register("ada", weights, album_report={"photos": 10})
    assert identities.register("ada", weights, album_report={"photos": 10}) == first


def test_a_version_that_is_not_better_is_kept_and_the_live_one_stays(identities: Identities, tmp_path: Path) -> None:
    first = identities.register("ada", rig_file(tmp_path, 1.0), album_report=None, live=False)  # there is no other
    second = identities.register("ada", rig_file(tmp_path, 2.0), album_report=None, live=False)
    assert (identities.get("ada").version, identities.get("ada", second).version) == (first, second)
    identities.register("ada", rig_file(tmp_path, 2.0), album_report=None)
    assert identities.get("ada").version == second


def test_files_are_kept_with_the_version(identities: Identities, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    sheet.write_bytes(b"before and after")
    identities.register("ada", rig_file(tmp_path, 1.0), album_report={"photos": 10}, files=[sheet])
    assert identities.fetch("ada").with_name("sheet.png").read_bytes() == b"before and after"


def test_what_was_cut_short_before_it_was_live_is_not_registered_twice(
    identities: Identities, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Identities, "_set_live", killed)
        with pytest.raises(KeyboardInterrupt):
            identities.register("ada", rig_file(tmp_path, 1.0), album_report={"photos": 10})
    assert identities.list() == []
    assert identities.register("ada", rig_file(tmp_path, 1.0), album_report={"photos": 10}) == 1
    assert identities.get("ada").version == 1


def test_registered_at_the_same_time_the_first_is_kept(
    identities: Identities, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by two replicas that both find no base: neither sees the other's version before it has made its own."""
    versions = Identities._versions

    def blind(self: Identities, *wanted: Any) -> Any:
        monkeypatch.setattr(Identities, "_versions", versions)
        return []

    first = identities.register_base(rig_file(tmp_path, 1.0))
    monkeypatch.setattr(Identities, "_versions", blind)
    assert identities.register_base(rig_file(tmp_path, 1.0)) == first
    assert identities.get(BASE).version == first
    assert identities.fetch(BASE).exists()
    with pytest.raises(UnknownIdentity, match="has no version"):
        identities.get(BASE, first + 1)


def test_of_two_that_make_a_version_live_first_one_is_refused_once(
    identities: Identities, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's answer to the second of two processes that both found no alias and insert one."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    insert = MlflowClient.set_registered_model_alias

    def late(client: MlflowClient, *given: str) -> None:
        monkeypatch.undo()
        insert(client, *given)  # the other one
        raise MlflowException("UNIQUE constraint failed: registered_model_aliases.name")

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", late)
    version = identities.register_base(rig_file(tmp_path, 1.0))
    assert identities.get(BASE).version == version


def test_identities_move_with_the_folder_of_runs(tmp_path: Path) -> None:
    old, new = tmp_path / "old runs", tmp_path / "new"
    there = Identities(f"sqlite:///{old}/mlflow.db")
    there.register("ada", rig_file(tmp_path, 1.0), album_report={"photos": 10})
    old.rename(new)
    here = Identities(f"sqlite:///{new}/mlflow.db")
    assert here.fetch("ada").is_relative_to(new)
    assert here.album_report("ada") == {"photos": 10}
    here.register("ada", rig_file(tmp_path, 2.0), album_report={"photos": 11})
    assert here.fetch("ada").is_relative_to(new)
    assert not old.exists()


def test_weights_are_kept_with_the_run_that_trained_them(identities: Identities, tmp_path: Path) -> None:
    with Tracker(identities.tracking_uri).run("personalise") as run:
        identities.register("ada", rig_file(tmp_path, 1.0), album_report={"photos": 10}, run_id=run.id)
    assert identities.get("ada").run_id == run.id
    assert run.id in str(identities.fetch("ada"))


def test_the_list_has_live_versions_base_first_and_no_models_of_others(identities: Identities, tmp_path: Path) -> None:
    for value, name in enumerate(("zoe", "ada", "ada")):
        identities.register(name, rig_file(tmp_path, value), album_report={"photos": 10})
    identities.register_base(rig_file(tmp_path, 9.0, size=128))
    client = connect(identities.tracking_uri)
    client.create_registered_model("drig-churn")
    client.create_registered_model("churn")
    listed = identities.list()
    assert [(info.name, info.version, info.size, info.photos) for info in listed] == [
        (BASE, 1, 128, None),
        ("ada", 2, 64, 10),
        ("zoe", 1, 64, 10),
    ]
    for name in ("drig-churn", "churn"):
        with pytest.raises(UnknownIdentity):
            identities.get(name.removeprefix("drig-"))
        client.delete_registered_model(name)


def test_the_shipped_base_stands_in_until_another_is_registered(identities: Identities, tmp_path: Path) -> None:
    shipped = identities.ensure_base()
    assert identities.fetch(BASE).read_bytes() == SHIPPED_BASE.read_bytes()
    assert identities.ensure_base() == shipped
    own = identities.register_base(rig_file(tmp_path, 1.0))
    assert identities.ensure_base().version == own


def test_the_shipped_base_is_known_by_the_hash_that_deltas_over_it_carry(identities: Identities) -> None:
    """It is kept in half precision and computed with in float32."""
    assert identities.ensure_base().base == content_hash(load_weights(SHIPPED_BASE).rig.state_dict())


def test_an_unknown_name_is_answered_with_near_ones(identities: Identities, tmp_path: Path) -> None:
    with pytest.raises(UnknownIdentity, match="none is registered yet"):
        identities.fetch("grace")
    for value, name in enumerate(("grace-h", "ada")):
        identities.register(name, rig_file(tmp_path, value), album_report={"photos": 10})
    with pytest.raises(UnknownIdentity, match="no identity is called 'grace'; did you mean grace-h\\?"):
        identities.fetch("grace")


def test_delete_removes_the_weights_of_all_versions(identities: Identities, tmp_path: Path) -> None:
    files = []
    for value in range(2):
        identities.register("ada", rig_file(tmp_path, value), album_report={"photos": 10})
        files.append(identities.fetch("ada"))
    identities.delete("ada")
    assert [file.exists() for file in files] == [False, False]
    with pytest.raises(UnknownIdentity):
        identities.get("ada")
    with pytest.raises(UnknownIdentity):
        identities.delete("ada")


def test_a_delta_is_kept_with_the_base_that_it_is_over(identities: Identities, tmp_path: Path) -> None:
    old = content_hash({"w": torch.full((4,), 1.0)})
    with pytest.raises(DrigError, match=f"the base rig {old[:16]}.* is not registered; register it: drig identities"):
        identities.register("ada", delta_file(tmp_path, old, 0.1), album_report={"photos": 10})
    for value in (1.0, 2.0):  # the people of the first base stay when a second one is live
        identities.register_base(rig_file(tmp_path, value))
    identities.register("ada", delta_file(tmp_path, old, 0.1), album_report={"photos": 10})
    assert (identities.get("ada").base, identities.get(BASE, 1).base) == (old, old)
    assert identities.get(BASE).version == 2
    assert identities.fetch_base("ada") == identities.fetch(BASE, 1)
    identities.register("zoe", rig_file(tmp_path, 3.0), album_report={"photos": 10})
    assert [identities.fetch_base(name) for name in ("zoe", BASE)] == [None, None]
    with pytest.raises(DrigError, match=r"1 identities are deltas over the base rig \(ada\)"):
        identities.delete(BASE)
    with pytest.raises(DrigError, match="is a delta and cannot be the base rig"):
        identities.register_base(delta_file(tmp_path, old, 0.1))


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "a@1", "ä", "a" * 65, "a\n"])
def test_a_name_that_is_not_allowed(identities: Identities, tmp_path: Path, name: str) -> None:
    with pytest.raises(DrigError, match="1 to 64 letters"):
        identities.register(name, rig_file(tmp_path, 1.0), album_report={"photos": 10})
    with pytest.raises(DrigError, match="1 to 64 letters"):
        identities.get(name)


def test_the_base_name_is_reserved(identities: Identities, tmp_path: Path) -> None:
    with pytest.raises(DrigError, match="kept for the base rig"):
        identities.register(BASE, rig_file(tmp_path, 1.0), album_report={"photos": 10})


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all", b"\xff" * 64])
def test_a_file_that_is_not_a_rig(identities: Identities, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DrigError, match="not the weights of a rig"):
        identities.register("ada", path, album_report={"photos": 10})
    assert identities.list() == []


def test_weights_that_the_store_has_lost(identities: Identities, tmp_path: Path) -> None:
    identities.register("ada", rig_file(tmp_path, 1.0), album_report={"photos": 10})
    identities.fetch("ada").unlink()
    with pytest.raises(DrigError, match="register it again"):
        identities.fetch("ada")


def test_a_remote_store_is_downloaded_once_and_checked(
    identities: Identities, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    weights = rig_file(tmp_path, 1.0)
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="rigs")
        client = connect(identities.tracking_uri)
        experiment = client.create_experiment("on S3", artifact_location="s3://rigs/mlflow")
        run_id = client.create_run(experiment).info.run_id
        identities.register("ada", weights, album_report={"photos": 10}, run_id=run_id)
        keys = [item["Key"] for item in s3.list_objects_v2(Bucket="rigs")["Contents"]]
        (key,) = [key for key in keys if key.endswith("weights.safetensors")]

        fetched = identities.fetch("ada")
        assert fetched.read_bytes() == weights.read_bytes()
        assert list((tmp_path / "cache").iterdir()) == [fetched]
        s3.put_object(Bucket="rigs", Key=key, Body=b"tampered")
        assert identities.fetch("ada").read_bytes() == weights.read_bytes()
        info = identities.get("ada")
        with monkeypatch.context() as away:  # what was told before, and downloaded, needs no registry
            away.setattr(Identities, "_version", None)
            assert identities.fetch_known(info) == fetched
        fetched.unlink()
        with pytest.raises(DrigError, match="changed after they were registered"):
            identities.fetch("ada")
        assert list((tmp_path / "cache").iterdir()) == []
        identities.delete("ada")
        assert "Contents" not in s3.list_objects_v2(Bucket="rigs")


def test_a_store_that_is_not_there(monkeypatch: pytest.MonkeyPatch, identities: Identities) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    identities.check()
    with pytest.raises(DrigError, match="Start that server"):
        Identities("http://127.0.0.1:9").check()
