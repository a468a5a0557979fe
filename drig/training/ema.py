"""Averaged weights: an exponential moving average whose memory is stated in samples."""

import copy

import torch
from torch import Tensor

from drig.diffusion.network import Rig

RAMP = 0.05
"""While training is young the half-life is at most this share of the samples seen, so that the start is forgotten
(the warm-up of Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models")."""


class Ema:
    """A copy of the rig that follows its trained weights: average += (1 - decay) (weight - average) after each step.

    decay = 0.5^(batch / half_life), so that a weight's share halves every `half_life` samples whatever the batch.
    BatchNorm's running statistics are averaged like weights, because those of the raw weights do not fit averaged ones.
    What is not trained stays as it was copied, bit for bit.
    """

    def __init__(self, rig: Rig, half_life: int, *, train_encoder: bool) -> None:
        self.rig = copy.deepcopy(rig).eval().requires_grad_(False)
        self.half_life = half_life
        moving = rig if train_encoder else rig.denoisingUNet
        averaged = self.rig if train_encoder else self.rig.denoisingUNet
        self._source, self._target = _numbers(moving), _numbers(averaged)

    @torch.no_grad()
    def update(self, batch: int, samples_seen: int) -> None:
        """Follow one optimiser step of `batch` samples, after which `samples_seen` have been trained on in all."""
        decay = 0.5 ** (batch / min(self.half_life, RAMP * samples_seen))
        torch._foreach_lerp_(self._target, self._source, 1 - decay)


def _numbers(module: torch.nn.Module) -> list[Tensor]:
    """The floating-point parameters and buffers, in one order for equal modules."""
    return [tensor for tensor in [*module.parameters(), *module.buffers()] if tensor.is_floating_point()]
