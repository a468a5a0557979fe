from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from drig.data.photos import read_photo, save_png
from drig.data.store import BufferStore
from drig.errors import DrigError
from drig.faces.codes import FaceCodes
from drig.faces.head import load_head, neutral_codes
from pipelines import extract_buffers
from pipelines.extract_buffers import ExtractConfig, extract, find_sources, main, plan_pools, report
from pipelines.face_mappers import Batch, BufferRenderer, PortraitFinder
from tests.pipelines.conftest import heads


@pytest.fixture
def config(photos: Path, tmp_path: Path) -> ExtractConfig:
    return ExtractConfig(photos=str(photos), store=str(tmp_path / "store"), size=64, batch=2, sheet=2)


class NeutralFace:
    """An estimator that looks at nothing: fitting faces is tested elsewhere and takes a second."""

    name = "fit"

    def fit(self, portraits: Tensor, landmarks: Tensor | None) -> FaceCodes:
        return neutral_codes(load_head("open"), len(portraits))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The mappers run here instead of in Ray Data; the keys that they are asked for."""
    keys: list[str] = []

    def records(config: ExtractConfig, sources: Mapping[str, str]) -> Iterator[Batch]:
        find, render = PortraitFinder(config.size), BufferRenderer(config.head, None, config.estimator, device="cpu")
        render.estimator = NeutralFace()
        for key, source in sources.items():
            keys.append(key)
            yield render(find({"key": np.array([key], object), "source": np.array([source], object)}))

    monkeypatch.setattr(extract_buffers, "_records", records)
    monkeypatch.setattr(extract_buffers, "ray_cluster", lambda config: nullcontext())
    return keys


def test_through_ray_data(config: ExtractConfig, ray_local: None) -> None:
    result = extract(config)
    assert (result.found, result.records, result.known) == (5, 3, 0)
    assert set(result.rejects) == {"empty.png", "notes.jpg"}
    store = BufferStore(result.store)
    assert store.keys() == ["person_0/a.png", "person_1/a.png", "person_2/a.png"]
    assert store.size == 64
    assert result.sheet is not None
    assert read_photo(result.sheet).shape[2] == 3


def test_the_same_command_does_what_is_still_to_be_done(config: ExtractConfig, asked: list[str]) -> None:
    assert extract(replace(config, limit=3)).records == 1
    again = extract(config)
    assert (again.known, again.records) == (3, 3)
    assert asked == ["empty.png", "notes.jpg", "person_0/a.png", "person_1/a.png", "person_2/a.png"]
    extract(config)
    assert len(asked) == 5


def test_what_was_stored_before_an_error_is_kept(
    config: ExtractConfig, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = extract_buffers._records

    def fail(config: ExtractConfig, sources: Mapping[str, str]) -> Iterator[Batch]:
        for batch in records(config, sources):
            yield batch
            if batch["key"][0] == "person_1/a.png":
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


def test_sources_are_named_by_their_place_below_the_folder(photos: Path) -> None:
    sources = find_sources(f"{photos}/")
    assert sources["person_1/a.png"] == str(photos / "person_1/a.png")
    assert len(sources) == 5


def test_a_list_of_photos_is_relative_to_itself(photos: Path) -> None:
    (photos / "list.txt").write_text("person_1/a.png\n\ns3://bucket/b.png\n")
    assert find_sources(str(photos / "list.txt")) == {
        "person_1/a.png": str(photos / "person_1/a.png"),
        "s3://bucket/b.png": "s3://bucket/b.png",
    }


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
    ("cpus", "gpus", "expected"), [(3, 0, (1, 1)), (4, 0, (2, 1)), (16, 0, (11, 4)), (96, 8, (87, 8))]
)
def test_pools_leave_a_cpu(cpus: int, gpus: int, expected: tuple[int, int]) -> None:
    config = ExtractConfig(photos="-", store="-")
    assert plan_pools(config, cpus=cpus, gpus=gpus) == expected
    assert sum(expected) < cpus
