"""Several processes that train one rig together."""

import multiprocessing
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from drig.errors import DrigError
from drig.training.config import TrainingConfig
from drig.training.loop import train
from tests.training.conftest import distance, small_dataset, small_rig, small_training, tensors_equal

# Six samples are two, two and two for three micro-batches, three for each of two workers, and 1, 2, 1, 2 for four.
STAGE1 = small_training(samples=36, batch=6, log_every=6, checkpoint_every=18)
STAGE2 = small_training(samples=18, batch=6, log_every=6, train_encoder=False, micro_batch=1)
DELTA = small_training(samples=18, batch=6, log_every=6, train_encoder=False, micro_batch=1, delta_rank=2)
Curve = list[float]


def train_here(config: TrainingConfig, folder: Path, rank: int = 0, world_size: int = 1) -> Curve:
    """Train, and leave the rig as this worker has it; the reported losses, on rank 0."""
    rig, losses = small_rig(), []
    reported: list[bool] = []
    result = train(
        config,
        rig,
        small_dataset(),  # type: ignore[arg-type]
        workdir=folder,
        rank=rank,
        world_size=world_size,
        on_progress=lambda seen, metrics: losses.append(metrics["loss"]),
        on_checkpoint=lambda path, seen, metrics: reported.append(path is None),
    )
    assert result.weights == folder / "weights.safetensors"
    assert result.weights.exists()
    assert reported
    assert set(reported) == {rank > 0}
    save_file(rig.state_dict(), folder / f"rank_{rank}.safetensors")
    return losses


def worker(rank: int, folder: Path) -> dict[str, Curve]:
    """One of two, and then of four: stage 1, stage 2, and that as a delta."""
    curves = {}
    torch.set_num_threads(1)
    for world_size in (2, 4):
        if rank < world_size:
            meeting = f"file://{folder / f'meeting_{world_size}'}"
            dist.init_process_group(
                "gloo", init_method=meeting, rank=rank, world_size=world_size, timeout=timedelta(seconds=200)
            )
            for name, config in (("stage1", STAGE1), ("stage2", STAGE2), ("delta", DELTA)):
                curves[f"{name} {world_size}"] = train_here(config, folder / f"{name} {world_size}", rank, world_size)
            dist.barrier()
            if world_size == 4:
                refuse_different_starts(rank, folder)
            dist.destroy_process_group()
    return curves


def refuse_different_starts(rank: int, folder: Path) -> None:
    with pytest.raises(DrigError, match=r"checkpoints of \[36, 0, 0, 0\] samples"):
        train(
            STAGE1,
            small_rig(),
            small_dataset(),  # type: ignore[arg-type]
            workdir=folder / ("stage1 4" if rank == 0 else "a folder of its own"),
            rank=rank,
            world_size=4,
        )


def test_losses_and_weights_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    """With dropout, BatchNorm, shares of different sizes and micro-batches."""
    spawn = multiprocessing.get_context("spawn")
    others = [spawn.Process(target=worker, args=(rank, tmp_path), daemon=True) for rank in (1, 2, 3)]
    for other in others:
        other.start()
    curves = worker(0, tmp_path)
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0, 0, 0]

    for name, config in (("stage1", STAGE1), ("stage2", STAGE2), ("delta", DELTA)):
        losses = train_here(config, tmp_path / f"{name} 1")
        assert len(losses) == config.total // config.batch
        weights = load_file(tmp_path / f"{name} 1" / "weights.safetensors")
        fresh = small_rig().state_dict()  # a delta begins as zeros
        start = {key: fresh.get(key, torch.zeros_like(tensor)) for key, tensor in weights.items()}
        for world_size in (2, 4):
            folder = tmp_path / f"{name} {world_size}"
            assert curves[f"{name} {world_size}"] == pytest.approx(losses, rel=1e-5)
            found = load_file(folder / "weights.safetensors")
            # Adam makes full steps of a bias before a normalisation, whose gradient is nothing but rounding.
            assert distance(found, weights) < 2e-3 * distance(weights, start)
            ranks = [load_file(folder / f"rank_{rank}.safetensors") for rank in range(world_size)]
            assert all(tensors_equal(ranks[0], other) for other in ranks)
