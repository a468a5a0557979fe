"""3 x 3 convolutions on CPUs, where PyTorch's own leave half of the speed unused.

Winograd's algorithm (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks") multiplies four times
less. NNPACK, a part of PyTorch, has it for one image at a time; PyTorch uses it nowhere by itself. Large maps gain
twice the speed, forward and for the gradient of the input, which is a convolution too. The gradient of the weights is
nine matrix products, of the output's gradient with the shifted input: these are faster as such.

Shapes: N batch, C channels, O output channels, H W pixels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

WORTHWHILE = 48
"""Least side of the maps, positions: on smaller ones Winograd's transforms cost what they save."""


class Conv3x3(nn.Conv2d):
    """3 x 3 convolution that keeps the map's size: (N, C, H, W) -> (N, O, H, W)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if not _pays(x):
            return super().forward(x)
        result: Tensor = _Winograd.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return result


class _Winograd(torch.autograd.Function):
    """The same numbers as `F.conv2d` up to float error, 1e-5 of their size."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            _convolve(gradient, weight.flip(2, 3).transpose(0, 1).contiguous(), None) if for_x else None,
            _weight_gradient(x, gradient) if for_weight else None,
            gradient.sum((0, 2, 3)) if for_bias else None,
        )


def _pays(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and min(x.shape[-2:]) >= WORTHWHILE
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and torch.backends.nnpack.is_available()  # the first call sets it up
    )


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Image by image: together, the transforms of a batch would not stay in the cache."""
    return torch.cat([torch._nnpack_spatial_convolution(image, weight, bias, 1) for image in x.contiguous().split(1)])


def _weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """x (N, C, H, W), gradient (N, O, H, W) of the output -> (O, C, 3, 3).

    In one long row of pixels, with zeros between the map's rows, a shift of the map is a shift of the row.
    """
    row = x.shape[3] + 2
    x = F.pad(x, (1, 1, 1, 2)).flatten(2)  # (N, C, (H + 3) (W + 2))
    gradient = F.pad(gradient, (0, 2)).flatten(2)  # (N, O, H (W + 2))
    length = gradient.shape[2]
    found = x.new_zeros(9, gradient.shape[1], x.shape[1])
    for image, wanted in zip(x, gradient, strict=True):
        for tap in range(9):
            shift = tap // 3 * row + tap % 3
            found[tap].addmm_(wanted, image[:, shift : shift + length].T)
    return found.permute(1, 2, 0).reshape(gradient.shape[1], x.shape[1], 3, 3)
