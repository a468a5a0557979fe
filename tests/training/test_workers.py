"""Two processes that train one rig together."""

import multiprocessing
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from drig.errors import DrigError
from drig.training.loop import train
from tests.training.conftest import distance, small_dataset, small_rig, small_training, tensors_equal

STAGE1 = small_training(samples=4)
STAGE2 = small_training(samples=32, train_encoder=False, micro_batch=1)
DELTA = small_training(samples=32, train_encoder=False, micro_batch=1, delta_rank=2)


def worker(rank: int, folder: Path) -> None:
    """One of two: stage 2, that as a delta, and stage 1; leaves the rigs as this rank has them."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2, timeout=timedelta(seconds=200)
    )
    reported: list[int] = []
    for name, config in (("stage2", STAGE2), ("delta", DELTA), ("stage1", STAGE1)):
        rig = small_rig(dropout=0.0)
        result = train(
            config,
            rig,
            small_dataset(),  # type: ignore[arg-type]
            workdir=folder / name,
            rank=rank,
            world_size=2,
            on_checkpoint=lambda path, seen, _: reported.append(seen if (path is None) == (rank == 1) else -1),
        )
        assert result.weights == folder / name / "weights.safetensors"
        assert result.weights.exists()
        save_file(rig.state_dict(), folder / f"{name}_{rank}.safetensors")
    with pytest.raises(DrigError, match=r"checkpoints of \[4, 0\] samples"):
        train(
            small_training(samples=8),
            small_rig(dropout=0.0),
            small_dataset(),  # type: ignore[arg-type]
            workdir=folder / ("stage1" if rank == 0 else "a folder of its own"),
            rank=rank,
            world_size=2,
        )
    assert reported == [8, 16, 24, 32, 8, 16, 24, 32, 4]
    dist.destroy_process_group()


def test_two_workers_train_like_one(tmp_path: Path) -> None:
    other = multiprocessing.get_context("spawn").Process(target=worker, args=(1, tmp_path), daemon=True)
    other.start()
    worker(0, tmp_path)
    other.join()
    assert other.exitcode == 0

    start, alone = small_rig(dropout=0.0).state_dict(), small_rig(dropout=0.0)
    train(STAGE2, alone, small_dataset(), workdir=tmp_path / "alone")  # type: ignore[arg-type]
    ranks = [load_file(tmp_path / f"stage2_{rank}.safetensors") for rank in range(2)]
    assert tensors_equal(ranks[0], ranks[1])
    # Adam makes full steps of a bias before a normalisation, whose gradient is nothing but rounding.
    assert distance(ranks[0], alone.state_dict()) < 5e-3 * distance(ranks[0], start)

    alone = small_rig(dropout=0.0)
    train(DELTA, alone, small_dataset(), workdir=tmp_path / "alone_delta")  # type: ignore[arg-type]
    deltas = [load_file(tmp_path / name / "weights.safetensors") for name in ("delta", "alone_delta")]
    ups = [{name: tensor for name, tensor in delta.items() if name.endswith(".up")} for delta in deltas]
    assert distance(ups[0], ups[1]) < 5e-2 * distance(ups[1], {name: 0 * tensor for name, tensor in ups[1].items()})

    # Stage 1, one step: the means of the halves that each worker saw average to that of the batch.
    alone = small_rig(dropout=0.0)
    train(STAGE1, alone, small_dataset(), workdir=tmp_path / "alone1")  # type: ignore[arg-type]
    ranks = [load_file(tmp_path / f"stage1_{rank}.safetensors") for rank in range(2)]
    assert tensors_equal(ranks[0], ranks[1])
    mean = "encoder.bn1.running_mean"
    torch.testing.assert_close(ranks[0][mean], alone.state_dict()[mean], atol=1e-6, rtol=0)
    assert not torch.equal(ranks[0][mean], start[mean])
