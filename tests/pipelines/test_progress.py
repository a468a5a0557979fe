import json
from unittest.mock import Mock

import pytest
import ray

from drig import logs
from pipelines.progress import Board, Positions, TrackedCounts, bar, board_bar


def test_positions_are_absolute() -> None:
    board = Positions()
    board.put({"ann": 40, "bob": 10}, {"loss": "0.2"})
    board.put({"ann": 30}, {})  # its worker was restarted from a checkpoint
    assert board.read() == (40, {"loss": "0.2"})


def test_bar_follows_a_worker_and_ends_where_it_ended(ray_local: None, capfd: pytest.CaptureFixture[str]) -> None:
    board = Board()

    @ray.remote
    def work() -> None:
        for samples in (50, 100):
            board.put({"run": samples}, {"loss": f"{1 / samples:.3f}"})
            board.read()  # calls of one process arrive in order: what was put has arrived when this ends

    with board_bar(board, total=100, unit="sample", title="training"):
        ray.get(work.remote())
    drawn = capfd.readouterr().err
    assert "training: 100%" in drawn
    assert "100/100" in drawn
    assert "loss=0.010" in drawn


def test_a_bar_in_a_log_of_events_is_events(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(logs.VARIABLE, "json")
    with caplog.at_level("INFO", "drig"), bar(total=4, unit="photo", title="extract") as drawn:
        drawn.set_postfix(rejected=1, refresh=False)
        drawn.update(4)
    assert capsys.readouterr().err == ""  # nothing is drawn
    (*_, last) = caplog.records
    line = json.loads(logs.EventFormatter(as_json=True).format(last))
    assert (line["event"], line["work"], line["done"], line["total"]) == ("progress", "extract", 4, 4)
    assert line["facts"] == "rejected=1"


def test_counts_are_on_the_bar_and_now_and_then_in_mlflow(capfd: pytest.CaptureFixture[str]) -> None:
    run = Mock()
    with bar(total=4, unit="photo", title="extract") as drawn:
        counts = TrackedCounts(drawn, run, before=10)
        counts.put(1, rejected=0)
        run.log_metrics.assert_not_called()
        counts.put(4, rejected=1)
    assert "4/4" in capfd.readouterr().err
    run.log_metrics.assert_called_once()
    metrics = run.log_metrics.call_args.args[0]
    assert (metrics["done"], metrics["rejected"], metrics["seconds_left"]) == (14, 1, 0)
    assert metrics["photos_per_second"] > 0
    assert run.log_metrics.call_args.kwargs == {"samples": 14}
