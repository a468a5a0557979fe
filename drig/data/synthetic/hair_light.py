"""How strands catch light: a sheen that runs across them (Kajiya and Kay 1989; two lobes as Marschner et al. 2003).

Legend: S strands, K points of each, of which every stride-th is lit and the others interpolated; R rays.
"""

import numpy as np
from numba import njit

from drig.data.synthetic.arrays import Array, Indices
from drig.data.synthetic.shading import Lamps
from drig.data.synthetic.shadows import ShadowMaps, reaches_nearest

_SHIFT = 0.12  # sine by which the cuticle's scales tilt the two highlights, to the root and to the tip
_BODY, _SHEEN = 2.2, 0.075  # how much of the light all around, and of a lamp in the mirror direction, comes back


def light_strands(
    points: Array, normals: Array, leader: Indices, colour: Array, lamps: Lamps, sky: ShadowMaps, sky_colours: Array,
    distance: float, gloss: float,
) -> Array:  # fmt: skip
    """(S, K, 3) linear RGB of strands (S, K, 3) of a reflectance `colour` (S, K, 3).

    normals (S, K, 3): away from the head. leader (S,): whose share of the surroundings each strand gets. gloss: of the
    sheen. distance: of the camera from the origin, on +z.
    """
    stride = next(step for step in (3, 2, 1) if (points.shape[1] - 1) % step == 0)
    around = _surroundings(points, leader, stride, sky_colours, sky.rays, sky.solid, sky.hair, sky.sides, sky.radius)
    body, sheen = np.float32(_BODY) * around, np.float32(0.02 * gloss) * around
    for r in range(len(lamps.rays)):
        _shine(r, points, normals, stride, lamps, distance, gloss, body, sheen)
    _fill(body, stride)
    _fill(sheen, stride)
    lit: Array = colour * body + sheen
    return lit


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _surroundings(
    points: Array, leader: Indices, stride: int, colours: Array, rays: Array, solid: Array, hair: Array, sides: Array,
    radius: float,
) -> Array:  # fmt: skip
    """Mean radiance of the surroundings, found for the leaders."""
    strands, count = points.shape[0], points.shape[1]
    light = np.zeros((strands, count, 3), np.float32)
    for r in range(len(rays)):
        for s in range(strands):
            if leader[s] == s:
                for k in range(0, count, stride):
                    x, y, z = points[s, k, 0], points[s, k, 1], points[s, k, 2]
                    seen = 0.25 * reaches_nearest(solid, hair, sides, rays, r, radius, x, y, z)
                    for c in range(3):
                        light[s, k, c] += colours[r, c] * seen
    for s in range(strands):
        if leader[s] != s:
            for k in range(0, count, stride):
                for c in range(3):
                    light[s, k, c] = light[leader[s], k, c]
    return light


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _shine(
    r: int, points: Array, normals: Array, stride: int, lamps: Lamps, distance: float, gloss: float, body: Array,
    sheen: Array,
) -> None:  # fmt: skip
    """Adds one ray's light to every stride-th point."""
    lx, ly, lz = lamps.rays[r, 0], lamps.rays[r, 1], lamps.rays[r, 2]
    strands, count = points.shape[0], points.shape[1]
    for s in range(strands):
        for k in range(0, count, stride):
            x, y, z = points[s, k, 0], points[s, k, 1], points[s, k, 2]
            seen = reaches_nearest(lamps.solid, lamps.hair, lamps.sides, lamps.rays, r, lamps.radius, x, y, z)
            if seen < 0.003:
                continue
            a, b = max(k - 1, 0), min(k + 1, count - 1)
            tx, ty, tz = (
                points[s, b, 0] - points[s, a, 0],
                points[s, b, 1] - points[s, a, 1],
                points[s, b, 2] - points[s, a, 2],
            )
            length = 1.0 / max(np.sqrt(tx * tx + ty * ty + tz * tz), 1e-9)
            hx, hy, hz = _half_way(lx, ly, lz, -x, -y, distance - z)
            along = (tx * lx + ty * ly + tz * lz) * length
            tilt = (tx * hx + ty * hy + tz * hz) * length
            facing = 0.5 + 0.5 * (normals[s, k, 0] * lx + normals[s, k, 1] * ly + normals[s, k, 2] * lz)
            weight = seen * np.sqrt(max(1.0 - along * along, 0.0)) * facing * facing
            first = max(1.0 - ((tilt + _SHIFT) / 0.26) ** 2, 0.0) ** 3
            second = max(1.0 - ((tilt - 1.5 * _SHIFT) / 0.56) ** 2, 0.0) ** 3
            for c in range(3):
                body[s, k, c] += lamps.colours[r, c] * weight * (0.55 + 1.1 * gloss * second)
                sheen[s, k, c] += lamps.colours[r, c] * weight * gloss * _SHEEN * first


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _half_way(lx: float, ly: float, lz: float, vx: float, vy: float, vz: float) -> tuple[float, float, float]:
    """Unit vector between a unit vector l and a vector v of any length."""
    length = 1.0 / np.sqrt(vx * vx + vy * vy + vz * vz)
    hx, hy, hz = lx + vx * length, ly + vy * length, lz + vz * length
    length = 1.0 / max(np.sqrt(hx * hx + hy * hy + hz * hz), 1e-6)
    return hx * length, hy * length, hz * length


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _fill(light: Array, stride: int) -> None:
    """Interpolates (S, K, 3) between every stride-th point."""
    strands, count = light.shape[0], light.shape[1]
    for s in range(strands):
        for k in range(count - 1):
            a = k // stride * stride
            t = (k - a) / stride
            if k > a:
                for c in range(3):
                    light[s, k, c] = light[s, a, c] + t * (light[s, a + stride, c] - light[s, a, c])
