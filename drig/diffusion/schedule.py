"""The noise schedule: how much noise an image carries at each of T timesteps (SPEC 3)."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from drig.errors import DrigError


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear betas over T timesteps, in float64; cast where used."""

    steps: int = 1000
    """T, the number of timesteps; t runs over 0..T-1."""
    beta_first: float = 1e-4
    """Variance of the noise added at t = 0."""
    beta_last: float = 0.02
    """Variance of the noise added at t = T - 1."""
    device: torch.device | str = "cpu"
    """Where its numbers are: looking them up from another device waits for a copy."""
    alphas_bar: Tensor = field(init=False, repr=False, compare=False)
    """(T,) float64: abar_t = prod(1 - beta), the share of the image's variance left at t."""

    def __post_init__(self) -> None:
        # On the CPU first: the same numbers everywhere, also while weights are loaded, on no device.
        first, last, cpu = self.beta_first, self.beta_last, torch.device("cpu")
        betas = torch.linspace(first, last, self.steps, dtype=torch.float64, device=cpu)
        object.__setattr__(self, "alphas_bar", torch.cumprod(1 - betas, dim=0).to(self.device))

    def at(self, t: Tensor) -> Tensor:
        """abar_t for t (N,) int64 -> (N,) float64 on t's device."""
        return self.alphas_bar.to(t.device)[t]

    def q_sample(self, image: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """sqrt(abar_t) image + sqrt(1 - abar_t) noise: image, noise (N, 3, H, W) and t (N,) -> (N, 3, H, W)."""
        alpha_bar = self.at(t)[:, None, None, None]  # (N, 1, 1, 1)
        return alpha_bar.sqrt().to(image.dtype) * image + (1 - alpha_bar).sqrt().to(image.dtype) * noise

    def ddim_timesteps(self, count: int) -> list[int]:
        """The `count` timesteps that a shortened schedule keeps, ascending: range(0, T, s), s the first that fits.

        Where no stride fits (37, 41, 43, ...) they are spread as evenly as integers can be. One alone is T - 1: the
        start is pure noise, and the rule would call it an almost clean image. Raises DrigError for 0 and more than T.
        """
        self._require_count(count)
        if count == 1:
            return [self.steps - 1]
        for stride in range(1, self.steps):
            kept = range(0, self.steps, stride)
            if len(kept) == count:
                return list(kept)
        return [i * self.steps // count for i in range(count)]

    def log_snr_timesteps(self, count: int) -> list[int]:
        """`count` timesteps from 0 to T - 1, ascending, as even in log(abar / (1 - abar)) as integers can be.

        Lu et al. 2022, section 3.3. One alone is T - 1. Raises DrigError for 0 and more than T.
        """
        self._require_count(count)
        log_snr = torch.logit(self.alphas_bar).cpu().numpy()  # (T,) falling
        even = np.linspace(log_snr[-1], log_snr[0], count)[::-1]
        nearest = np.interp(-even, -log_snr, np.arange(self.steps)).round().astype(int)
        # Several that fall on one timestep move apart, and never past the last.
        order = np.arange(count)
        apart = np.maximum.accumulate(nearest - order) + order
        return [int(t) for t in np.minimum(apart, self.steps - count + order)]

    def _require_count(self, count: int) -> None:
        if not 1 <= count <= self.steps:
            raise DrigError(f"{count} sampling steps: give 1 to {self.steps}, the timesteps of the schedule.")
