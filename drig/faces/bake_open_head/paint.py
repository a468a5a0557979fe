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
    "skin_ruddy",
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

HAIR, STUBBLE, LASH = np.array([0.185, 0.135, 0.105]), np.array([0.255, 0.205, 0.185]), np.array([0.09, 0.065, 0.055])
BLUSH, SHADE, PIGMENT = (np.array(c) / 1000 for c in ((35, -22, -20), (-70, -85, -68), (-120, -145, -130)))


@dataclass(frozen=True, eq=False)
class Noise:
    """The random patterns, drawn once."""

    fine: Image
    blotches: Image
    freckles: Image
    spots: Image


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
    skin = np.array([0.680, 0.515, 0.430]) + p["skin_tone"] * np.array([0.150, 0.130, 0.117])
    skin += p["skin_warmth"] * np.array([0.003, 0.006, -0.011]) + p["skin_ruddy"] * np.array([0.009, -0.007, -0.010])
    image = np.broadcast_to(skin, (*noise.fine.shape, 3)).copy()
    image *= (1 + 0.014 * noise.fine + 0.014 * noise.blotches)[..., None]
    image += _change(regions["cheeks"] + 0.8 * regions["nose"] + 0.9 * regions["ears"], 0.7 + 0.4 * p["blush"], BLUSH)
    image += _change(regions["under_eyes"], 0.6 + 0.5 * p["under_eyes"], SHADE)
    image += _change(regions["eyelids"], 0.5 + 0.5 * p["eyelids_dark"], SHADE)
    image += _change(noise.freckles, 0.2 + 0.3 * p["freckles"], PIGMENT)
    image += _change(noise.spots + 0.25 * noise.blotches * regions["skin"], 0.15 + 0.22 * p["age_spots"], PIGMENT)

    lips = skin * np.array([0.90, 0.72, 0.74]) - p["lips_dark"] * 0.05
    lips += p["lips_red"] * np.array([0.016, -0.024, -0.016])
    image = _over(image, lips * (1 + 0.03 * noise.fine[..., None]), 0.85 * regions["lips"])
    hairs, hair = 1 + 0.12 * noise.fine, HAIR * (1 + 0.35 * p["skin_tone"])
    image = _over(image, STUBBLE, regions["beard"] * hairs * (0.14 + 0.13 * p["beard"]))
    image = _over(image, STUBBLE, regions["moustache"] * hairs * (0.12 + 0.12 * p["moustache"]))
    image = _over(image, hair, regions["scalp"] * hairs * (0.45 + 0.22 * p["scalp_hair"]))
    thick = 0.5 * (np.sqrt(regions["brows"]) - regions["brows"])
    cover = regions["brows"] * (0.62 + 0.17 * p["brows_dark"]) + thick * p["brows_thick"]
    image = _over(image, hair + p["brows_warm"] * np.array([0.050, 0.030, 0.010]), np.clip(cover * hairs, 0, 1))
    image = _over(image, LASH, 0.8 * regions["lashes"])
    return _paint_inside(image, regions, p)


def _paint_inside(image: Colours, regions: dict[str, Image], p: dict[str, float]) -> Colours:
    """Eyes, mouth, teeth and tongue. The mouth is as dark as its shadow, which the renderer does not know."""
    iris = np.array([0.28, 0.215, 0.165]) + p["iris_brown"] * np.array([0.035, -0.045, -0.095]) + p["iris_light"] * 0.06
    rim = np.clip(4 * regions["iris"] * (1 - regions["iris"]), 0, 1)
    colours: dict[str, NDArray[np.float64] | tuple[float, float, float]] = {
        "sockets": (0.42, 0.25, 0.22),
        "mouth": (0.11, 0.035, 0.035),
        "tongue": (0.40, 0.17, 0.17),
        "teeth": (0.78, 0.74, 0.66),
        "sclera": (0.76, 0.735, 0.715),
        "iris": iris,
        "pupil": (0.04, 0.035, 0.035),
    }
    for name, colour in colours.items():
        image = _over(image, np.asarray(colour), regions[name])
    return _over(image, 0.4 * iris, 0.5 * rim)


def _change(where: Image, amount: float, colour: NDArray[np.float64]) -> Colours:
    return (where * amount)[..., None] * colour


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
