"""What is below the chin: shoulders and chest as a surface that continues the neck, and the clothes on it.

The surface is a stack of rings, from the throat outwards and down. The photo's crop ends just under the chin, so it is
coarse where it is rarely seen.

Legend: A points around a ring, B rings.
"""

from dataclasses import dataclass

import numpy as np

from drig.data.synthetic.anatomy import Anatomy
from drig.data.synthetic.arrays import Array, Indices
from drig.data.synthetic.noise import spectral_noise
from drig.randomness import numpy_generator

_AROUND, _RINGS = 64, 20
CLOTH_SIZE = 128

GARMENTS = ("crew", "v neck", "turtleneck", "shirt", "boat", "hoodie")
PATTERNS = ("plain", "plain", "plain", "stripes", "knit", "check", "gradient")


@dataclass(frozen=True)
class Clothing:
    """What is worn in one photo."""

    garment: str
    """One of GARMENTS."""
    pattern: str
    colours: tuple[tuple[float, float, float], tuple[float, float, float]]
    """Two linear RGB reflectances."""
    seed: int
    """Of the cloth's weave."""


def sample_clothing(rng: np.random.Generator) -> Clothing:
    """Muted colours mostly, as people wear them."""
    return Clothing(
        str(rng.choice(GARMENTS)), str(rng.choice(PATTERNS)), (_dye(rng), _dye(rng)), int(rng.integers(1 << 31))
    )


def _dye(rng: np.random.Generator) -> tuple[float, float, float]:
    if rng.random() < 0.45:  # white, grey, black, navy, denim
        greys = [(0.8, 0.79, 0.76), (0.35, 0.35, 0.36), (0.03, 0.03, 0.035), (0.03, 0.045, 0.11), (0.13, 0.2, 0.33)]
        colour = np.array(greys[rng.integers(len(greys))])
    else:
        hue = (np.array([0, 2 / 3, 1 / 3]) + rng.random()) % 1
        pure = np.clip(np.abs(hue * 6 - 3) - 1, 0, 1)
        colour = (1 - rng.uniform(0.25, 0.8) * (1 - pure)) * rng.uniform(0.12, 0.6)
    red, green, blue = np.clip(colour * rng.uniform(0.85, 1.15, 3), 0.02, 0.85)
    return float(red), float(green), float(blue)


def weave(clothing: Clothing) -> Array:
    """(CLOTH_SIZE, CLOTH_SIZE, 3) linear RGB reflectance, tileable: the pattern and the unevenness of cloth."""
    rng = numpy_generator(clothing.seed, "weave")
    first, second = np.array(clothing.colours[0]), np.array(clothing.colours[1])
    t = np.arange(CLOTH_SIZE) / CLOTH_SIZE
    across, down = np.meshgrid(t, t)
    if clothing.pattern == "stripes":
        mix = (np.sin(2 * np.pi * down * rng.integers(4, 10)) > rng.uniform(-0.6, 0.6)).astype(float)
    elif clothing.pattern == "check":
        count = rng.integers(4, 9)
        mix = 0.5 * (np.sin(2 * np.pi * down * count) > 0.3) + 0.5 * (np.sin(2 * np.pi * across * count * 2) > 0.3)
    elif clothing.pattern == "knit":
        ribs = np.sin(2 * np.pi * (across * 48)) * 0.5 + np.sin(
            2 * np.pi * (down * 32 + 0.35 * np.abs(across * 48 % 1 - 0.5))
        )
        mix, second = 0.25 + 0.2 * ribs, first * 0.35
    elif clothing.pattern == "gradient":
        mix = 0.5 - 0.5 * np.cos(2 * np.pi * down)
    else:
        mix = np.zeros_like(down)
    colour = first + np.clip(mix, 0, 1)[..., None] * (second - first)
    folds = 1 + 0.10 * spectral_noise(CLOTH_SIZE, 1.6, rng) + 0.06 * spectral_noise(CLOTH_SIZE, 0.2, rng)
    woven: Array = np.clip(colour * folds[..., None], 0.01, 0.9).astype(np.float32)
    return woven


def torso(anatomy: Anatomy, clothing: Clothing, breadth: float) -> tuple[Array, Indices, Array]:
    """Vertices (V, 3), faces (F, 3) and their texture coordinates (F, 3, 2) of the clothes, at rest.

    breadth: of the shoulders, 1 on average.
    """
    unit = anatomy.unit
    neck = _neck(anatomy)
    angle = np.linspace(0, 2 * np.pi, _AROUND, endpoint=False)  # 0 is the image's right, pi/2 the front
    c, s = np.cos(angle), np.sin(angle)
    front = np.clip(s, 0, 1)
    rings = []
    start = {"turtleneck": 1.05, "hoodie": 0.35, "crew": 0.22, "shirt": 0.65, "v neck": 0.18, "boat": -0.1}
    rise = start[clothing.garment] * unit
    dip = {"v neck": 1.5 * front**6, "boat": 0.25 * front, "shirt": 0.55 * front**8}.get(clothing.garment, 0.12 * front)
    flare = {"boat": 0.55, "hoodie": 0.35, "v neck": 0.22, "shirt": 0.16}.get(clothing.garment, 0.10)
    for b in range(_RINGS):
        t = b / (_RINGS - 1)
        out = t**0.8
        # From the neck to the shoulders: a superellipse that grows sideways faster than it falls.
        half_width = neck[3] * (1 + flare) + out * (breadth * 3.6 * unit - neck[3])
        half_depth = neck[4] * (1 + flare) + out * (1.7 * unit - neck[4])
        power = 1 - 0.25 * out
        x = neck[0] + half_width * np.sign(c) * np.abs(c) ** power
        z = neck[2] + half_depth * np.sign(s) * np.abs(s) ** power - 0.1 * unit * out
        slope = 0.75 * out**1.6 + 2.2 * np.clip(t - 0.72, 0, 1) * 3
        fall = slope * (0.85 + 0.9 * np.abs(s)) * unit
        y = neck[1] + rise * (1 - t) ** 3 - dip * unit * (1 - t) ** 2 - fall
        rings.append(np.stack([x, y, z], 1))
    # The hem is folded inwards, so that cloth has an edge.
    hem = rings[0] * 1.0
    centre = np.array([neck[0], 0, neck[2]])
    inside = hem.copy()
    inside[:, [0, 2]] = centre[[0, 2]] + (hem[:, [0, 2]] - centre[[0, 2]]) * 0.93
    inside[:, 1] -= 0.12 * unit
    lip = hem.copy()
    lip[:, 1] += 0.05 * unit
    lip[:, [0, 2]] = centre[[0, 2]] + (hem[:, [0, 2]] - centre[[0, 2]]) * 0.97
    points = np.concatenate([inside[None], lip[None], np.stack(rings)]).astype(np.float32)
    faces, uv = _grid(len(points), points, unit)
    return points.reshape(-1, 3), faces, uv


def _neck(anatomy: Anatomy) -> tuple[float, float, float, float, float]:
    """Centre x, y, z and half axes of the neck where it meets the shoulders."""
    y = max(anatomy.landmarks[8, 1] - 1.05 * anatomy.unit, anatomy.vertices[:, 1].min() + 0.3 * anatomy.unit)
    near = np.abs(anatomy.vertices[:, 1] - y) < 0.15 * anatomy.unit
    ring = anatomy.vertices[near & (np.abs(anatomy.vertices[:, 0]) < 1.6 * anatomy.unit)]
    low, high = ring.min(0), ring.max(0)
    centre, half = (low + high) / 2, (high - low) / 2
    return float(centre[0]), float(y), float(centre[2]), float(half[0]), float(half[2])


def _grid(rows: int, points: Array, unit: float) -> tuple[Indices, Array]:
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(_AROUND), indexing="ij")
    nxt = (j + 1) % _AROUND
    a, b, c, d = i * _AROUND + j, i * _AROUND + nxt, (i + 1) * _AROUND + j, (i + 1) * _AROUND + nxt
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)])
    flat = points.reshape(-1, 3)
    # Cloth is cut from the side it is seen from: front and back alike, by position.
    corners = flat[faces]
    uv = np.stack([corners[..., 0] / (4 * unit) + 0.5, corners[..., 1] / (4 * unit) + 0.5], -1)
    return faces.astype(np.int32), uv.astype(np.float32)
