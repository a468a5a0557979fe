import time
from typing import Any

import pytest
import ray

from pipelines.progress import Board, progress_bar, start_board


def test_positions_are_absolute() -> None:
    board = Board()
    board.put({"ann": 40, "bob": 10}, {"loss": "0.2"})
    board.put({"ann": 30})  # its worker was restarted from a checkpoint
    assert board.read() == (40, {"loss": "0.2"})


def test_bar_follows_a_worker_and_ends_where_it_ended(ray_local: None, capfd: pytest.CaptureFixture[str]) -> None:
    board = start_board()

    @ray.remote
    def work() -> None:
        for samples in (50, 100):
            ray.get(board.put.remote({"run": samples}, {"loss": f"{1 / samples:.3f}"}))
            time.sleep(0.2)

    with progress_bar(board, total=100, unit="sample", title="training"):
        running: Any = work.remote()
        ray.get(running)
    drawn = capfd.readouterr().err
    assert "training: 100%" in drawn
    assert "100/100" in drawn
    assert "loss=0.010" in drawn
