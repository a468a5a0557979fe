"""Averaged weights: an exponential moving average whose memory is stated in samples."""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from drig.diffusion.network import Rig

Network = TypeVar("Network", bound=nn.Module)

RAMP = 0.05
"""While training is young the half-life is at most this share of the samples seen, so that the start is forgotten
(the warm-up of Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models")."""


class Ema(Generic[Network]):
    """A copy of a rig or a delta that follows its weights: average += (1 - decay) (weight - average) after each step.

    decay = 0.5^(batch / half_life), so that a weight's share halves every `half_life` samples whatever the batch.
    BatchNorm's running statistics are averaged like weights, because those of the raw weights do not fit averaged ones.
    What is not trained stays as it was copied, bit for bit.
    """

    def __init__(self, network: Network, half_life: int, *, train_encoder: bool) -> None:
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.half_life = half_life
        self._source, self._target = (_moving(each, train_encoder) for each in (network, self.average))

    @torch.no_grad()
    def update(self, batch: int, samples_seen: int) -> None:
        """Follow one optimiser step of `batch` samples, after which `samples_seen` have been trained on in all."""
        decay = 0.5 ** (batch / min(self.half_life, RAMP * samples_seen))
        torch._foreach_lerp_(self._target, self._source, 1 - decay)


def _moving(network: nn.Module, train_encoder: bool) -> list[Tensor]:
    """The floating-point parameters and buffers that training changes, in one order for equal networks."""
    module = network.denoisingUNet if isinstance(network, Rig) and not train_encoder else network
    return [tensor for tensor in [*module.parameters(), *module.buffers()] if tensor.is_floating_point()]
