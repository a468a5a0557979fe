"""The benchmark's plain baseline does the same work."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from drig.diffusion.network import Rig, RigConfig
from drig.diffusion.samplers import ddim
from drig.training.objective import Objective

PLAIN = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "plain.py"))
CONFIG = RigConfig(size=64, base_channels=32, channel_mult=(1, 2), blocks_per_level=1, attention_size=32, dropout=0.0)


@pytest.fixture
def rig() -> Rig:
    """Every weight drawn, so that no branch is zero."""
    rig = Rig.from_seed(replace(CONFIG, encoder_blocks=(1, 1, 1, 1), encoder_width=8), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in rig.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return rig


def test_losses_and_gradients_are_ours(rig: Rig) -> None:
    generator = torch.Generator().manual_seed(2)
    batch = {
        "image": torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1,
        "buffers": torch.rand(2, 9, 64, 64, generator=generator),
        "noise": torch.randn(2, 3, 64, 64, generator=generator),
        "timestep": torch.tensor([30, 700]),
    }
    objective = Objective(rig, train_encoder=True, autocast=None).eval()
    ours = objective(**batch)
    wanted = torch.autograd.grad(ours.sum(), list(rig.parameters()))
    theirs = PLAIN["PlainRig"](rig).losses(**batch)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-6)
    for mine, other in zip(wanted, torch.autograd.grad(theirs.sum(), list(rig.parameters())), strict=True):
        assert (mine - other).abs().max() < 1e-3 * other.abs().max() + 1e-6


def test_edits_are_ours(rig: Rig) -> None:
    generator = torch.Generator().manual_seed(3)
    noise, buffers = torch.randn(1, 3, 64, 64, generator=generator), torch.rand(1, 9, 64, 64, generator=generator)
    code = torch.randn(1, CONFIG.code_size, generator=generator)
    rig.eval()
    theirs = PLAIN["ddim"](PLAIN["PlainRig"](rig), noise, buffers, code, 4)
    torch.testing.assert_close(theirs, ddim(rig, noise, buffers, code, steps=4), atol=1e-3, rtol=0)
