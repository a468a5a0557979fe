import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from drig import config as configs
from drig import storage
from drig.both_ways import MIRRORED
from drig.data.photos import read_photo
from drig.data.store import StoreDataset
from drig.diffusion.network import Rig
from drig.diffusion.weights import load_weights, save_weights
from drig.errors import DrigError
from drig.faces.likeness import FOLLOWS_SKIN
from drig.identities import BASE, Identities
from drig.randomness import derive_seed
from drig.tracking import Tracker, tracking_uri
from drig.training.config import TrainingConfig
from drig.training.loop import train
from drig.versions import code_version, versions
from pipelines import stage1
from pipelines.ray_checkpoints import CheckpointUpload, drop_torn_list
from pipelines.stage1 import PRESETS, Job, Stage1Config, fit, main, report
from pipelines.stage1_reporter import Reporter
from tests.pipelines import conftest

RIG = replace(conftest.RIG, encoder_blocks=(1, 1, 1, 1), encoder_width=8)
TRAINING = TrainingConfig(
    samples=32, batch=4, learning_rate=1e-3, train_encoder=True, log_every=8, checkpoint_every=16, ema_half_life=8
)


@pytest.fixture
def config(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage1Config:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Stage1Config(
        dataset=str(store), storage=str(tmp_path / "run"), runs=tmp_path, rig=RIG, training=TRAINING, grid=2
    )


class QuietBoard:
    """A board for a worker that runs here."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def put(self, positions: Mapping[str, int], facts: Mapping[str, str] | None = None) -> None:
        self.seen += positions.values()


def run_here(config: Stage1Config, board: Any) -> dict[str, Any]:
    """Ray Train's local mode: the worker's function in this process, without a cluster."""
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    with Tracker(tracking_uri(config.runs), "test").run("test") as run:
        trainer: Any = TorchTrainer(
            stage1.train_worker,  # type: ignore[arg-type]
            train_loop_config={"job": Job(config, stage1._kind(config), run, board)},
            scaling_config=ScalingConfig(num_workers=0),
        )
        outcome: dict[str, Any] = trainer.fit().return_value
        return outcome


def test_one_worker(config: Stage1Config) -> None:
    board = QuietBoard()
    assert run_here(config, board)["samples_seen"] == 32
    assert board.seen == [8, 16, 24, 32]
    loaded = load_weights(Path(config.storage) / "weights.safetensors")
    assert (loaded.metadata["head"], loaded.metadata["estimator"]) == ("open", "fit")
    assert loaded.rig.config == RIG
    samples = sorted(path.name for path in Path(config.storage, "samples").iterdir())
    assert samples == ["000000000016.png", "000000000032.png"]
    assert read_photo(Path(config.storage, "samples", samples[0])).shape[2] == 3


def test_starts_from_weights_that_say_what_the_rig_is(config: Stage1Config, tmp_path: Path) -> None:
    run_here(config, QuietBoard())
    start = str(Path(config.storage) / "weights.safetensors")
    barely = replace(config.training, samples=4, learning_rate=1e-9, log_every=4, checkpoint_every=4)
    other = replace(config, storage=str(tmp_path / "other"), start=start, training=barely)
    run_here(other, QuietBoard())
    before, after = (load_weights(Path(c.storage) / "weights.safetensors").rig.denoisingUNet for c in (config, other))
    for name, tensor in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], tensor, atol=1e-6, rtol=0)
    assert FOLLOWS_SKIN not in load_weights(Path(start)).metadata  # nothing in the store has taught it that
    assert not load_weights(Path(start)).metadata[MIRRORED]
    loaded = load_weights(Path(start))
    save_weights(tmp_path / "able.safetensors", loaded.rig, metadata={**loaded.metadata, FOLLOWS_SKIN: True})
    able = replace(other, storage=str(tmp_path / "able"), start=str(tmp_path / "able.safetensors"), mirror=True)
    run_here(able, QuietBoard())
    metadata = load_weights(Path(able.storage) / "weights.safetensors").metadata
    assert metadata[FOLLOWS_SKIN]
    assert metadata[MIRRORED]
    with pytest.raises(DrigError, match="holds portraits of 32 px and the network is for 64 px"):
        fit(replace(config, storage=str(tmp_path / "third"), start=str(_weights_of_64_px(tmp_path))))


def _weights_of_64_px(folder: Path) -> Path:
    path = folder / "rig64.safetensors"
    save_weights(path, Rig(replace(RIG, size=64)))
    return path


def test_mirror_images_are_trained_on_too(config: Stage1Config, tmp_path: Path) -> None:
    mirrored = replace(config, storage=str(tmp_path / "mirrored"), mirror=True)
    plain, with_mirrors = (run_here(c, QuietBoard())["metrics"]["loss"] for c in (config, mirrored))
    assert plain != with_mirrors


def test_a_resident_dataset_is_trained_on_alike_but_with_other_noise(config: Stage1Config, tmp_path: Path) -> None:
    outcomes = [
        run_here(replace(config, storage=str(tmp_path / str(i)), mirror=True, resident=i > 0), QuietBoard())
        for i in range(3)
    ]
    read, resident, again = (outcome["metrics"]["loss"] for outcome in outcomes)
    assert read != resident == again
    assert resident == pytest.approx(read, rel=0.3)


def test_dataset_and_results_on_s3(config: Stage1Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3
    from moto import mock_aws

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where the node keeps its copy of the dataset
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        storage._new_client.cache_clear()
        boto3.client("s3").create_bucket(Bucket="lab")
        storage.upload_folder(Path(config.dataset), "s3://lab/buffers")
        run_here(replace(config, dataset="s3://lab/buffers", storage="s3://lab/run"), QuietBoard())
        assert len(storage.list_files("s3://lab/run/samples")) == 2
        content = storage.read_bytes("s3://lab/run/weights.safetensors")
    storage._new_client.cache_clear()
    (tmp_path / "weights.safetensors").write_bytes(content)
    assert load_weights(tmp_path / "weights.safetensors").metadata["samples_seen"] == 32


def test_goes_on_from_stored_checkpoints_whose_list_was_torn(config: Stage1Config) -> None:
    """Ray Train's list was being written when the driver died; the newest checkpoint, too, is not whole."""
    folder = Path(config.storage) / "ray_train"
    rig = Rig.from_seed(RIG, derive_seed(config.training.seed, "rig"))
    first = replace(config.training, samples=24, checkpoint_every=8)
    train(first, rig, StoreDataset(config.dataset), workdir=folder)
    (folder / "checkpoint_000000000024/rig.safetensors").write_bytes(b"")
    snapshot = folder / "checkpoint_manager_snapshot.json"
    snapshot.write_text('{"ray_version": "2.60')
    drop_torn_list(config.storage)
    assert not snapshot.exists()
    board = QuietBoard()
    run_here(config, board)
    assert board.seen == [24, 32]
    snapshot.write_text("{}")
    drop_torn_list(config.storage)
    assert snapshot.exists()


def test_the_grids_portraits_can_be_kept_from_training(config: Stage1Config, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def noting(training: TrainingConfig, rig: Rig, dataset: Any, **others: Any) -> Any:
        seen.append(len(dataset))
        return train(training, rig, dataset, **others)

    monkeypatch.setattr(stage1, "train", noting)
    for hold_out in (False, True):
        storage_of_its_own = str(Path(config.storage).with_name(f"{hold_out}"))
        run_here(replace(config, storage=storage_of_its_own, hold_out=hold_out, mirror=True), QuietBoard())
    assert seen == [2 * 8, 2 * (8 - 2)]


def dying_worker(loop_config: dict[str, Any]) -> dict[str, Any]:
    """Rank 1 dies once Ray Train has committed the first checkpoint, whose upload waits for training to go on."""
    from ray import train as ray_train

    folder = Path(loop_config["job"].config.storage)
    upload, progress, goes_on = CheckpointUpload._upload, Reporter.progress, threading.Event()

    def slow_upload(self: CheckpointUpload, *arguments: Any) -> Any:
        if not (folder / "trained_meanwhile").exists():
            goes_on.clear()
            assert goes_on.wait(300), "training stands still during an upload"
            (folder / "trained_meanwhile").touch()
        return upload(self, *arguments)

    def noted_progress(self: Reporter, samples: int, metrics: dict[str, float]) -> None:
        goes_on.set()
        progress(self, samples, metrics)

    CheckpointUpload._upload = slow_upload  # type: ignore[method-assign, assignment]
    Reporter.progress = noted_progress  # type: ignore[method-assign]

    def die() -> None:
        while not (folder / "ray_train/checkpoint_manager_snapshot.json").exists():
            time.sleep(0.02)
        (folder / "died").touch()
        os._exit(1)

    if ray_train.get_context().get_world_rank() == 1 and not (folder / "died").exists():
        threading.Thread(target=die, daemon=True).start()
    elif ray_train.get_checkpoint() is not None:
        (folder / "resumed").touch()
    return stage1.train_worker(loop_config)


def test_two_workers_one_of_which_dies(
    config: Stage1Config, ray_local: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stage1, "train_worker", dying_worker)
    training = replace(TRAINING, samples=96, checkpoint_every=16, precision="fp32")
    config = replace(config, grid=1, training=training)
    result = fit(config)
    folder = Path(config.storage)
    assert (folder / "trained_meanwhile").exists()
    assert (folder / "died").exists()
    assert (folder / "resumed").exists()
    assert result.samples_seen == 96
    # It comes to what one worker comes to undisturbed: nothing was lost, or trained on twice.
    rig = Rig.from_seed(RIG, derive_seed(training.seed, "rig"))
    alone = train(training, rig, StoreDataset(config.dataset), workdir=folder / "alone")
    assert result.metrics["loss"] == pytest.approx(alone.metrics["loss"], rel=1e-3)
    # The newest two checkpoints are there, and the best one.
    kept = sorted(path.name for path in (folder / "ray_train").glob("checkpoint_0*"))
    assert kept == ["checkpoint_000000000080", "checkpoint_000000000096"]
    best = json.loads((folder / "ray_train/best/best.json").read_bytes())
    assert [path.name for path in (folder / "ray_train/best").glob("checkpoint_*")] == [best["checkpoint"]]
    # The base rig is registered, with the weights of the run.
    identities = Identities(tracking_uri(config.runs))
    assert identities.get(BASE).run_id == result.run_id
    assert load_weights(identities.fetch(BASE)).metadata["samples_seen"] == 96
    # The run is in MLflow, whole: losses, gradient norm, speed, grids.
    run = Tracker(tracking_uri(config.runs), "stage1").run("run", key=config.storage)
    assert run.id == result.run_id
    found = run.client.get_run(run.id).data
    logged = {"loss", "loss_quarter_1", "gradient_norm", "samples_per_second", "wait_share", "memory_gb", "loss_grid"}
    assert logged <= set(found.metrics)
    losses = [metric.value for metric in run.client.get_metric_history(run.id, "loss_grid")]
    assert best["score"] == min(losses)
    assert found.params["training.batch"] == "4"
    manifest = (Path(config.dataset) / "manifest.json").read_bytes()
    assert found.tags["data.manifest"] == hashlib.sha256(manifest).hexdigest()
    assert found.tags["code"] == code_version()
    assert found.tags["version.torch"] == versions()["torch"]
    assert run.client.list_artifacts(run.id, "samples")
    # A finished run returns at once, and says the same.
    assert fit(config) == result
    report(result)
    assert "base rig: version 1" in capsys.readouterr().out


def test_more_workers_than_there_is_room_for_are_an_error(
    config: Stage1Config, ray_local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage1, "OWN_RAY_TIMEOUT_S", 1)
    config = replace(config, training=replace(TRAINING, batch=40))
    with pytest.raises(DrigError, match=r"40 workers need 40 CPUs; Ray has 4, .* Give fewer --workers"):
        fit(replace(config, workers=40))
    with pytest.raises(DrigError, match="5 workers need 5 CPUs"):
        fit(replace(config, workers=40, min_workers=5))


def test_presets_are_the_papers_and_the_small_one() -> None:
    paper = Stage1Config(dataset="-", **PRESETS["ffhq256"])
    assert (paper.rig.size, paper.workers, paper.training.batch, paper.training.samples) == (256, 8, 256, 12_800_000)
    assert {len(paper.training.share(rank, 8)) for rank in range(8)} == {32}
    assert paper.cluster.gpu
    assert Stage1Config(dataset="-", **PRESETS["tiny"]).rig.size == 64


def test_a_store_of_another_size_is_refused_before_anything_starts(config: Stage1Config) -> None:
    with pytest.raises(DrigError, match=r"portraits of 32 px .* network is for 64 px"):
        fit(replace(config, rig=PRESETS["tiny"]["rig"]))
    assert not Path(config.storage).exists()


def test_another_run_in_the_same_folder_is_refused(config: Stage1Config) -> None:
    configs.save(config, Path(config.storage))
    with pytest.raises(DrigError, match=r"training\.learning_rate 0\.001 there, 5\.0 here"):
        fit(replace(config, training=replace(TRAINING, learning_rate=5.0)))


def test_bad_input_is_exit_code_2(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--storage", str(tmp_path / "run")]
    assert main(["--dataset", str(tmp_path / "missing"), *run]) == 2
    assert main(["--dataset", str(store), "--workers", "17", *run]) == 2  # a batch of 16
    assert main(["--dataset", str(store), "--workers", "0", *run]) == 2
    assert main(["--dataset", str(store), "--workers", "2", "--min_workers", "3", *run]) == 2
    assert main(["--dataset", str(store), "--preset", "tiny", *run]) == 2  # 64 px
    assert capsys.readouterr().err.count("error:") == 5
    assert not (tmp_path / "run").exists()
