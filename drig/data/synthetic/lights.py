"""Light on a set: lamps that have a size, and the dim light of the surroundings.

Directions point towards the light, in the frame of the aligned portrait: x to the image's right, y up, z towards the
camera. Colours are linear RGB irradiance on a surface that faces the light.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from drig.data.synthetic.arrays import Array

Colour = tuple[float, float, float]

LAMP_RAYS = 8
"""Directions over which the lamps are spread, all together: more make softer shadows, and each costs a shadow map."""
SKY_RAYS = 16
"""Directions over which the surroundings are spread."""


@dataclass(frozen=True)
class Lamp:
    """A round light."""

    direction: Colour
    """Unit vector towards its centre."""
    colour: Colour
    spread: float
    """Angular radius in radians: 0.02 is a sun, 0.5 a window close by."""


@dataclass(frozen=True)
class Light:
    """Everything that shines on one photo, and how the camera exposes for it."""

    kind: str
    lamps: tuple[Lamp, ...]
    """The key light first."""
    sky: Colour
    """Radiance from above."""
    ground: Colour
    """Radiance from below."""
    balance: Colour
    """Gains of the camera's white balance."""

    def lamp_rays(self) -> tuple[Array, Array]:
        """Directions (L, 3) and colours (L, 3), L = LAMP_RAYS: each lamp as a spiral of points on its disc."""
        power = np.array([max(lamp.colour) * (0.3 + lamp.spread) for lamp in self.lamps])
        counts = np.maximum(1, np.floor(power / power.sum() * LAMP_RAYS)).astype(int)
        counts[0] += LAMP_RAYS - counts.sum()
        directions, colours = [], []
        for lamp, count in zip(self.lamps, counts, strict=True):
            directions.append(_disc(np.array(lamp.direction), lamp.spread, count))
            colours.append(np.tile(np.array(lamp.colour) / count, (count, 1)))
        return np.concatenate(directions).astype(np.float32), np.concatenate(colours).astype(np.float32)

    def sky_rays(self) -> tuple[Array, Array]:
        """Directions (E, 3) and colours (E, 3) whose cosine-weighted sum is the irradiance of the surroundings."""
        directions = fibonacci_sphere(SKY_RAYS)
        height = (0.5 + 0.5 * directions[:, 1:2]) ** 1.2  # (E, 1)
        radiance = np.array(self.ground) + height * (np.array(self.sky) - np.array(self.ground))
        return directions.astype(np.float32), (radiance * 4 / SKY_RAYS).astype(np.float32)

    def irradiance(self, normals: Array) -> Array:
        """(..., 3) unit normals -> (..., 3) irradiance without any shadow."""
        total = np.zeros_like(normals)
        for directions, colours in (self.lamp_rays(), self.sky_rays()):
            total += np.maximum(normals @ directions.T, 0) @ colours
        return total


def fibonacci_sphere(count: int) -> Array:
    """(count, 3) unit vectors, evenly spread."""
    i = np.arange(count) + 0.5
    y = 1 - 2 * i / count
    angle = i * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - y * y)
    return np.stack([ring * np.cos(angle), y, ring * np.sin(angle)], 1)


def _disc(direction: Array, spread: float, count: int) -> Array:
    side = np.cross(direction, [0.31, 0.95, 0.05])
    side /= np.linalg.norm(side)
    up = np.cross(side, direction)
    i = np.arange(count) + 0.5
    radius = np.tan(spread) * np.sqrt(i / count)
    angle = i * np.pi * (3 - np.sqrt(5))
    rays = direction + np.outer(radius * np.cos(angle), side) + np.outer(radius * np.sin(angle), up)
    unit: Array = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return unit


def from_angles(azimuth: float, elevation: float) -> Colour:
    """Unit vector from degrees: azimuth 0 is the camera's side, positive the image's right; elevation is up."""
    a, e = np.radians(azimuth), np.radians(elevation)
    return float(np.sin(a) * np.cos(e)), float(np.sin(e)), float(np.cos(a) * np.cos(e))


def temperature(warmth: float) -> Colour:
    """A light colour of luminance about 1: -1 is blue shade, 0 white, 1 candle light."""
    cool, warm = np.array([0.78, 0.97, 1.32]), np.array([1.32, 0.95, 0.52])
    white = np.ones(3)
    mixed = white + warmth * (warm - white) if warmth > 0 else white - warmth * (cool - white)
    return tuple(float(c) for c in mixed)  # type: ignore[return-value]


def _scaled(colour: Colour, gain: float) -> Colour:
    return colour[0] * gain, colour[1] * gain, colour[2] * gain


def _studio(rng: np.random.Generator, side: float) -> Light:
    key = Lamp(from_angles(side * rng.uniform(15, 60), rng.uniform(10, 50)), (1, 1, 1), rng.uniform(0.2, 0.45))
    fill = _scaled(temperature(rng.uniform(-0.3, 0.3)), rng.uniform(0.1, 0.45))
    lamps = [key, Lamp(from_angles(-side * rng.uniform(30, 75), rng.uniform(-5, 30)), fill, 0.5)]
    if rng.random() < 0.5:
        rim = _scaled(temperature(rng.uniform(-0.5, 0.5)), rng.uniform(0.3, 0.8))
        lamps.append(Lamp(from_angles(-side * rng.uniform(125, 160), rng.uniform(15, 50)), rim, 0.3))
    grey = rng.uniform(0.08, 0.25)
    return Light("studio", tuple(lamps), (grey, grey, grey), (grey * 0.7,) * 3, (1, 1, 1))


def _window(rng: np.random.Generator, side: float) -> Light:
    key = Lamp(from_angles(side * rng.uniform(55, 85), rng.uniform(5, 30)), temperature(rng.uniform(-0.6, 0.1)), 0.55)
    room = temperature(rng.uniform(0, 0.6))
    return Light(
        "window", (key,), _scaled(room, rng.uniform(0.15, 0.35)), _scaled(room, rng.uniform(0.1, 0.25)), (1,) * 3
    )


def _overcast(rng: np.random.Generator, side: float) -> Light:
    key = Lamp(from_angles(side * rng.uniform(0, 60), rng.uniform(40, 70)), (0.5, 0.5, 0.5), 0.7)
    sky = _scaled(temperature(rng.uniform(-0.5, 0.0)), rng.uniform(0.7, 1.0))
    return Light("overcast", (key,), sky, _scaled(temperature(rng.uniform(0, 0.4)), rng.uniform(0.2, 0.5)), (1,) * 3)


def _sun(rng: np.random.Generator, side: float) -> Light:
    key = Lamp(from_angles(side * rng.uniform(10, 75), rng.uniform(25, 60)), temperature(rng.uniform(0, 0.35)), 0.03)
    sky = _scaled(temperature(rng.uniform(-0.6, -0.1)), rng.uniform(0.2, 0.45))
    return Light("sun", (key,), sky, _scaled(temperature(0.4), rng.uniform(0.1, 0.3)), (1,) * 3)


def _golden(rng: np.random.Generator, side: float) -> Light:
    key = Lamp(from_angles(side * rng.uniform(20, 120), rng.uniform(3, 20)), temperature(rng.uniform(0.6, 1.0)), 0.06)
    sky = _scaled(temperature(rng.uniform(-0.6, 0.2)), rng.uniform(0.25, 0.45))
    return Light("golden", (key,), sky, _scaled(temperature(0.6), rng.uniform(0.15, 0.3)), (1,) * 3)


def _backlight(rng: np.random.Generator, side: float) -> Light:
    rim = _scaled(temperature(rng.uniform(-0.2, 0.7)), rng.uniform(0.9, 1.7))
    lamps = (
        Lamp(from_angles(side * rng.uniform(125, 165), rng.uniform(10, 45)), rim, 0.25),
        Lamp(from_angles(-side * rng.uniform(0, 50), rng.uniform(0, 30)), (0.6, 0.6, 0.6), 0.6),
    )
    return Light("backlight", lamps, (0.3, 0.3, 0.3), (0.2, 0.2, 0.2), (1,) * 3)


def _flash(rng: np.random.Generator, side: float) -> Light:
    key = Lamp(from_angles(side * rng.uniform(0, 12), rng.uniform(2, 15)), (1, 1, 1), 0.05)
    room = _scaled(temperature(rng.uniform(0, 0.8)), rng.uniform(0.1, 0.3))
    return Light("flash", (key,), room, room, (1, 1, 1))


def _coloured(rng: np.random.Generator, side: float) -> Light:
    hue = rng.uniform(0, 1)
    lamps = (
        Lamp(from_angles(side * rng.uniform(25, 70), rng.uniform(0, 40)), _hue(hue, 0.55), 0.35),
        Lamp(
            from_angles(-side * rng.uniform(40, 90), rng.uniform(-10, 30)), _hue(hue + rng.uniform(0.3, 0.6), 0.7), 0.35
        ),
    )
    return Light("coloured", lamps, (0.14, 0.14, 0.16), (0.08, 0.08, 0.1), (1, 1, 1))


_KINDS: dict[Callable[[np.random.Generator, float], Light], float] = {
    _studio: 0.3,
    _window: 0.18,
    _overcast: 0.14,
    _sun: 0.12,
    _golden: 0.09,
    _backlight: 0.06,
    _flash: 0.06,
    _coloured: 0.05,
}


def sample_light(rng: np.random.Generator) -> Light:
    """One photo's light, scaled so that a face towards the camera is well exposed."""
    kinds, chances = list(_KINDS), list(_KINDS.values())
    light = kinds[rng.choice(len(kinds), p=chances)](rng, rng.choice([-1.0, 1.0]))
    face = np.array([from_angles(a, e) for a, e in [(0, 10), (-40, 10), (40, 10), (0, 50), (0, -30)]], np.float32)
    # A face half lit is exposed between its mean and its bright half.
    seen = light.irradiance(face).mean(-1)
    gain = rng.uniform(1.05, 1.6) / float(0.6 * seen.mean() + 0.4 * seen.max())
    warmth = temperature(rng.normal(0, 0.12))
    lamps = tuple(replace(lamp, colour=_scaled(lamp.colour, gain)) for lamp in light.lamps)
    return replace(light, lamps=lamps, sky=_scaled(light.sky, gain), ground=_scaled(light.ground, gain), balance=warmth)


def _hue(hue: float, saturation: float) -> Colour:
    rgb = 1 - saturation * np.clip(np.abs((np.array([0, 2 / 3, 1 / 3]) + hue) % 1 * 6 - 3) - 1, 0, 1)
    rgb = rgb / rgb.mean()
    return float(rgb[0]), float(rgb[1]), float(rgb[2])
