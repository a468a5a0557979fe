"""The noise schedule: how much noise an image carries at each of T timesteps (SPEC 3)."""

from dataclasses import dataclass
from functools import cached_property

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

    @cached_property
    def alphas_bar(self) -> Tensor:
        """(T,) float64: abar_t = prod(1 - beta), the share of the image's variance left at t."""
        betas = torch.linspace(self.beta_first, self.beta_last, self.steps, dtype=torch.float64)
        return torch.cumprod(1 - betas, dim=0)

    def at(self, t: Tensor) -> Tensor:
        """abar_t for t (N,) int64 -> (N,) float64 on t's device."""
        return self.alphas_bar.to(t.device)[t]

    def q_sample(self, image: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """sqrt(abar_t) image + sqrt(1 - abar_t) noise: image, noise (N, 3, H, W) and t (N,) -> (N, 3, H, W)."""
        alpha_bar = self.at(t)[:, None, None, None]  # (N, 1, 1, 1)
        return alpha_bar.sqrt().to(image.dtype) * image + (1 - alpha_bar).sqrt().to(image.dtype) * noise

    def ddim_timesteps(self, count: int) -> list[int]:
        """The `count` timesteps that a shortened schedule keeps, ascending: range(0, T, s), s the first that fits.

        Raises DrigError, naming the nearest counts, when no stride gives this one (37, 41, 43, ...).
        """
        for stride in range(1, self.steps + 1):
            kept = range(0, self.steps, stride)
            if len(kept) == count:
                return list(kept)
        counts = {len(range(0, self.steps, stride)) for stride in range(1, self.steps + 1)}
        fewer, more = [n for n in counts if n < count], [n for n in counts if n > count]
        nearest = ([max(fewer)] if fewer else []) + ([min(more)] if more else [])
        raise DrigError(
            f"{count} sampling steps: no regular stride over {self.steps} timesteps keeps that many. "
            f"Use {' or '.join(map(str, nearest))}."
        )
