"""Writes diffusers.npz: what the schedulers of the library diffusers make of a denoiser known in closed form.

    pip install -e .[parity]; python -m tests.diffusion.bake_diffusers

The library is no dependency: importing it takes longer than all tests of the samplers, and it brings a second HTTP
client, which Starlette's test client would then use.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

from tests.diffusion.gaussian import Gaussian

FILE = Path(__file__).with_name("diffusers.npz")
STEPS = (4, 10, 25)
DENOISER = Gaussian(mean=0.3, deviation=0.6)
"""Many of its images' pixels are clipped."""

_BETAS = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "timestep_spacing": "trailing"}
_CLIPPED = {"thresholding": True, "sample_max_value": 1.0}  # the quantile that it divides by is then 1, whatever it is
SCHEDULERS: dict[str, Callable[[], Any]] = {
    "ddim": lambda: diffusers.DDIMScheduler(**_BETAS, clip_sample=True),
    "dpmpp": lambda: diffusers.DPMSolverMultistepScheduler(**_BETAS, **_CLIPPED, algorithm_type="dpmsolver++"),
    "unipc": lambda: diffusers.UniPCMultistepScheduler(**_BETAS, **_CLIPPED, solver_order=2, solver_type="bh2"),
    "heun": lambda: diffusers.HeunDiscreteScheduler(**_BETAS, clip_sample=True),
}


def sample(name: str, steps: int, noise: torch.Tensor) -> tuple[list[int], torch.Tensor]:
    """The timesteps that a scheduler steps through, ascending, and where it leads from the noise (N, 3, H, W)."""
    scheduler = SCHEDULERS[name]()
    scheduler.set_timesteps(steps)
    x = noise * (scheduler.sigmas[0].item() ** 2 + 1) ** 0.5 if name == "heun" else noise  # Heun's x is x_t / alpha
    for t in scheduler.timesteps:
        eps = DENOISER.noise(scheduler.scale_model_input(x, t), torch.full((len(x),), int(t)))
        x = scheduler.step(eps, t, x).prev_sample
    return sorted({int(t) for t in scheduler.timesteps}), x


def main() -> None:
    noise = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    arrays: dict[str, Any] = {"noise": noise.numpy()}
    for name in SCHEDULERS:
        for steps in STEPS:
            timesteps, image = sample(name, steps, noise)
            arrays |= {f"{name}{steps}": image.numpy(), f"{name}{steps}_timesteps": np.array(timesteps)}
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE}: {diffusers.__version__}, {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
