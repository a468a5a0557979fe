from pathlib import Path

from pipelines.time_budget import TimeBudget


def test_time_counts_over_interruptions(tmp_path: Path) -> None:
    file = tmp_path / "minutes.txt"
    first = TimeBudget(file, minutes=60)
    first.note()
    assert not first.is_spent
    assert 0 < float(file.read_text()) < 60
    file.write_text("59.5")
    assert not TimeBudget(file, minutes=60).is_spent
    file.write_text("60.5")
    assert TimeBudget(file, minutes=60).is_spent


def test_without_a_budget_nothing_is_counted(tmp_path: Path) -> None:
    budget = TimeBudget(tmp_path / "minutes.txt", minutes=None)
    budget.note()
    assert not budget.is_spent
    assert not list(tmp_path.iterdir())
