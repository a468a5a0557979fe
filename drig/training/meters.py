"""What is reported about training: means since the last report, over all workers."""

import time

import torch
import torch.distributed as dist
from torch import Tensor

QUARTERS = 4


class Window:
    """Loss, loss by quarter of the timesteps, gradient norm and speed since the last report.

    Sums stay on the device, so that adding to them costs no synchronisation.
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self._steps = steps
        self._sums = torch.zeros(2 * QUARTERS, dtype=torch.float64, device=device)  # losses, then counts, by quarter
        self._restart()

    def _restart(self) -> None:
        self._sums.zero_()
        self._norms: list[Tensor] = []
        self._started, self._samples = time.perf_counter(), 0

    def add(self, losses: Tensor, timestep: Tensor) -> None:
        """losses (N,), timestep (N,)."""
        quarter = timestep * QUARTERS // self._steps  # (N,) in 0..3, 0 the least noise
        self._sums.index_add_(0, quarter, losses.detach().double())
        self._sums.index_add_(0, quarter + QUARTERS, torch.ones_like(losses, dtype=torch.float64))

    def add_step(self, norm: Tensor, batch: int) -> None:
        """norm (): of the step's gradient."""
        self._norms.append(norm)
        self._samples += batch

    def report(self, world_size: int) -> dict[str, float]:
        """The means, then a new window. A quarter that had no sample is left out. Every worker must call it."""
        if world_size > 1:
            dist.all_reduce(self._sums)
        sums = self._sums.tolist()
        metrics = {"loss": sum(sums[:QUARTERS]) / sum(sums[QUARTERS:])}
        for quarter, (total, count) in enumerate(zip(sums[:QUARTERS], sums[QUARTERS:], strict=True)):
            if count:
                metrics[f"loss_quarter_{quarter + 1}"] = total / count
        metrics["gradient_norm"] = float(torch.stack(self._norms).mean())
        metrics["samples_per_second"] = self._samples / (time.perf_counter() - self._started)
        self._restart()
        return metrics
