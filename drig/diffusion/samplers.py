"""From noise to an image: the samplers. They know no network, only something that denoises."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from drig.diffusion.schedule import Schedule


class Denoiser(Protocol):
    """What a sampler needs of a rig."""

    def denoise(self, x_t: Tensor, t: Tensor, buffers: Tensor, code: Tensor) -> Tensor:
        """x_t (N, 3, H, W), t (N,), buffers (N, 9, H, W), code (N, Z) -> the noise in x_t (N, 3, H, W)."""
        ...


@torch.no_grad()
def ddim(
    rig: Denoiser,
    noise: Tensor,
    buffers: Tensor,
    code: Tensor,
    *,
    steps: int = 20,
    schedule: Schedule | None = None,
    callback: Callable[[int, int, Tensor], None] | None = None,
) -> Tensor:
    """DDIM without added noise (eta 0, SPEC 3): the same noise, buffers and code give the same image.

    noise (N, 3, H, W) is the start, buffers (N, 9, H, W), code (N, Z); returns images (N, 3, H, W) float32 in [-1, 1].
    `callback(step, total, x0)` is called after each step, step counting from 1, with the current guess at the image.
    Dropout and precision are the caller's: put the rig in eval mode, and wrap the call in autocast where that pays.
    Raises DrigError where the schedule cannot be shortened to `steps`.
    """
    schedule = schedule or Schedule()
    kept = schedule.ddim_timesteps(steps)
    alphas_bar = [float(a) for a in schedule.alphas_bar[kept]]
    x = noise.float()
    for step, i in enumerate(reversed(range(steps)), start=1):
        alpha_bar = alphas_bar[i]
        next_alpha_bar = alphas_bar[i - 1] if i > 0 else 1.0
        t = torch.full((len(x),), kept[i], dtype=torch.int64, device=x.device)
        eps = rig.denoise(x, t, buffers, code).float()
        x0 = ((x - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5).clamp(-1, 1)
        eps = (x - alpha_bar**0.5 * x0) / (
            1 - alpha_bar
        ) ** 0.5  # what the noise must have been, given the clipped image
        x = next_alpha_bar**0.5 * x0 + (1 - next_alpha_bar) ** 0.5 * eps
        if callback is not None:
            callback(step, steps, x0)
    return x
