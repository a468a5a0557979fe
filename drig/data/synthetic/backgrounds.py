"""What is behind a person, out of focus."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from drig.data.synthetic.arrays import Array
from drig.data.synthetic.noise import spectral_noise
from drig.randomness import numpy_generator

_SIZE = 128
"""Painted at this size and enlarged: nothing behind a person is in focus."""


@dataclass(frozen=True)
class Background:
    """One of KINDS, and the seed of everything in it."""

    kind: str
    seed: int


def sample_background(rng: np.random.Generator) -> Background:
    return Background(str(rng.choice(list(KINDS))), int(rng.integers(1 << 31)))


def paint_background(background: Background, size: int) -> Array:
    """(size, size, 3) linear RGB."""
    rng = numpy_generator(background.seed, "background")
    picture = KINDS[background.kind](rng)
    if size != _SIZE:
        planes = torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32))
        picture = functional.interpolate(planes, (size, size), mode="bilinear")[0].numpy().transpose(1, 2, 0)
    return np.ascontiguousarray(np.clip(picture, 0.002, 2.0), np.float32)


def _colour(rng: np.random.Generator, saturation: float, value: tuple[float, float]) -> Array:
    pure = np.clip(np.abs((np.array([0, 2 / 3, 1 / 3]) + rng.random()) % 1 * 6 - 3) - 1, 0, 1)
    colour: Array = (1 - rng.uniform(0, saturation) * (1 - pure)) * rng.uniform(*value)
    return colour


def _grid() -> tuple[Array, Array]:
    t = (np.arange(_SIZE) + 0.5) / _SIZE
    x, y = np.meshgrid(t, t)
    return x, y


def _gradient(rng: np.random.Generator) -> Array:
    """A studio wall lit from one side."""
    x, y = _grid()
    cx, cy = rng.uniform(0, 1, 2)
    glow = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / rng.uniform(0.15, 0.8))[..., None]
    wall = _colour(rng, 0.4, (0.05, 0.75))
    lit: Array = wall * (0.35 + 0.75 * glow) * (1 + 0.02 * spectral_noise(_SIZE, 1.0, rng)[..., None])
    return lit


def _bokeh(rng: np.random.Generator) -> Array:
    """Lights of a street or a room at night, as discs."""
    x, y = _grid()
    base = _colour(rng, 0.5, (0.02, 0.2))
    picture = base * (1 + 0.4 * spectral_noise(_SIZE, 1.8, rng)[..., None])
    for _ in range(rng.integers(10, 40)):
        cx, cy, radius = rng.random(), rng.random(), rng.uniform(0.015, 0.09)
        disc = np.clip((radius - np.hypot(x - cx, y - cy)) * 90 + 0.5, 0, 1)[..., None]
        picture = picture + disc * _colour(rng, 0.75, (0.05, 0.7))
    return gaussian_filter(picture, (1.0, 1.0, 0))


def _room(rng: np.random.Generator) -> Array:
    """Walls, doors, shelves and a window, blurred."""
    x, y = _grid()
    picture = np.broadcast_to(_colour(rng, 0.35, (0.15, 0.6)), (_SIZE, _SIZE, 3)).copy()
    for _ in range(rng.integers(4, 12)):
        left, top = rng.uniform(-0.2, 0.9, 2)
        width, height = rng.uniform(0.08, 0.5), rng.uniform(0.08, 0.8)
        inside = (x > left) & (x < left + width) & (y > top) & (y < top + height)
        picture[inside] = _colour(rng, 0.5, (0.03, 0.7))
    if rng.random() < 0.4:
        left = rng.choice([rng.uniform(-0.1, 0.1), rng.uniform(0.7, 0.95)])
        picture[(x > left) & (x < left + 0.3) & (y < rng.uniform(0.4, 0.8))] = rng.uniform(0.9, 1.5)
    blur = rng.uniform(2.5, 7)
    return gaussian_filter(picture, (blur, blur, 0), mode="nearest")


def _foliage(rng: np.random.Generator) -> Array:
    """Leaves and sky between them."""
    leaf = np.array([0.10, 0.16, 0.04]) * rng.uniform(0.5, 1.6) * np.exp(rng.normal(0, 0.2, 3))
    patches = spectral_noise(_SIZE, 1.3, rng, smallest=2.5)
    picture = leaf * np.exp(0.55 * patches)[..., None]
    sky = np.clip(spectral_noise(_SIZE, 1.5, rng, smallest=4.0) - rng.uniform(0.7, 2.0), 0, 1)[..., None]
    picture = picture + sky * np.array([0.7, 0.78, 0.8])
    blur = rng.uniform(1.0, 4.0)
    return gaussian_filter(picture, (blur, blur, 0), mode="wrap")


def _outdoors(rng: np.random.Generator) -> Array:
    """Sky, a skyline and ground."""
    _, y = _grid()
    horizon = rng.uniform(0.35, 0.75) + 0.03 * spectral_noise(_SIZE, 1.5, rng)[:1]
    skies = [(0.45, 0.62, 0.95), (0.75, 0.8, 0.85), (0.95, 0.75, 0.5), (0.6, 0.65, 0.72), (0.25, 0.35, 0.6)]
    sky = np.array(skies[rng.integers(len(skies))]) * rng.uniform(0.6, 1.1) * (0.7 + 0.5 * y[..., None])
    ground = _colour(rng, 0.35, (0.08, 0.35)) * (1 + 0.25 * spectral_noise(_SIZE, 1.0, rng)[..., None])
    land = np.clip((y - horizon) * 30, 0, 1)[..., None]
    blur = rng.uniform(1.5, 5)
    return gaussian_filter(sky + land * (ground - sky), (blur, blur, 0), mode="nearest")


def _texture(rng: np.random.Generator) -> Array:
    """Plaster, brick or boards."""
    x, y = _grid()
    wall = _colour(rng, 0.25, (0.1, 0.55))
    relief = 0.12 * spectral_noise(_SIZE, rng.uniform(0.4, 1.2), rng)
    kind = rng.integers(3)
    if kind == 1:
        rows = y * rng.integers(9, 16)
        columns = x * rng.integers(4, 8) + 0.5 * (rows.astype(int) % 2)
        relief = relief - 0.45 * ((rows % 1 < 0.12) | (columns % 1 < 0.06))
    if kind == 2:
        relief = relief - 0.4 * (x * rng.integers(4, 9) % 1 < 0.05)
    shade = 0.75 + 0.5 * (x if rng.random() < 0.5 else 1 - x)
    blur = rng.uniform(0.6, 2.0)
    return gaussian_filter(wall * ((1 + relief) * shade)[..., None], (blur, blur, 0), mode="nearest")


KINDS: dict[str, Callable[[np.random.Generator], Array]] = {
    "gradient": _gradient,
    "bokeh": _bokeh,
    "room": _room,
    "foliage": _foliage,
    "outdoors": _outdoors,
    "texture": _texture,
}
