"""The weights and inputs that the parity fixtures were computed from (README.md beside the fixtures)."""

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

SEED = 7


def generator(tag: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(f"{SEED}:{tag}".encode()))


def randn(tag: str, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(tag))


def rand(tag: str, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator(tag))


def fill(module: nn.Module) -> None:
    """Give every entry of the module's state dict the value that its name determines, and put it in eval mode."""
    for name, value in module.state_dict().items():
        value.copy_(_entry(name, value))
    module.eval()


def _entry(name: str, like: Tensor) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1)
    if name.endswith("running_var"):
        return rand(name, *like.shape) + 0.5
    if like.ndim <= 1:
        return 0.1 * randn(name, *like.shape) + (1 if name.endswith("weight") else 0)
    return randn(name, *like.shape) * float(like[0].numel() ** -0.5)


def load(path: Path) -> dict[str, Tensor]:
    """A fixture file as tensors."""
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference as a share of the largest reference value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())
