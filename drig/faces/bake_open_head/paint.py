"""The albedo basis: a painter with named, independent, unit-variance parameters, linearised at its mean.

Colours are display RGB in 0..1, as photos store them, because albedo x shading is compared with photos. Component k is
half the difference between the painting at +1 and at -1 of parameter k, all others 0.

Legend: T texture size, K components.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from drig.faces.bake_open_head.texels import Image, Texels

Colours = NDArray[np.float64]  # (T, T, 3)

PARAMETERS = (
    "skin_tone",  # dark .. light
    "skin_warmth",  # pink .. yellow
    "skin_saturation",  # pale .. ruddy
    "blush",  # cheeks, nose and ears
    "lips_red",
    "lips_dark",
    "brows_dark",
    "brows_warm",
    "brows_thick",
    "beard",
    "moustache",
    "freckles",
    "age_spots",
    "under_eyes",
    "eyelids_dark",
    "iris_brown",
    "iris_light",
    "scalp_hair",
)
"""Names of the components, in order."""

FRECKLES, SPOTS = 420, 90


@dataclass(frozen=True, eq=False)
class Noise:
    """The random patterns, drawn once."""

    fine: Image
    blotches: Image
    freckles: Image
    spots: Image
    hairs: Image


def albedo_basis(
    texels: Texels, regions: dict[str, Image], generator: np.random.Generator
) -> tuple[Colours, NDArray[np.float64]]:
    """-> mean (T, T, 3) and components (K, T, T, 3) in PARAMETERS' order."""
    noise = _draw_noise(texels, regions, generator)

    def painted(**values: float) -> Colours:
        return _paint(regions, noise, {name: values.get(name, 0.0) for name in PARAMETERS})

    components = [(painted(**{name: 1.0}) - painted(**{name: -1.0})) / 2 for name in PARAMETERS]
    return painted(), np.stack(components)


def _paint(regions: dict[str, Image], noise: Noise, p: dict[str, float]) -> Colours:
    skin = np.array([0.665, 0.495, 0.415])
    skin = skin + p["skin_tone"] * np.array([0.125, 0.120, 0.110])
    skin = (
        skin
        + p["skin_warmth"] * np.array([0.004, 0.016, -0.030])
        + p["skin_saturation"] * np.array([0.022, -0.014, -0.018])
    )
    hair = np.array([0.185, 0.135, 0.105])
    image = np.broadcast_to(skin, (*noise.fine.shape, 3)).copy()
    image *= (1 + 0.022 * noise.fine + 0.02 * noise.blotches)[..., None]

    ruddy = regions["cheeks"] + 0.8 * regions["nose"] + 0.9 * regions["ears"]
    image += (ruddy * (0.7 + 0.9 * p["blush"]))[..., None] * np.array([0.035, -0.022, -0.020])
    dark_eyes = regions["under_eyes"] * (0.6 + 0.6 * p["under_eyes"]) + regions["eyelids"] * (
        0.5 + 0.6 * p["eyelids_dark"]
    )
    image += dark_eyes[..., None] * np.array([-0.075, -0.085, -0.065])
    image += (noise.freckles * (0.25 + 0.35 * p["freckles"]))[..., None] * np.array([-0.13, -0.15, -0.14])
    aged = noise.spots + 0.25 * noise.blotches * regions["skin"]
    image += (aged * (0.3 + 0.4 * p["age_spots"]))[..., None] * np.array([-0.10, -0.12, -0.10])

    lips = (
        skin * np.array([0.93, 0.70, 0.72]) + p["lips_red"] * np.array([0.030, -0.045, -0.030]) - p["lips_dark"] * 0.06
    )
    image = _over(image, lips * (1 + 0.05 * noise.fine[..., None]), 0.85 * regions["lips"])
    stubble = noise.hairs * 0.25 + 0.75
    image = _over(image, hair + [0.08, 0.08, 0.09], regions["beard"] * stubble * (0.17 + 0.15 * p["beard"]))
    image = _over(image, hair + [0.06, 0.05, 0.05], regions["moustache"] * stubble * (0.14 + 0.13 * p["moustache"]))
    image = _over(image, hair, regions["scalp"] * stubble * (0.40 + 0.25 * p["scalp_hair"]))
    brow = hair + p["brows_warm"] * np.array([0.07, 0.035, 0.0])
    cover = regions["brows"] * (0.62 + 0.17 * p["brows_dark"])
    cover = cover + p["brows_thick"] * 0.5 * (np.sqrt(regions["brows"]) - regions["brows"])
    image = _over(image, brow, np.clip(cover, 0, 1) * stubble)
    image = _over(image, np.array([0.10, 0.07, 0.06]), 0.75 * regions["lashes"])
    return _paint_inside(image, regions, noise, p)


def _paint_inside(image: Colours, regions: dict[str, Image], noise: Noise, p: dict[str, float]) -> Colours:
    """Eyes, mouth, teeth and tongue."""
    iris = np.array([0.30, 0.235, 0.185]) + p["iris_brown"] * np.array([0.035, -0.045, -0.095]) + p["iris_light"] * 0.06
    for name, colour in (
        ("sockets", (0.42, 0.22, 0.20)),
        ("mouth", (0.24, 0.07, 0.07)),
        ("tongue", (0.62, 0.30, 0.30)),
        ("teeth", (0.85, 0.81, 0.73)),
        ("sclera", (0.86, 0.83, 0.81)),
        ("iris", iris),
        ("pupil", (0.04, 0.035, 0.035)),
    ):
        image = _over(image, np.asarray(colour), regions[name])
    return image


def _over(image: Colours, colour: NDArray[np.float64], cover: Image) -> Colours:
    return image + cover[..., None] * (colour - image)


def _draw_noise(texels: Texels, regions: dict[str, Image], generator: np.random.Generator) -> Noise:
    shape = texels.part.shape
    cheeks = np.clip(
        1.2 * regions["cheeks"] + regions["nose"] + 0.25 * regions["skin"] * (texels.position[..., 2] > 0.09), 0, 1
    )
    aged = regions["skin"] * (texels.position[..., 2] > 0.05)
    return Noise(
        fine=_smooth_noise(shape, 1.2, generator),
        blotches=_smooth_noise(shape, 9.0, generator),
        freckles=_dots(texels, cheeks, FRECKLES, 0.0010, generator) * regions["skin"],
        spots=_dots(texels, aged, SPOTS, 0.0024, generator) * regions["skin"],
        hairs=_smooth_noise(shape, 0.8, generator),
    )


def _smooth_noise(shape: tuple[int, ...], sigma: float, generator: np.random.Generator) -> Image:
    """Unit-variance noise whose grains are sigma texels wide."""
    noise = gaussian_filter(generator.normal(size=shape), sigma, mode="wrap")
    return np.asarray(noise / noise.std())


def _dots(texels: Texels, density: Image, count: int, radius: float, generator: np.random.Generator) -> Image:
    """Round dots of about `radius` metres, placed in proportion to density per unit of skin."""
    across = np.linalg.norm(np.gradient(texels.position, axis=1), axis=-1)
    down = np.linalg.norm(np.gradient(texels.position, axis=0), axis=-1)
    chance = (density * np.minimum(across * down, 1e-6)).ravel()
    chosen = generator.choice(chance.size, count, p=chance / chance.sum())
    points = texels.position.reshape(-1, 3)
    image = np.zeros(len(points))
    for index, size in zip(chosen, radius * generator.uniform(0.6, 1.4, count), strict=True):
        near = np.square(points - points[index]).sum(1)
        image = np.maximum(image, np.exp(-near / size**2) * generator.uniform(0.5, 1))
    return image.reshape(density.shape)
