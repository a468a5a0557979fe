"""A rig small enough that a training run takes a second: 8 px, and a narrow encoder."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from drig.diffusion.network import Rig, RigConfig
from drig.training.config import TrainingConfig

SMALL = RigConfig(
    size=8,
    base_channels=32,
    channel_mult=(1,),
    blocks_per_level=1,
    attention_size=0,
    code_size=4,
    encoder_blocks=(1, 1, 1, 1),
    encoder_width=8,
)


def small_rig(seed: int = 0, **changes: Any) -> Rig:
    return Rig.from_seed(RigConfig(**(vars(SMALL) | changes)), seed)


def small_dataset(count: int = 6) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.rand(3, 8, 8, generator=generator) * 2 - 1,
            "buffers": torch.rand(9, 8, 8, generator=generator),
        }
        for _ in range(count)
    ]


def small_training(**changes: Any) -> TrainingConfig:
    values: dict[str, Any] = {
        "samples": 32,
        "batch": 4,
        "learning_rate": 1e-3,
        "train_encoder": True,
        "ema_half_life": 100,
        "log_every": 8,
        "checkpoint_every": 8,
        # What is tested to the bit is float32; and where the encoder halves a map of one pixel, as at 8 px, oneDNN's
        # bfloat16 leaves gradients of the kernel unset.
        "precision": "fp32",
    }
    return TrainingConfig(**(values | changes))


@pytest.fixture
def dataset() -> list[dict[str, Tensor]]:
    return small_dataset()


def tensors_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The Euclidean norm of the difference of all numbers."""
    return math.sqrt(sum(float((first[name].double() - second[name].double()).square().sum()) for name in first))
