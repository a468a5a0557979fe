import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from drig.data.resident import ResidentDataset
from drig.diffusion.deltas import content_hash, load_delta
from drig.diffusion.weights import load_weights
from drig.errors import DrigError
from drig.training import checkpoints
from drig.training.loop import TrainingResult, train
from drig.training.objective import Objective
from tests.training.conftest import distance, small_dataset, small_rig, small_training, tensors_equal

STAGES = pytest.mark.parametrize("train_encoder", [True, False], ids=["stage1", "stage2"])


class Interrupted(Exception):
    """Stands for whatever ends a process."""


def interrupt_at(samples: int) -> Callable[[int, dict[str, float]], None]:
    def on_progress(samples_seen: int, metrics: dict[str, float]) -> None:
        if samples_seen >= samples:
            raise Interrupted

    return on_progress


def run(workdir: Path, *, seed: int = 0, dataset: Any = None, callbacks: Any = None, **changes: Any) -> TrainingResult:
    dataset = small_dataset() if dataset is None else dataset
    return train(small_training(**changes), small_rig(seed), dataset, workdir=workdir, **(callbacks or {}))


def newest(workdir: Path, name: str) -> dict[str, Tensor]:
    return load_file(checkpoints.find(workdir)[0] / name)


@STAGES
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path, train_encoder: bool) -> None:
    changes: dict[str, Any] = {"train_encoder": train_encoder, "precision": "fp32", "warmup": 20, "micro_batch": 2}
    whole = run(tmp_path / "whole", **changes)
    # Ends at 24 samples seen, after the checkpoint of 16 and before that of 32.
    with pytest.raises(Interrupted):
        run(tmp_path / "two", callbacks={"on_progress": interrupt_at(24)}, checkpoint_every=16, **changes)
    assert [path.name for path in checkpoints.find(tmp_path / "two")] == ["checkpoint_000000000016"]
    torch.rand(3)  # the state of the global generator does not matter
    resumed = run(tmp_path / "two", checkpoint_every=16, **changes)
    assert resumed.samples_seen == whole.samples_seen == 32
    for name in ("rig.safetensors", "ema.safetensors", "optimizer.safetensors"):
        assert tensors_equal(newest(tmp_path / "whole", name), newest(tmp_path / "two", name))
    assert whole.weights is not None
    assert resumed.weights is not None
    assert tensors_equal(load_file(whole.weights), load_file(resumed.weights))
    assert not tensors_equal(load_file(whole.weights), small_rig().state_dict())


def test_an_interrupted_delta_is_resumed_bit_for_bit_and_is_all_that_is_kept(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"train_encoder": False, "delta_rank": 2, "precision": "fp32", "micro_batch": 2}
    changes["borrowed_codes"] = 0.5
    whole = run(tmp_path / "whole", **changes)
    with pytest.raises(Interrupted):
        run(tmp_path / "two", callbacks={"on_progress": interrupt_at(24)}, checkpoint_every=16, **changes)
    resumed = run(tmp_path / "two", checkpoint_every=16, **changes)
    names = ["delta.safetensors", "ema.safetensors", "optimizer.safetensors"]
    assert sorted(path.name for path in checkpoints.find(tmp_path / "two")[0].iterdir()) == [*names, "progress.json"]
    for name in names:
        assert tensors_equal(newest(tmp_path / "whole", name), newest(tmp_path / "two", name))
        assert not any("encoder" in tensor for tensor in newest(tmp_path / "two", name))
    assert whole.weights is not None
    assert resumed.weights is not None
    assert tensors_equal(load_file(whole.weights), load_file(resumed.weights))


def test_a_delta_is_trained_over_a_rig_that_stays(tmp_path: Path) -> None:
    rig, before = small_rig(), small_rig().state_dict()
    config = small_training(train_encoder=False, delta_rank=2)
    result = train(config, rig, small_dataset(), workdir=tmp_path)  # type: ignore[arg-type]
    assert tensors_equal(dict(rig.state_dict()), dict(before))
    assert result.weights is not None
    loaded = load_delta(result.weights, rig, content_hash(before))
    assert loaded.metadata["training"]["delta_rank"] == loaded.delta.rank == 2
    averaged = newest(tmp_path, "ema.safetensors")
    assert any(bool(tensor.any()) for name, tensor in averaged.items() if name.endswith(".up"))
    for name, tensor in load_file(result.weights).items():
        assert torch.equal(tensor, averaged[name].half())
    trained = newest(tmp_path, "optimizer.safetensors")
    assert sum(t.numel() for n, t in trained.items() if n.endswith("/exp_avg")) == loaded.delta.size


def test_the_global_random_state_is_given_back(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(tmp_path, samples=4)
    assert torch.equal(torch.rand(3), expected)


def test_a_finished_run_returns_at_once(tmp_path: Path) -> None:
    first = run(tmp_path)

    class Unread:
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> dict[str, Tensor]:
            pytest.fail("read a sample")

    assert run(tmp_path, dataset=Unread()) == first


def test_a_larger_budget_continues_the_run(tmp_path: Path) -> None:
    run(tmp_path / "short", samples=16)
    longer = run(tmp_path / "short", samples=32, checkpoint_every=32, log_every=4, keep=1)
    whole = run(tmp_path / "whole", samples=32)
    assert longer.weights is not None
    assert whole.weights is not None
    assert tensors_equal(load_file(longer.weights), load_file(whole.weights))


def test_stopping_early_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    stopped = run(tmp_path, callbacks={"should_stop": lambda: True}, checkpoint_every=1_000)
    assert (stopped.weights, stopped.samples_seen) == (None, 8)
    assert checkpoints.find(tmp_path)[0].name == "checkpoint_000000000008"
    assert run(tmp_path, checkpoint_every=1_000).samples_seen == 32


def test_stage2_leaves_the_real_encoder_as_it_was(tmp_path: Path) -> None:
    """ResNet-18 with its BatchNorm buffers; the released code lets these drift (SPEC 2)."""
    rig = small_rig(encoder_blocks=(2, 2, 2, 2), encoder_width=64)
    rig.train()
    before = {name: tensor.clone() for name, tensor in rig.state_dict().items()}
    result = train(small_training(samples=8, train_encoder=False), rig, small_dataset(), workdir=tmp_path)  # type: ignore[arg-type]
    assert result.weights is not None
    for state in (rig.state_dict(), load_file(result.weights)):
        encoder = [name for name in before if name.startswith("encoder.")]
        assert sum("running_var" in name for name in encoder) == 20
        assert all(torch.equal(state[name], before[name]) for name in encoder)
        assert not torch.equal(state["denoisingUNet.out.2.weight"], before["denoisingUNet.out.2.weight"])


def test_stage1_trains_the_encoder_and_its_statistics(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.weights is not None
    before, after = small_rig().state_dict(), load_file(result.weights)
    for name in ("encoder.conv1.weight", "encoder.bn1.running_mean"):
        assert not torch.equal(before[name], after[name])


@STAGES
def test_micro_batches_change_nothing(tmp_path: Path, train_encoder: bool) -> None:
    """Of the losses, with dropout and BatchNorm, up to float rounding."""
    curves: dict[int | None, list[float]] = {None: [], 3: []}
    for micro_batch, losses in curves.items():
        report = {"on_progress": lambda seen, metrics, losses=losses: losses.append(metrics["loss"])}
        changes: dict[str, Any] = {"train_encoder": train_encoder, "micro_batch": micro_batch, "samples": 20}
        run(tmp_path / str(micro_batch), callbacks=report, log_every=4, **changes)
    assert len(curves[3]) == 5
    assert curves[3] == pytest.approx(curves[None], rel=1e-5)


def test_an_interruption_neither_loses_nor_repeats_a_sample(tmp_path: Path) -> None:
    """What is trained on up to the checkpoint, and after it, is what an undisturbed run trains on, in its order."""

    class Noting:
        def __init__(self) -> None:
            self.items = small_dataset()
            self.read: list[int] = []

        def __len__(self) -> int:
            return len(self.items)

        def __getitem__(self, index: int) -> dict[str, Tensor]:
            self.read.append(index)
            return self.items[index]

    whole, before, after = Noting(), Noting(), Noting()
    run(tmp_path / "whole", dataset=whole)
    with pytest.raises(Interrupted):
        run(tmp_path / "two", dataset=before, callbacks={"on_progress": interrupt_at(24)}, checkpoint_every=16)
    run(tmp_path / "two", dataset=after)
    assert len(before.read) == 24
    assert before.read[:16] + after.read == whole.read


def test_the_loss_falls_on_what_can_be_memorised(tmp_path: Path) -> None:
    losses: list[float] = []
    callbacks = {"on_progress": lambda seen, metrics: losses.append(metrics["loss"])}
    run(tmp_path, dataset=small_dataset(2), callbacks=callbacks, samples=480, batch=8, learning_rate=3e-3,
        log_every=80, checkpoint_every=480)  # fmt: skip
    assert losses[-1] < 0.4 * losses[0]


def test_a_non_finite_loss_stops_before_the_weights_are_touched(tmp_path: Path) -> None:
    dataset = small_dataset()
    run(tmp_path, dataset=dataset, samples=16)
    dataset[2]["buffers"][0, 0, 0] = float("nan")
    rig = small_rig()
    with pytest.raises(DrigError, match=r"stopped after (16|20) samples: loss nan.*lower than 0.001"):
        train(small_training(), rig, dataset, workdir=tmp_path)  # type: ignore[arg-type]
    assert all(tensor.isfinite().all() for tensor in rig.state_dict().values())
    assert checkpoints.find(tmp_path)[0].name == "checkpoint_000000000016"


@pytest.mark.gpu
@pytest.mark.parametrize("delta_rank", [None, 2], ids=["whole", "delta"])
def test_compiled_bfloat16_training_on_a_gpu_loses_as_float32_does(tmp_path: Path, delta_rank: int | None) -> None:
    losses = {}
    for precision, compile in (("fp32", False), ("bf16", True)):
        config = small_training(
            train_encoder=False, delta_rank=delta_rank, precision=precision, compile=compile, samples=64
        )
        rig = small_rig(dropout=0.0).to("cuda")
        losses[precision] = train(config, rig, small_dataset(), workdir=tmp_path / precision).metrics["loss"]  # type: ignore[arg-type]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)


@STAGES
def test_training_on_a_resident_data_set_resumes_exactly_too(tmp_path: Path, train_encoder: bool) -> None:
    dataset = ResidentDataset(small_dataset(), "cpu", mirror=True)  # type: ignore[arg-type]
    changes: dict[str, Any] = {"train_encoder": train_encoder, "dataset": dataset}
    whole = run(tmp_path / "whole", **changes)
    with pytest.raises(Interrupted):
        run(tmp_path / "two", callbacks={"on_progress": interrupt_at(24)}, checkpoint_every=16, **changes)
    resumed = run(tmp_path / "two", checkpoint_every=16, **changes)
    assert whole.weights is not None
    assert resumed.weights is not None
    assert tensors_equal(load_file(whole.weights), load_file(resumed.weights))
    assert not tensors_equal(load_file(whole.weights), small_rig().state_dict())


@STAGES
@pytest.mark.parametrize("delta_rank", [None, 2], ids=["whole", "delta"])
def test_recomputing_gives_the_same_weights(tmp_path: Path, train_encoder: bool, delta_rank: int | None) -> None:
    if train_encoder and delta_rank:
        pytest.skip("deltas are stage 2's")
    changes: dict[str, Any] = {"train_encoder": train_encoder, "delta_rank": delta_rank, "precision": "fp32"}
    kept = run(tmp_path / "kept", **changes)
    recomputed = run(tmp_path / "recomputed", recompute=True, **changes)
    assert kept.weights is not None
    assert recomputed.weights is not None
    assert tensors_equal(load_file(kept.weights), load_file(recomputed.weights))


@pytest.mark.parametrize("delta_rank", [None, 2], ids=["whole", "delta"])
def test_the_whole_of_a_forward_pass_can_be_compiled(
    tmp_path: Path, delta_rank: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the same numbers, by the compiler's first half; the second, which writes C++ for minutes, is PyTorch's."""
    changes: dict[str, Any] = {"train_encoder": False, "delta_rank": delta_rank, "precision": "fp32", "samples": 8}
    expected = run(tmp_path / "eager", **changes)
    compile, compiled = Objective.compile, []

    def traced(self: Objective) -> None:
        compiled.append(self)
        compile(self, backend="aot_eager", fullgraph=True)

    monkeypatch.setattr(Objective, "compile", traced)
    found = run(tmp_path / "compiled", compile=True, **changes)
    assert len(compiled) == 1
    assert expected.weights is not None
    assert found.weights is not None
    assert distance(load_file(expected.weights), load_file(found.weights)) < 1e-4


def test_reports_and_checkpoints_come_when_asked_for(tmp_path: Path) -> None:
    reports: dict[int, dict[str, float]] = {}
    saved: list[tuple[str, int]] = []

    def on_checkpoint(folder: Path | None, samples_seen: int, metrics: dict[str, float]) -> None:
        assert folder is not None
        assert json.loads((folder / "progress.json").read_text())["metrics"] == metrics
        saved.append((folder.name, samples_seen))

    callbacks = {"on_progress": reports.__setitem__, "on_checkpoint": on_checkpoint}
    intervals = {"log_every": 10, "checkpoint_every": 12}
    result = run(tmp_path, callbacks=callbacks, samples=30, warmup=16, cooldown=14, **intervals)
    assert list(reports) == [12, 20, 32]
    assert saved == [("checkpoint_000000000012", 12), ("checkpoint_000000000024", 24), ("checkpoint_000000000032", 32)]
    assert [metrics["learning_rate"] for metrics in reports.values()] == pytest.approx([1e-3, 12 / 14 * 1e-3, 0.0])
    assert result.metrics == reports[32]
    quarters = [value for name, value in result.metrics.items() if name.startswith("loss_quarter")]
    assert min(quarters) <= result.metrics["loss"] <= max(quarters)
    assert result.metrics["samples_per_second"] > 0


def test_the_weights_file_says_how_it_was_made(tmp_path: Path) -> None:
    averaged = run(tmp_path / "averaged")
    raw = run(tmp_path / "raw", ema_half_life=None)
    assert averaged.weights is not None
    assert raw.weights is not None
    metadata = load_weights(averaged.weights).metadata
    assert metadata["samples_seen"] == 32
    assert metadata["training"]["learning_rate"] == 1e-3
    assert tensors_equal(load_file(averaged.weights), newest(tmp_path / "averaged", "ema.safetensors"))
    assert tensors_equal(load_file(raw.weights), newest(tmp_path / "raw", "rig.safetensors"))
    assert not tensors_equal(load_file(averaged.weights), load_file(raw.weights))


def test_bf16_keeps_float32_weights(tmp_path: Path) -> None:
    result = run(tmp_path, samples=8, precision="bf16", train_encoder=False)
    assert result.weights is not None
    tensors = {**newest(tmp_path, "optimizer.safetensors"), **load_file(result.weights)}
    assert {tensor.dtype for tensor in tensors.values()} <= {torch.float32, torch.int64}


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DrigError, match="Choose a writable one"):
        run(tmp_path / "file" / "run")


def test_several_workers_need_a_process_group(tmp_path: Path) -> None:
    with pytest.raises(DrigError, match="no process group"):
        train(small_training(), small_rig(), small_dataset(), workdir=tmp_path, world_size=2)  # type: ignore[arg-type]


def test_an_empty_dataset(tmp_path: Path) -> None:
    with pytest.raises(DrigError, match="dataset is empty"):
        run(tmp_path, dataset=[])
