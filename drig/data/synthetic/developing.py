"""From light to a photo: lens, white balance, tone curve and sensor noise."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from drig.data.synthetic.arrays import Array
from drig.data.synthetic.shots import Shot
from drig.data.synthetic.truth import GAMMA
from drig.randomness import numpy_generator

_SHOULDER = 0.75  # linear light from which on highlights roll off instead of clipping


def reduce(picture: Array, factor: int) -> Array:
    """(H, W, C) -> (H / factor, W / factor, C): means of factor x factor pixels."""
    for axis in (0, 1):
        parts = (
            np.split(picture, [], axis) if factor == 1 else [_every(picture, axis, k, factor) for k in range(factor)]
        )
        picture = sum(parts[1:], parts[0]) * np.float32(1 / factor)
    return picture


def _every(picture: Array, axis: int, first: int, step: int) -> Array:
    return picture[first::step] if axis == 0 else picture[:, first::step]


def develop(picture: Array, shot: Shot) -> NDArray[np.uint8]:
    """(S, S, 3) linear light -> (S, S, 3) uint8."""
    size, camera = len(picture), shot.camera
    sigma = camera.blur * size / 256
    if sigma > 0.15:
        picture = gaussian_filter(picture, (sigma, sigma, 0), truncate=2.5)
    t = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    falloff = 1 - np.float32(0.5 * camera.vignette) * (t[:, None] ** 2 + t[None] ** 2)
    exposed = picture * falloff[..., None] * np.array(shot.light.balance, np.float32)
    bright = exposed > _SHOULDER
    exposed[bright] = _SHOULDER + (1 - _SHOULDER) * np.tanh((exposed[bright] - _SHOULDER) / 0.4)
    display = np.power(np.maximum(exposed, 0), np.float32(1 / GAMMA))
    noise = numpy_generator(shot.seed, "sensor").standard_normal(display.shape, np.float32)
    display += noise * np.float32(camera.noise) * (1.3 - display)
    image: NDArray[np.uint8] = np.clip(np.rint(display * 255), 0, 255).astype(np.uint8)
    return image
