import shutil
from pathlib import Path

import pytest

from drig import storage
from pipelines.training_backup import backed_up
from tests.s3 import FaultyS3


def checkpoint(folder: Path, samples: int) -> None:
    """In its place, like the loop: the two newest stay."""
    for name in ("rig.safetensors", "progress.json"):
        storage.write_bytes(folder / f"checkpoint_{samples:04}" / name, f"{name} {samples}".encode())
    for old in sorted(folder.glob("checkpoint_*"))[:-2]:
        shutil.rmtree(old)


def names(place: str) -> list[str]:
    return [file.removeprefix(f"{place}/") for file in storage.list_files(place)]


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_another_machine_finds_what_there_was(bucket: str, s3: FaultyS3, tmp_path: Path) -> None:
    place, here, there = f"{bucket}/ann", tmp_path / "here", tmp_path / "there"
    with backed_up(here, place) as store:
        assert store is not None
        for samples in (8, 16, 24):
            checkpoint(here, samples)
            storage.write_bytes(here / "curve.json", str(samples).encode())
            storage.write_bytes(
                here / "best.safetensors", b"the same" if samples == 8 else content(here)["best.safetensors"]
            )
            (here / "weights.safetensors").write_bytes(b"made anew from a checkpoint")
            store(None, samples, {})
    assert not list(tmp_path.glob(".*"))
    with backed_up(there, place):
        assert content(there) == {k: v for k, v in content(here).items() if k != "weights.safetensors"}
    kept = ["checkpoint_0016", "checkpoint_0024"]
    assert sorted({name.partition("/")[0] for name in names(place)}) == ["best.safetensors", *kept, "curve.json"]
    sent = [path for method, path, _ in s3.requests if method == "PUT"]
    assert len([path for path in sent if "checkpoint_0016" in path]) == 2  # files, each sent once


def test_who_is_further_on_goes_on(bucket: str, tmp_path: Path) -> None:
    """A machine that comes back finds the work of another one, and throws its own away; or is still ahead."""
    place, here, there = f"{bucket}/ann", tmp_path / "here", tmp_path / "there"
    checkpoint(here, 8)
    with backed_up(here, place) as store:
        assert store is not None
        store(None, 8, {})
    with backed_up(there, place) as store:
        assert store is not None
        checkpoint(there, 16)
        store(None, 16, {})
    with backed_up(here, place):
        assert content(here) == content(there)
    checkpoint(here, 24)
    checkpoint(here, 32)
    with backed_up(here, place) as store:
        assert store is not None
        assert {path.name for path in here.iterdir()} == {"checkpoint_0024", "checkpoint_0032"}
        store(None, 32, {})
    assert {name.partition("/")[0] for name in names(place)} == {"checkpoint_0024", "checkpoint_0032"}


def test_a_checkpoint_that_was_cut_short_on_its_way_is_none(bucket: str, tmp_path: Path) -> None:
    place, here = f"{bucket}/ann", tmp_path / "here"
    storage.write_bytes(f"{place}/checkpoint_0016/rig.safetensors", b"half")
    with backed_up(here, place):
        assert not here.exists()
    storage.write_bytes(f"{place}/checkpoint_0008/progress.json", b"whole")
    with backed_up(here, place):
        assert content(here)["checkpoint_0008/progress.json"] == b"whole"


def test_s3_away_costs_the_backup_and_not_the_training(
    bucket: str, s3: FaultyS3, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, here = f"{bucket}/ann", tmp_path / "here"
    with backed_up(here, place) as store:
        assert store is not None
        s3.fail("denied", "PUT", "progress.json")
        checkpoint(here, 8)
        store(None, 8, {})
        checkpoint(here, 16)
        store(None, 16, {})
    assert "it goes on: s3://" in (told := capsys.readouterr().err)
    assert "access denied; check" in told
    assert "checkpoint_0008/progress.json" in names(place)


def test_without_a_place_nothing_is_kept(tmp_path: Path) -> None:
    with backed_up(tmp_path, None) as store:
        assert store is None
