"""What is reported about training: means since the last report, over all workers."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

QUARTERS = 4
Batch = TypeVar("Batch")


class Window:
    """Loss, loss by quarter of the timesteps, gradient norm, speed and waiting for data since the last report.

    Sums stay on the device, so that adding to them costs no synchronisation.
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self._steps = steps
        self._sums = torch.zeros(2 * QUARTERS, dtype=torch.float64, device=device)  # losses, then counts, by quarter
        self._restart()

    def _restart(self) -> None:
        self._sums.zero_()
        self._norms: list[Tensor] = []
        self._started, self._samples, self._waited = time.perf_counter(), 0, 0.0

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches; how long each is waited for is counted, time in which the device may still be at work."""
        iterator = iter(batches)
        while True:
            asked = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited += time.perf_counter() - asked
            yield batch

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
        elapsed = time.perf_counter() - self._started
        wait = torch.tensor(self._waited / elapsed, device=self._sums.device)
        if world_size > 1:
            dist.all_reduce(self._sums)
            dist.all_reduce(wait, dist.ReduceOp.MAX)  # each step is as slow as its slowest worker
        sums = self._sums.tolist()
        metrics = {"loss": sum(sums[:QUARTERS]) / sum(sums[QUARTERS:])}
        for quarter, (total, count) in enumerate(zip(sums[:QUARTERS], sums[QUARTERS:], strict=True)):
            if count:
                metrics[f"loss_quarter_{quarter + 1}"] = total / count
        metrics["gradient_norm"] = float(torch.stack(self._norms).mean())
        metrics["samples_per_second"] = self._samples / elapsed
        metrics["wait_share"] = wait.item()
        self._restart()
        return metrics
