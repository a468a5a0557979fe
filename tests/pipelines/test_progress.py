import time

import pytest
import ray

from pipelines.progress import Board, Positions, board_bar


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
            time.sleep(0.2)

    with board_bar(board, total=100, unit="sample", title="training"):
        ray.get(work.remote())
    drawn = capfd.readouterr().err
    assert "training: 100%" in drawn
    assert "100/100" in drawn
    assert "loss=0.010" in drawn
