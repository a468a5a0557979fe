"""Runs on a local SQLite store: what MLflow holds after each call."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from drig.errors import DrigError
from drig.tracking import LONGEST_PARAMETER, Run, Tracker, connect, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun  # MLflow is imported by `connect`, after it was told to be quiet


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracker]:
    """One store for the module (making a database takes seconds), in a folder whose name has a space."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield Tracker(tracking_uri(tmp_path_factory.mktemp("my runs")))


def stored(run: Run) -> "MlflowRun":
    return run.client.get_run(run.id)


def artifacts(run: Run) -> Path:
    return Path(run.client.download_artifacts(run.id, ""))


@dataclass(frozen=True)
class Optimiser:
    rate: float = 1e-4


@dataclass(frozen=True)
class Config:
    size: int = 64
    optimiser: Optimiser = field(default_factory=Optimiser)
    folder: Path = Path("album")
    note: str = "long " * 500


def test_everything_of_the_default_store_is_inside_the_folder_of_runs(tracker: Tracker) -> None:
    folder = Path(tracker.uri.removeprefix("sqlite:///")).parent
    with tracker.run("inside") as run:
        run.log_image("samples/one", np.zeros((4, 4, 3), np.uint8))
    assert (folder / "mlflow.db").is_file()
    assert (folder / "artifacts" / run.id / "artifacts" / "samples" / "one.png").is_file()


def test_a_finished_run(tracker: Tracker, tmp_path: Path) -> None:
    picture = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    (tmp_path / "report.html").write_text("<p>")
    with tracker.run("train", tags={"stage": "1"}) as run:
        run.log_config(Config())
        run.log_metrics({"loss": 0.5, "psnr": float("nan")}, samples=64)
        run.log_metrics({"loss": 0.25}, samples=128)
        run.log_image("grid", picture)
        run.log_file(tmp_path / "report.html")
        run.log_file(tmp_path, "all")
    data = stored(run).data
    assert stored(run).info.status == "FINISHED"
    assert data.tags["stage"] == "1"
    assert (data.params["size"], data.params["optimiser.rate"], data.params["folder"]) == ("64", "0.0001", "album")
    assert len(data.params["note"]) == LONGEST_PARAMETER
    assert json.loads((artifacts(run) / "config.json").read_text())["note"] == Config().note
    assert [(m.step, m.value) for m in run.client.get_metric_history(run.id, "loss")] == [(64, 0.5), (128, 0.25)]
    assert np.isnan(data.metrics["psnr"])
    assert np.array_equal(np.asarray(Image.open(artifacts(run) / "grid.png")), picture)
    assert (artifacts(run) / "report.html").is_file()
    assert (artifacts(run) / "all" / "report.html").is_file()


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("the disk is full"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(15), "KILLED")],
)
def test_a_run_that_raises(tracker: Tracker, error: BaseException, status: str) -> None:
    run = tracker.run("broken")
    run.log_metrics({"loss": 1.0}, samples=1)
    with pytest.raises(type(error)), run:
        raise error
    assert stored(run).info.status == status
    assert stored(run).data.tags["error"] == f"{type(error).__name__}: {error}"
    assert stored(run).data.metrics == {"loss": 1.0}


def test_the_same_key_goes_on_with_the_same_run(tracker: Tracker) -> None:
    first = tracker.run("train", key="it's album a")
    first.log_config({"budget": 10, "size": 64})
    first.log_metrics({"loss": 1.0}, samples=10)
    with pytest.raises(RuntimeError), first:
        raise RuntimeError
    with tracker.run("train", key="it's album a") as again:
        again.log_config({"budget": 20, "size": 64})
        again.log_metrics({"loss": 0.5}, samples=20)
    with tracker.run("train", key="it's album b") as other:
        pass
    assert again.id == first.id
    assert stored(again).info.status == "FINISHED"
    assert [m.step for m in again.client.get_metric_history(again.id, "loss")] == [10, 20]
    assert stored(again).data.params == {"budget": "10", "size": "64"}
    assert stored(again).data.tags["changed.budget"] == "20"
    assert "changed.size" not in stored(again).data.tags
    assert other.id != first.id


def test_child_runs_and_copies_in_other_processes(tracker: Tracker) -> None:
    tracker = pickle.loads(pickle.dumps(tracker))
    with tracker.run("personalise") as parent, tracker.run("ada", parent=parent) as child:
        child.log_metrics({"loss": 3.0}, samples=1)
        copy = pickle.loads(pickle.dumps(child))
        copy.log_metrics({"loss": 2.0}, samples=2)
        copy.flush()
    assert stored(child).data.tags["mlflow.parentRunId"] == parent.id
    assert sorted(m.step for m in child.client.get_metric_history(child.id, "loss")) == [1, 2]


def test_more_parameters_and_metrics_than_one_call_takes(tracker: Tracker) -> None:
    with tracker.run("many") as run:
        run.log_config({f"p{i}": i for i in range(250)})
        run.log_metrics({f"m{i}": i for i in range(1100)}, samples=1)
    assert len(stored(run).data.params) == 250
    assert len(stored(run).data.metrics) == 1100


def test_the_environment_names_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert tracking_uri(tmp_path) == "http://mlflow:5000"


@pytest.mark.parametrize("uri", ["file:///runs", "runs", "sqlite:///mlflow.db", "postgresql://db/mlflow"])
def test_a_store_that_cannot_work_is_refused(uri: str) -> None:
    with pytest.raises(DrigError, match="sqlite:///<absolute path"):
        connect(uri)


def test_an_unreachable_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(DrigError, match="Start that server"):
        Tracker("http://127.0.0.1:9")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DrigError, match="Choose another folder"):
        Tracker(tracking_uri(tmp_path / "file" / "runs"))


def test_a_deleted_experiment(tracker: Tracker) -> None:
    gone = Tracker(tracker.uri, "gone")
    connect(tracker.uri).delete_experiment(gone.experiment_id)
    with pytest.raises(DrigError, match="was deleted"):
        Tracker(tracker.uri, "gone")


def test_mlflow_is_quiet_and_sends_nothing_home(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from drig.tracking import Tracker, tracking_uri
with Tracker(tracking_uri(Path(sys.argv[1]))).run("quiet") as run:
    run.log_config({"size": 64})
from mlflow.telemetry import get_telemetry_client
assert get_telemetry_client() is None
"""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}  # MLflow hushes in a CI
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True, text=True, cwd=Path.cwd()
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "mlflow.db").is_file()


def test_a_store_that_does_not_answer_costs_no_training(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow.exceptions import MlflowException

    clock, asked = [0.0], list[float]()

    def fail(*given: object, **named: object) -> None:
        asked.append(clock[0])
        raise MlflowException("connection refused")

    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with tracker.run("outage") as run:
        with monkeypatch.context() as outage:
            outage.setattr(run.client, "log_batch", fail)
            outage.setattr(run.client, "log_image", fail)
            for samples in range(100):
                clock[0] += 1
                run.log_metrics({"loss": float(samples)}, samples=samples)
            run.log_image("grid", np.zeros((4, 4, 3), np.uint8))
        assert asked == [6.0, 17.0, 38.0, 79.0, 100.0]  # pauses of 10, 20 and 40 s, and the picture
        assert "MLflow does not answer, 6 metrics wait: connection refused" in capsys.readouterr().err
    assert [m.step for m in run.client.get_metric_history(run.id, "loss")] == list(range(100))


def test_a_run_cannot_end_well_without_its_metrics(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    def fail(*given: object, **named: object) -> None:
        raise MlflowException("connection refused")

    run = tracker.run("outage")
    run.log_metrics({"loss": 1.0}, samples=1)
    monkeypatch.setattr(run.client, "log_batch", fail)
    with pytest.raises(MlflowException, match="connection refused"), run:
        pass
