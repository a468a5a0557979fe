import time
from collections.abc import Iterator

import pytest
import torch

from drig.training.meters import Window


def test_means_by_quarter_of_the_timesteps() -> None:
    window = Window(1000, torch.device("cpu"))
    window.add(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 249, 250]))
    window.add(torch.tensor([7.0]), torch.tensor([999]))
    window.add_step(torch.tensor(2.0), batch=3)
    window.add_step(torch.tensor(4.0), batch=1)
    metrics = window.report(world_size=1)
    assert metrics.pop("samples_per_second") > 0
    assert metrics.pop("wait_share") == 0
    assert metrics == pytest.approx(
        {"loss": 4.0, "loss_quarter_1": 2.0, "loss_quarter_2": 5.0, "loss_quarter_4": 7.0, "gradient_norm": 3.0}
    )


def test_a_report_starts_a_new_window() -> None:
    window = Window(1000, torch.device("cpu"))
    for loss in (1.0, 9.0):
        window.add(torch.tensor([loss]), torch.tensor([10]))
        window.add_step(torch.tensor(loss), batch=1)
        assert window.report(world_size=1)["loss"] == loss


def test_waiting_for_batches_is_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch takes 3 s to come and 9 s to train on."""
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def batches() -> Iterator[int]:
        for number in range(5):
            clock[0] += 3
            yield number

    window = Window(1000, torch.device("cpu"))
    window.add(torch.ones(1), torch.zeros(1, dtype=torch.int64))
    for number in window.timed(batches()):
        clock[0] += 9
        window.add_step(torch.tensor(1.0), batch=2)
        if number == 4:
            metrics = window.report(world_size=1)
    assert metrics["wait_share"] == pytest.approx(0.25)
    assert metrics["samples_per_second"] == pytest.approx(10 / 60)
