import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock, patch

import boto3
import numpy as np
import pytest
from moto import mock_aws
from torch import Tensor

from drig import storage
from drig.data.photos import Photo, read_photo, save_png
from drig.data.store import BufferStore
from drig.errors import DrigError
from drig.faces.codes import FaceCodes
from drig.faces.head import load_head, neutral_codes
from drig.tracking import Tracker, connect, tracking_uri
from pipelines import extract_buffers, face_mappers
from pipelines.extract_buffers import ExtractConfig, count_blocks, extract, main, plan_pools, report
from pipelines.face_mappers import Batch, BufferRenderer, PortraitFinder
from pipelines.photo_sources import Group
from tests.pipelines.conftest import heads
from tests.pipelines.test_photo_sources import write_video


@pytest.fixture
def config(photos: Path, tmp_path: Path) -> ExtractConfig:
    store = str(tmp_path / "store")
    return ExtractConfig(photos=str(photos), store=store, size=64, batch=2, sheet=2, patience=0, runs=tmp_path)


class NeutralFace:
    """An estimator that looks at nothing: fitting faces is tested elsewhere and takes a second."""

    name = "fit"

    def fit(self, portraits: Tensor, landmarks: Tensor | None) -> FaceCodes:
        return neutral_codes(load_head("open"), len(portraits))


class NoTracker:
    """In MLflow's place, whose database takes a second for every run."""

    def __init__(self, *_: object) -> None:
        pass

    def run(self, *_: object, **__: object) -> AbstractContextManager[Mock]:
        return nullcontext(Mock())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The mappers run here instead of in Ray Data, without MLflow; the keys that they are asked for."""
    keys: list[str] = []
    monkeypatch.setattr(extract_buffers, "Tracker", NoTracker)

    def records(config: ExtractConfig, work: Sequence[Group]) -> Iterator[Batch]:
        find, render = PortraitFinder(config.size), BufferRenderer(config.head, None, config.estimator, device="cpu")
        render.estimator = NeutralFace()
        for group in work:
            keys.extend(group["key"])
            yield render(find({name: np.array(values, object) for name, values in group.items()}))

    monkeypatch.setattr(extract_buffers, "_records", records)
    monkeypatch.setattr(extract_buffers, "ray_cluster", lambda config: nullcontext())
    return keys


def test_through_ray_data(config: ExtractConfig, ray_local: None) -> None:
    result = extract(replace(config, backlog=0.1))
    assert (result.found, result.records, result.known) == (5, 3, 0)
    assert set(result.rejects) == {"empty.png", "notes.jpg"}
    store = BufferStore(result.store)
    assert store.keys() == ["person_0/a.png", "person_1/a.png", "person_2/a.png"]
    assert store.size == 64
    assert result.sheet is not None
    assert read_photo(result.sheet).shape[2] == 3
    tracker = Tracker(tracking_uri(config.runs), "extract")
    run = connect(tracker.uri).get_run(tracker.run("", key=result.store).id).data
    assert (run.metrics["done"], run.metrics["rejected"], run.metrics["seconds_left"]) == (5, 2, 0)
    assert run.metrics["photos_per_second"] > 0
    assert run.params["size"] == "64"


def test_more_processes_than_an_own_ray_has_cpus_are_an_error(config: ExtractConfig, ray_local: None) -> None:
    with pytest.raises(DrigError, match="6 CPUs are needed, 4 are there"):
        extract(replace(config, finders=4))


def test_rejects_are_tried_again_only_when_asked(config: ExtractConfig, asked: list[str], photos: Path) -> None:
    assert len(extract(config).rejects) == 2
    save_png(photos / "empty.png", heads(1, 256)[0])
    assert len(extract(config).rejects) == 2
    result = extract(replace(config, retry_rejects=True))
    assert (result.records, set(result.rejects), result.known) == (4, {"notes.jpg"}, 3)
    assert extract(config).records == 4


def test_a_source_that_does_not_answer_ends_the_run_and_rejects_nothing(
    config: ExtractConfig, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def outage(source: str) -> Photo:
        if source.endswith("person_1/a.png"):
            raise DrigError(f"{source}: Please reduce your request rate.")
        return read_photo(source)

    monkeypatch.setattr(face_mappers, "read_photo", outage)
    with pytest.raises(DrigError, match=r"person_1/a.png: Please reduce .* The same command goes on"):
        extract(config)
    monkeypatch.undo()
    assert set(BufferStore(config.store).rejects) == {"empty.png", "notes.jpg"}


def test_the_same_command_does_what_is_still_to_be_done(config: ExtractConfig, asked: list[str]) -> None:
    assert extract(replace(config, limit=3)).records == 1
    again = extract(config)
    assert (again.known, again.records) == (3, 3)
    # The third is asked for again for the fourth's sake, whose record must not depend on what was done before.
    assert asked[3:] == ["person_0/a.png", "person_1/a.png", "person_2/a.png"]
    extract(config)
    assert len(asked) == 6


def test_what_was_stored_before_an_error_is_kept(
    config: ExtractConfig, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = extract_buffers._records

    def fail(config: ExtractConfig, work: Sequence[Group]) -> Iterator[Batch]:
        for batch in records(config, work):
            yield batch
            if "person_1/a.png" in batch["key"]:
                raise RuntimeError("a node was lost")

    monkeypatch.setattr(extract_buffers, "_records", fail)
    with pytest.raises(RuntimeError, match="a node was lost"):
        extract(config)
    monkeypatch.setattr(extract_buffers, "_records", records)
    assert extract(config).records == 3
    assert asked[-1:] == ["person_2/a.png"]


def test_photos_with_several_faces_are_told(config: ExtractConfig, asked: list[str], photos: Path) -> None:
    one, _, other = heads(3, 256)
    save_png(photos / "two.png", np.concatenate([one, other], 1))
    assert extract(config).several_faces == ["two.png"]


def test_photos_and_store_on_s3(config: ExtractConfig, asked: list[str], photos: Path, tmp_path: Path) -> None:
    with lab():
        storage.upload_folder(photos, "s3://lab/photos")
        write_video(tmp_path / "clip.mp4", 1)
        storage.upload_file(tmp_path / "clip.mp4", "s3://lab/photos/clip.mp4")
        config = replace(config, photos="s3://lab/photos", store="s3://lab/store", shard=3, every=0.5)
        result = extract(config)
        assert (result.found, result.records, set(result.rejects)) == (7, 5, {"empty.png", "notes.jpg"})
        assert extract(config).known == 7
        assert len(asked) == 7
        assert result.sheet == "s3://lab/store/sheet.png"
        assert read_photo(result.sheet).shape[2] == 3
        storage.download_folder("s3://lab/store", tmp_path / "copy")
    store = BufferStore(tmp_path / "copy")
    assert store.keys()[:2] == ["clip.mp4#t=0.000", "clip.mp4#t=0.500"]
    assert store.read("person_0/a.png").source == "s3://lab/photos/person_0/a.png"


@contextmanager
def lab() -> Iterator[None]:
    """An S3 with the bucket `lab`, in this process."""
    settings = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    with patch.dict(os.environ, settings), mock_aws():
        storage._new_client.cache_clear()
        boto3.client("s3").create_bucket(Bucket="lab")
        yield
    storage._new_client.cache_clear()


def test_report_counts_rejects_by_reason(
    config: ExtractConfig, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    report(extract(config))
    told = capsys.readouterr().out
    assert "3 faces in" in told
    assert "2 photos rejected" in told
    assert "rejected 1: no face found" in told


def test_nothing_usable_is_an_error(config: ExtractConfig, asked: list[str], photos: Path) -> None:
    for i in range(3):
        (photos / f"person_{i}/a.png").unlink()
    with pytest.raises(DrigError, match=r"not one of the 2 photos .* can be used: 1 x"):
        extract(config)


def test_another_size_needs_another_store(config: ExtractConfig, asked: list[str]) -> None:
    extract(config)
    with pytest.raises(DrigError, match="name another folder"):
        extract(replace(config, size=32))


def test_bad_input_is_exit_code_2_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    (tmp_path / "empty").mkdir()
    for photos in ("missing", "empty"):
        assert main(["--photos", str(tmp_path / photos), "--store", str(store)]) == 2
    assert main(["--photos", str(tmp_path), "--store", str(store), "--head", "nobody"]) == 2
    assert main(["--photos", str(tmp_path), "--store", str(store), "--batch", "0"]) == 2
    assert capsys.readouterr().err.count("error:") == 4
    assert not store.exists()


@pytest.mark.parametrize(
    ("work", "finders", "expected"), [(3, 2, 3), (100, 2, 12), (8_750, 2, 1_093), (12_500_000, 700, 10_000)]
)
def test_blocks_are_large_where_there_are_many(work: int, finders: int, expected: int) -> None:
    assert count_blocks(work, finders) == expected


@pytest.mark.parametrize(
    ("cpus", "gpus", "expected"), [(3, 0, (1, 1)), (4, 0, (2, 1)), (16, 0, (11, 4)), (96, 8, (87, 8))]
)
def test_pools_leave_a_cpu(cpus: int, gpus: int, expected: tuple[int, int]) -> None:
    config = ExtractConfig(photos="-", store="-")
    assert plan_pools(config, cpus=cpus, gpus=gpus) == expected
    assert sum(expected) < cpus
