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
    assert metrics == pytest.approx(
        {"loss": 4.0, "loss_quarter_1": 2.0, "loss_quarter_2": 5.0, "loss_quarter_4": 7.0, "gradient_norm": 3.0}
    )


def test_a_report_starts_a_new_window() -> None:
    window = Window(1000, torch.device("cpu"))
    for loss in (1.0, 9.0):
        window.add(torch.tensor([loss]), torch.tensor([10]))
        window.add_step(torch.tensor(loss), batch=1)
        assert window.report(world_size=1)["loss"] == loss
