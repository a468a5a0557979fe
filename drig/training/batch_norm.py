"""BatchNorm over the samples of all workers, so that a batch means the same however many share it."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# PyTorch's SyncBatchNorm is the same for GPUs only.


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """In training, normalises by mean and variance over the samples of all workers, who may have different numbers.

    Every worker has to call it, forward and backward. Parameters and running statistics are those of `nn.BatchNorm2d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        if not self.training:
            return super().forward(x)
        mean, variance, count = _moments(x.float())
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum or 0.0)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum or 0.0)
        scale = self.weight * (variance + self.eps).rsqrt()  # (C,)
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], x.float(), scale[:, None, None]).to(x.dtype)


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x (N, C, H, W) of this worker -> mean (C,), variance (C,) and number () of the values of all."""
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)  # (C,) each
    count = mean.new_tensor([x.numel() / x.shape[1]])
    local = torch.cat([mean * count, (variance + mean.square()) * count, count])
    sums: Tensor = _SumOverWorkers.apply(local)  # type: ignore[no-untyped-call]
    mean, square = sums[:-1].div(sums[-1]).chunk(2)
    return mean, square - mean.square(), sums[-1]


class _SumOverWorkers(torch.autograd.Function):
    """Every worker's loss depends on every worker's share of the sum, so the gradient is a sum over workers too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def share_statistics(network: nn.Module) -> None:
    """Make every BatchNorm2d in `network` a global one, in place."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GlobalBatchNorm2d  # the same parameters and statistics, used in another way
