import torch

from drig.training.ema import RAMP, Ema
from tests.training.conftest import small_rig


def fill(rig: torch.nn.Module, value: float) -> None:
    for tensor in [*rig.parameters(), *rig.buffers()]:
        if tensor.is_floating_point():
            tensor.data.fill_(value)


def test_a_weight_has_lost_half_of_its_share_after_the_half_life() -> None:
    rig = small_rig()
    fill(rig, 1.0)
    ema = Ema(rig, 64, train_encoder=True)
    fill(rig, 0.0)
    for step in range(16):  # 16 steps of 4 samples; far into training
        ema.update(4, 1_000_000 + 4 * step)
    for tensor in [*ema.average.parameters(), ema.average.get_buffer("encoder.bn1.running_var")]:
        torch.testing.assert_close(tensor, torch.full_like(tensor, 0.5))


def test_young_averages_forget_the_start() -> None:
    rig = small_rig()
    fill(rig, 1.0)
    ema = Ema(rig, 1_000_000, train_encoder=True)
    fill(rig, 0.0)
    ema.update(4, 40)
    weight = next(ema.average.parameters())
    torch.testing.assert_close(weight, torch.full_like(weight, 0.5 ** (4 / (RAMP * 40))))


def test_a_frozen_encoder_is_not_averaged() -> None:
    rig = small_rig()
    ema = Ema(rig, 64, train_encoder=False)
    before = {name: tensor.clone() for name, tensor in ema.average.encoder.state_dict().items()}
    fill(rig, 3.0)
    ema.update(4, 1_000)
    assert all(torch.equal(tensor, before[name]) for name, tensor in ema.average.encoder.state_dict().items())
    assert all(float(tensor.min()) != float("inf") for tensor in ema.average.denoisingUNet.parameters())
    assert not torch.equal(ema.average.get_parameter("denoisingUNet.out.2.bias"), torch.zeros(3))
