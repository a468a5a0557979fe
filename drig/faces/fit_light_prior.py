"""What light falls on portraits, before a photo is seen: statistics of simulated lamps and surroundings.

Light is in units of the photo's exposure: its shading, averaged over normals that face the camera, is about 1.
"""

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional

from drig.faces.lighting import directional_light, sh_basis

SAMPLES = 20_000
FRONTAL = 0.5
"""Cosine to the camera's direction from which on a normal counts for the exposure."""
EXPOSURE_SPREAD = 0.08
"""How far (logarithm) exposure is off what the skin's brightness suggests."""
WHITE_BALANCE_SPREAD = 0.08
LAMP_TINT_SPREAD = 0.08
"""Deviation (logarithm) of a channel from grey, of the whole photo and of each lamp in it."""


@dataclass(frozen=True, eq=False)
class LightPrior:
    """Mean (27) and precision (27, 27) of light, channel-major: nine SH coefficients of red, of green, of blue."""

    mean: Tensor
    precision: Tensor


def light_prior() -> LightPrior:
    """The statistics of `sample_lights`, always the same."""
    lights = sample_lights(SAMPLES, torch.Generator().manual_seed(0)).mT.flatten(1)
    # Light that shadow and bounce make, which the simulation lacks, is a little of everything.
    covariance = torch.cov(lights.T) + 0.05**2 * torch.eye(27)
    return LightPrior(lights.mean(0), torch.linalg.inv(covariance))


def sample_lights(count: int, generator: torch.Generator) -> Tensor:
    """(count, 9, 3) random lights: a key lamp, mostly from the front and above, a fill lamp, sky, and ambient light."""

    def normal(*size: int) -> Tensor:
        return torch.randn(count, *size, generator=generator)

    def lamp(azimuth: Tensor, elevation: Tensor, power: Tensor) -> Tensor:
        x, y, z = azimuth.sin() * elevation.cos(), elevation.sin(), azimuth.cos() * elevation.cos()
        colours = power[:, None] * (LAMP_TINT_SPREAD * normal(3)).exp()
        return vmap(directional_light, (0, 0, None))(torch.stack([x, y, z], 1), colours, 0.0)

    key = lamp(0.8 * normal(), 0.4 + 0.4 * normal(), 0.7 * (0.4 * normal()).exp())
    fill = lamp(1.5 * normal(), 0.1 + 0.4 * normal(), 0.2 * (0.6 * normal()).exp())
    sky = lamp(normal(), pi / 2 + 0.2 * normal(), 0.15 * (0.6 * normal()).exp())
    light = key + fill + sky
    light[:, 0] += (4 * pi) ** 0.5 * 0.4 * (0.4 * normal(1)).exp() * (LAMP_TINT_SPREAD * normal(3)).exp()
    exposure = (EXPOSURE_SPREAD * normal(1) + WHITE_BALANCE_SPREAD * normal(3)).exp()
    return light * (exposure / light_level(light)[:, None])[:, None]


def light_level(light: Tensor) -> Tensor:
    """(N, 9, 3) -> (N,) the shading of normals that face the camera, the mean over them and RGB; at least 0.02."""
    front = sphere(200).to(light)
    shading = sh_basis(front[front[:, 2] > FRONTAL]) @ light  # (N, P, 3)
    return shading.mean((1, 2)).clamp(min=0.02)


def sphere(count: int) -> Tensor:
    """(count, 3) directions, evenly spread (Fibonacci)."""
    i = torch.arange(count) + 0.5
    z = 1 - 2 * i / count
    angle = i * pi * (3 - 5**0.5)
    points = torch.stack([angle.cos() * (1 - z * z).sqrt(), angle.sin() * (1 - z * z).sqrt(), z], 1)
    return functional.normalize(points, dim=1)
