"""The quickstart at its smallest sizes: every room, on real Ray, MLflow and HTTP."""

import shutil
from pathlib import Path

import pytest

from drig.data.photos import read_photo
from drig.errors import DrigError
from drig.identities import Identities
from drig.tracking import connect, tracking_uri
from pipelines.quickstart import QuickstartConfig, quickstart


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, synthetic_people: Path) -> QuickstartConfig:
    """The run of all tests here, with a synthetic person in the place of the user's."""
    photos = tmp_path_factory.mktemp("photos") / "me"
    shutil.copytree(synthetic_people / "person_0001", photos)
    return QuickstartConfig(photos=photos, fast=True, runs=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def output(ray_local: None, config: QuickstartConfig) -> str:
    """The report's HTML."""
    report = quickstart(config)
    assert report.exists()
    return report.read_text()


def test_the_report_shows_every_person_before_and_after(output: str) -> None:
    for words in (
        "person_0000",
        "person_0001",
        "stage 1 alone",
        "personalised",
        "PSNR before",
        "data:image/png;base64",
    ):
        assert words in output


def test_everybody_is_registered_and_has_a_sheet_of_edits(output: str, config: QuickstartConfig) -> None:
    names = [info.name for info in Identities(tracking_uri(config.folder)).list()]
    assert names == ["base", "me", "person_0000", "person_0001"]
    for name in names[1:]:
        assert read_photo(config.folder / "people" / name / "edits.png").shape[1] > 1000


def test_the_edit_over_http_is_the_editors(output: str) -> None:
    assert "0 of 255 grey levels apart" in output or "1 of 255 grey levels apart" in output


def test_runs_and_their_metrics_are_in_mlflow(output: str, config: QuickstartConfig) -> None:
    client = connect(tracking_uri(config.folder))
    experiments = {experiment.name: experiment.experiment_id for experiment in client.search_experiments()}
    (stage1,) = client.search_runs([experiments["stage1"]])
    assert stage1.info.status == "FINISHED"
    assert stage1.data.metrics["loss"] > 0
    assert client.list_artifacts(stage1.info.run_id, "samples")
    assert len(client.search_runs([experiments["stage2"]])) == 1 + 3  # the job, and a run a person


def test_the_same_command_again_only_edits(output: str, config: QuickstartConfig) -> None:
    weights = config.folder / "people" / "person_0000" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    quickstart(config)
    assert weights.stat().st_mtime_ns == before


def test_an_album_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(DrigError, match="does not exist"):
        QuickstartConfig(photos=tmp_path / "nobody")
