import logging
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from drig.errors import DrigError
from drig.training import checkpoints
from drig.training.loop import train
from tests.training.conftest import small_dataset, small_rig, small_training, tensors_equal


def run(workdir: Path, *, seed: int = 0, photos: int = 6, rig: Any = None, **changes: Any) -> int:
    rig = small_rig(seed, **(rig or {}))
    return train(small_training(**changes), rig, small_dataset(photos), workdir=workdir).samples_seen  # type: ignore[arg-type]


def damage(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


def test_the_newest_are_kept_and_nothing_temporary_is_left(tmp_path: Path) -> None:
    run(tmp_path, keep=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint_000000000016",
        "checkpoint_000000000024",
        "checkpoint_000000000032",
        "weights.safetensors",
    ]


@pytest.mark.parametrize("fault", ["bit", "truncated", "no progress", "not JSON"])
def test_a_damaged_checkpoint_is_passed_over(fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, samples=16)
    broken = checkpoints.find(tmp_path)[0]
    if fault == "bit":
        damage(broken / "optimizer.safetensors")
    elif fault == "truncated":
        data = (broken / "rig.safetensors").read_bytes()
        (broken / "rig.safetensors").write_bytes(data[: len(data) // 2])
    elif fault == "no progress":
        (broken / "progress.json").unlink()
    else:
        (broken / "progress.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert run(tmp_path, samples=32) == 32
    assert "passing over the damaged checkpoint" in caplog.text
    assert broken.name in caplog.text
    run(tmp_path / "whole", samples=32)
    assert tensors_equal(
        load_file(tmp_path / "weights.safetensors"), load_file(tmp_path / "whole" / "weights.safetensors")
    )


def test_an_unfinished_write_is_no_checkpoint(tmp_path: Path) -> None:
    run(tmp_path, samples=16)
    (tmp_path / ".checkpoint_000000000024.tmp").mkdir()
    assert len(checkpoints.find(tmp_path)) == 2
    assert run(tmp_path, samples=32) == 32
    assert not (tmp_path / ".checkpoint_000000000024.tmp").exists()


def test_training_does_not_start_over_silently(tmp_path: Path) -> None:
    run(tmp_path, samples=16)
    for folder in checkpoints.find(tmp_path):
        damage(folder / "ema.safetensors")
    with pytest.raises(DrigError, match=r"every checkpoint in .* is damaged"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"rig": {"size": 16}}, "rig.size 8 there, 16 here"),
        ({"rig": {"base_channels": 64}}, "rig.base_channels 32 there, 64 here"),
        ({"learning_rate": 2e-3}, "training.learning_rate 0.001 there, 0.002 here"),
        ({"train_encoder": False}, "training.train_encoder True there, False here"),
        ({"ema_half_life": None}, "training.ema_half_life 100 there, None here"),
        ({"photos": 5}, "dataset size 6 there, 5 here"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused(changes: dict[str, Any], difference: str, tmp_path: Path) -> None:
    run(tmp_path, samples=8)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DrigError, match=difference):
        run(tmp_path, **changes)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("delta_rank", "message"), [(None, "other starting weights"), (2, "Give the weights that it")])
def test_stage2_from_another_base_is_refused(delta_rank: int | None, message: str, tmp_path: Path) -> None:
    run(tmp_path, samples=8, train_encoder=False, delta_rank=delta_rank)
    with pytest.raises(DrigError, match=message):
        run(tmp_path, seed=1, train_encoder=False, delta_rank=delta_rank)


def test_a_checkpoint_from_elsewhere_is_adopted(tmp_path: Path) -> None:
    run(tmp_path / "here", samples=16)
    stored = checkpoints.find(tmp_path / "here")[0].rename(tmp_path / "stored under another name")
    there = tmp_path / "there"
    there.mkdir()
    assert checkpoints.adopt(stored, there).name == "checkpoint_000000000016"
    assert checkpoints.adopt(stored, there).name == "checkpoint_000000000016"
    assert run(there, samples=24) == 24
    damage(stored / "rig.safetensors")
    with pytest.raises(DrigError, match=r"rig\.safetensors is not as it was written"):
        checkpoints.adopt(stored, there)
