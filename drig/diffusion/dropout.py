"""Dropout whose masks belong to the samples: who computes a sample, and together with which others, changes nothing."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_LAYER_STRIDE = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: neighbouring layers get seeds far apart


class SampleDropout(nn.Module):
    """Drops a share `p` of the activations in training, by one seed for each sample of the batch.

    `seed_dropout` gives the seeds before a forward pass in training; without them the masks come from PyTorch's global
    generator.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.seeds: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> the same shape."""
        if not self.training or self.p == 0:
            return x
        if self.seeds is None:
            return nn.functional.dropout(x, self.p)
        mask: Tensor = _scaled_mask(x.detach(), self.seeds, 1 - self.p)
        return x * mask


def seed_dropout(network: nn.Module, seeds: Sequence[int]) -> None:
    """Let the masks of the next forward passes depend on these seeds alone, one for each sample of the batch.

    They stay for the backward pass, which may compute blocks again.
    """
    layers = [module for module in network.modules() if isinstance(module, SampleDropout) and module.p > 0]
    for index, layer in enumerate(layers):
        layer.seeds = torch.tensor([(seed + index * _LAYER_STRIDE) % 2**63 for seed in seeds])


# A custom operation, because torch.compile knows no generators: to it this is one step that it need not look into.
@torch.library.custom_op("drig::scaled_mask", mutates_args=())
def _scaled_mask(like: Tensor, seeds: Tensor, keep: float) -> Tensor:
    """1 / keep where an activation stays, 0 where it is dropped, in the shape of `like` (N, ...); seeds (N,) int64."""
    mask, generator = torch.empty_like(like), torch.Generator(like.device)
    for sample, seed in zip(mask, seeds.tolist(), strict=True):
        sample.bernoulli_(keep, generator=generator.manual_seed(seed))
    return mask.div_(keep)


@_scaled_mask.register_fake
def _(like: Tensor, seeds: Tensor, keep: float) -> Tensor:
    return torch.empty_like(like)
