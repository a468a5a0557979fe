from collections.abc import Sequence
from pathlib import Path

import pytest

from drig.training.loop import TrainingResult
from pipelines.early_stopping import train_while_better


def run(
    folder: Path, values: Sequence[float], total: int = 100, die_at: int | None = None, time_for: int = 1000
) -> tuple[TrainingResult, list[int]]:
    """Stretches of 20 samples whose weights measure as `values` say; the result, and what was trained to."""
    asked: list[int] = []

    def train_to(samples: int) -> TrainingResult:
        asked.append(samples)
        samples = min(samples, time_for)
        weights = folder / "weights"
        weights.write_text(str(samples))
        return TrainingResult(weights, samples, {"loss": samples / 100})

    def measure(weights: Path) -> float:
        samples = int(weights.read_text())
        if samples == die_at:
            raise KeyboardInterrupt
        return values[-(-samples // 20) - 1]

    return train_while_better(train_to, measure, total=total, every=20, folder=folder), asked


def kept(result: TrainingResult) -> str:
    assert result.weights is not None
    return result.weights.read_text()


def test_it_stops_at_the_first_that_is_no_better_and_keeps_the_best(tmp_path: Path) -> None:
    result, asked = run(tmp_path, [1.0, 3.0, 2.0, 9.0])
    assert asked == [20, 40, 60]
    assert (result.samples_seen, kept(result), result.metrics) == (40, "40", {"loss": 0.4})


def test_it_ends_with_the_budget(tmp_path: Path) -> None:
    result, asked = run(tmp_path, [1.0, 2.0, 3.0], total=50)
    assert asked == [20, 40, 50]
    assert (result.samples_seen, kept(result)) == (50, "50")


@pytest.mark.parametrize(("values", "best"), [([1.0, 2.0, 3.0], 50), ([1.0, 3.0, 2.0], 40)])
def test_it_ends_when_time_is_up(tmp_path: Path, values: list[float], best: int) -> None:
    result, asked = run(tmp_path, values, time_for=50)
    assert asked == [20, 40, 60]
    assert (result.samples_seen, kept(result)) == (best, str(best))


def test_interrupted_it_goes_on_where_it_was(tmp_path: Path) -> None:
    values = [1.0, 3.0, 4.0, 2.0]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, values, die_at=60)
    result, asked = run(tmp_path, values)
    assert asked == [60, 80]
    assert (result.samples_seen, kept(result)) == (60, "60")
    assert run(tmp_path, values) == (result, [])
