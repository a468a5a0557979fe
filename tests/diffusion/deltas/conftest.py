"""A base rig of 16 px with every kind of layer, none of them zero, and deltas over it."""

import copy

import pytest
import torch
from torch import Tensor

from drig.diffusion.deltas import Delta
from drig.diffusion.network import Rig, RigConfig
from tests import parity

CONFIG = RigConfig(
    size=16,
    base_channels=32,
    channel_mult=(1, 2),
    blocks_per_level=1,
    attention_size=8,
    code_size=8,
    encoder_blocks=(1, 1, 1, 1),
    encoder_width=8,
)

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture(scope="package")
def rig() -> Rig:
    rig = Rig(CONFIG)
    parity.fill(rig)
    return rig.requires_grad_(False)


@pytest.fixture(scope="package")
def inputs() -> Inputs:
    """What `Rig.denoise` takes, of three samples."""
    images, buffers = parity.randn("images", 3, 3, 16, 16), parity.rand("buffers", 3, 9, 16, 16)
    return images, torch.tensor([5, 400, 900]), buffers, parity.randn("code", 3, 8)


def random_delta(rig: Rig, seed: int, rank: int = 4) -> Delta:
    """As if it had been trained: nothing in it is zero."""
    generator = torch.Generator().manual_seed(seed)
    delta = Delta.start(rig, rank, generator)
    with torch.no_grad():
        for parameter in delta.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return delta.requires_grad_(False)


def tuned_rig(rig: Rig) -> Rig:
    """The rig after a full fine-tune, of full rank: every number of the UNet moved a little."""
    tuned, generator = copy.deepcopy(rig), torch.Generator().manual_seed(3)
    for parameter in tuned.denoisingUNet.parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return tuned
