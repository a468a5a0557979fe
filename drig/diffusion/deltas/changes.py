"""What a delta makes of one layer of the UNet.

Shapes: N batch, C channels, R rank, K the positions that a convolution's window sees (1 in a linear layer). A change
that is one for each sample of a batch has a leading N in all its tensors.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LowRankLayer = nn.Conv2d | nn.Conv1d | nn.Linear


class LowRank(nn.Module):
    """U (D x) + c beside a layer's W x + b: an update of W of rank R (Hu et al. 2021, "LoRA"), and any one of b.

    D looks through W's own window, at stride 1 and with W's padding; U sees single positions.

    Args:
        down: D (R, C_in, *window), R > 0.
        up: U (C_out, R).
        bias: c (C_out,).
    """

    def __init__(self, down: Tensor, up: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.down, self.up, self.bias = nn.Parameter(down), nn.Parameter(up), nn.Parameter(bias)

    @classmethod
    def start(cls, layer: LowRankLayer, rank: int, generator: torch.Generator) -> "LowRank":
        """No change yet, ready to be trained: U and c are zero, D random as PyTorch starts such a layer's weights."""
        outputs, inputs = layer.weight.shape[0], layer.weight[0].numel()
        rank = min(rank, outputs, inputs)
        down = torch.empty(rank, *layer.weight.shape[1:]).uniform_(-1, 1, generator=generator) / inputs**0.5
        return cls(down, torch.zeros(outputs, rank), torch.zeros(outputs))

    @classmethod
    @torch.no_grad()
    def nearest(cls, weight: Tensor, bias: Tensor, rank: int) -> "LowRank":
        """The nearest to a change of weight (C_out, C_in, *window), its largest singular values; bias as it is.

        By the eigenvectors V of W W^T, which is small, since windows are wide: U D = V V^T W. In float64, where its
        rounding is far below that of files.
        """
        matrix = weight.flatten(1).double()  # (C_out, C_in K)
        kept = min(rank, *matrix.shape)
        vectors = torch.linalg.eigh(matrix @ matrix.T).eigenvectors[:, -kept:]  # (C_out, R), largest last
        down = vectors.T @ matrix  # (R, C_in K): right singular vectors times singular values
        # Both get a share of the singular values, so that neither's numbers are too small for float16.
        share = down.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny).sqrt()  # (R,)
        down = (down / share[:, None]).view(-1, *weight.shape[1:])
        return cls(down.float(), (vectors * share).float(), bias)

    @property
    def rank(self) -> int:
        return self.up.shape[-1]

    def forward(self, layer: nn.Module, x: Tensor, output: Tensor) -> Tensor:
        """The changed output (N, C_out, ...) of `layer`, from its own and its input x (N, C_in, ...)."""
        shifted = output.reshape(*output.shape[:2], -1) + self.bias[..., None].to(output.dtype)  # (N, C_out, positions)
        up = self.up.expand(len(x), -1, -1)  # (N, C_out, R): batches of matrices are twice as fast as broadcasting
        return torch.baddbmm(shifted, up, self._project(cast(LowRankLayer, layer), x)).view_as(output)

    def _project(self, layer: LowRankLayer, x: Tensor) -> Tensor:
        """D x: (N, C_in, ...) -> (N, R, positions)."""
        if layer.weight[0, 0].numel() == 1:
            down = self.down.reshape(*self.up.shape[:-2], self.rank, -1).expand(len(x), -1, -1)  # (N, R, C_in)
            return down @ x.reshape(*x.shape[:2], -1)
        assert isinstance(layer, nn.Conv2d)
        if self.up.ndim == 2:
            return F.conv2d(x, self.down, padding=layer.padding).flatten(2)
        # A convolution of its own for each sample: all samples' channels side by side, a group each.
        side_by_side, windows = x.reshape(1, -1, *x.shape[2:]), self.down.flatten(0, 1)
        return F.conv2d(side_by_side, windows, padding=layer.padding, groups=len(x)).view(len(x), self.rank, -1)

    def merge_into(self, layer: nn.Module) -> None:
        """Make the change part of the layer's own weights."""
        layer = cast(LowRankLayer, layer)
        layer.weight.add_((self.up @ self.down.flatten(1)).view_as(layer.weight))
        cast(Tensor, layer.bias).add_(self.bias)

    @staticmethod
    def stack(changes: Sequence["LowRank"]) -> "LowRank":
        """One change for each sample; lower ranks are filled up with zeros."""
        rank = max(change.rank for change in changes)
        downs = [torch.cat([c.down, c.down.new_zeros(rank - c.rank, *c.down.shape[1:])]) for c in changes]
        ups = [F.pad(c.up, (0, rank - c.rank)) for c in changes]
        return LowRank(torch.stack(downs), torch.stack(ups), torch.stack([c.bias for c in changes]))


class Affine(nn.Module):
    """A change of a GroupNorm's scale and shift: weight and bias (C,)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    @classmethod
    def start(cls, layer: nn.GroupNorm) -> "Affine":
        """No change yet."""
        return cls(torch.zeros(layer.num_channels), torch.zeros(layer.num_channels))

    def forward(self, layer: nn.Module, x: Tensor, output: Tensor) -> Tensor:
        """The changed output (N, C, H, W) of `layer`, whose own is thrown away: its autograd graph with it."""
        layer = cast(nn.GroupNorm, layer)
        weight, bias = layer.weight + self.weight, layer.bias + self.bias
        if weight.ndim == 1:
            return F.group_norm(x.float(), layer.num_groups, weight, bias, layer.eps).to(output.dtype)
        normalised = F.group_norm(x.float(), layer.num_groups, eps=layer.eps)
        return torch.addcmul(bias[..., None, None], normalised, weight[..., None, None]).to(output.dtype)

    def merge_into(self, layer: nn.Module) -> None:
        """Make the change part of the layer's own weights."""
        layer = cast(nn.GroupNorm, layer)
        layer.weight.add_(self.weight)
        layer.bias.add_(self.bias)

    @staticmethod
    def stack(changes: Sequence["Affine"]) -> "Affine":
        """One change for each sample."""
        return Affine(torch.stack([c.weight for c in changes]), torch.stack([c.bias for c in changes]))


Change = LowRank | Affine
