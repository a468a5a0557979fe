"""What keeps the weights from gradients that are not finite, without waiting for the device at every step."""

import torch
from torch import Tensor


class FiniteGuard:
    """From the first gradient on that is not finite, the optimiser's steps change nothing.

    Fused Adam reads a flag on the device for that, the one that loss scaling sets for single steps; here it stays set.
    Whoever keeps weights asks for `skipped` first.
    """

    def __init__(self, optimizer: torch.optim.Adam, device: torch.device) -> None:
        self._skipped = torch.zeros((), device=device)
        self._failure = torch.zeros(2, device=device)
        self._flag = optimizer.found_inf = torch.zeros((), device=device)  # type: ignore[attr-defined]

    def see(self, loss: Tensor, norm: Tensor) -> None:
        """Before each step: its loss and the norm of its gradient, scalars on the device."""
        first = ~norm.isfinite() & (self._flag == 0)
        self._failure = torch.where(first, torch.stack([loss, norm]).float(), self._failure)
        self._flag += first
        self._skipped += self._flag

    @property
    def skipped(self) -> int:
        """Steps that were not taken. Waits for the device."""
        return int(self._skipped)

    @property
    def failure(self) -> tuple[float, float]:
        """Loss and gradient norm of the first of them."""
        loss, norm = self._failure.tolist()
        return loss, norm
