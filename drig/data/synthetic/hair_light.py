"""How strands catch light: a sheen that runs across them (Kajiya and Kay 1989; two lobes as Marschner et al. 2003)."""

import numpy as np
from numba import njit

from drig.data.synthetic.arrays import Array, Indices
from drig.data.synthetic.shading import Lamps
from drig.data.synthetic.shadows import ShadowMaps, reaches_nearest

_SHIFT = 0.12  # sine by which the cuticle's scales tilt the two highlights, to the root and to the tip


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def sky_on_strands(
    points: Array,
    leader: Indices,
    stride: int,
    colours: Array,
    rays: Array,
    solid: Array,
    hair: Array,
    sides: Array,
    radius: float,
) -> Array:
    """(S, K, 3) mean radiance of the surroundings around strands (S, K, 3), found at every `stride`-th point of the
    leaders; K - 1 must be a multiple of it."""
    strands, count = points.shape[0], points.shape[1]
    light = np.zeros((strands, count, 3), np.float32)
    for s in range(strands):
        if leader[s] != s:
            continue
        for k in range(0, count, stride):
            for r in range(len(rays)):
                x, y, z = points[s, k, 0], points[s, k, 1], points[s, k, 2]
                seen = 0.25 * reaches_nearest(solid, hair, sides, rays, r, radius, x, y, z)
                for c in range(3):
                    light[s, k, c] += colours[r, c] * seen
        for k in range(count):
            a = k // stride * stride
            b = min(a + stride, count - 1)
            t = (k - a) / stride
            if k > a:
                for c in range(3):
                    light[s, k, c] = light[s, a, c] + t * (light[s, b, c] - light[s, a, c])
    for s in range(strands):
        if leader[s] != s:
            light[s] = light[leader[s]]
    return light


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def light_strands(
    points: Array,
    normals: Array,
    colour: Array,
    sky: Array,
    lamps: Lamps,
    distance: float,
    gloss: float,
    stride: int,
    out: Array,
) -> None:
    """Fills out (S, K, 3), linear RGB, for strands (S, K, 3) whose surroundings send `sky` (S, K, 3).

    normals (S, K, 3): away from the head. gloss: strength of the sheen. stride: lamps are looked up at every
    `stride`-th point; K - 1 must be a multiple of it.
    """
    strands, count = points.shape[0], points.shape[1]
    solid, hair, sides, rays, colours = lamps.solid, lamps.hair, lamps.sides, lamps.rays, lamps.colours
    body = np.empty((count, 3), np.float32)
    sheen = np.empty((count, 3), np.float32)
    for s in range(strands):
        for k in range(0, count, stride):
            a, b = max(k - 1, 0), min(k + 1, count - 1)
            tx, ty, tz = (
                points[s, b, 0] - points[s, a, 0],
                points[s, b, 1] - points[s, a, 1],
                points[s, b, 2] - points[s, a, 2],
            )
            length = 1.0 / max(np.sqrt(tx * tx + ty * ty + tz * tz), 1e-9)
            tx, ty, tz = tx * length, ty * length, tz * length
            px, py, pz = points[s, k, 0], points[s, k, 1], points[s, k, 2]
            vx, vy, vz = -px, -py, distance - pz
            length = 1.0 / np.sqrt(vx * vx + vy * vy + vz * vz)
            vx, vy, vz = vx * length, vy * length, vz * length
            for c in range(3):
                body[k, c] = 2.2 * sky[s, k, c]
                sheen[k, c] = 0.35 * sky[s, k, c] * gloss * 0.05
            for r in range(rays.shape[0]):
                lx, ly, lz = rays[r, 0], rays[r, 1], rays[r, 2]
                seen = reaches_nearest(solid, hair, sides, rays, r, lamps.radius, px, py, pz)
                if seen < 0.003:
                    continue
                along = tx * lx + ty * ly + tz * lz
                across = np.sqrt(max(1.0 - along * along, 0.0))
                facing = 0.5 + 0.5 * (normals[s, k, 0] * lx + normals[s, k, 1] * ly + normals[s, k, 2] * lz)
                hx, hy, hz = lx + vx, ly + vy, lz + vz
                length = 1.0 / max(np.sqrt(hx * hx + hy * hy + hz * hz), 1e-6)
                tilt = (tx * hx + ty * hy + tz * hz) * length
                first = np.exp(-(((tilt + _SHIFT) / 0.13) ** 2))
                second = np.exp(-(((tilt - 1.5 * _SHIFT) / 0.28) ** 2))
                weight = seen * across * facing * facing
                for c in range(3):
                    body[k, c] += colours[r, c] * weight * (0.55 + 1.1 * gloss * second)
                    sheen[k, c] += colours[r, c] * weight * gloss * 0.075 * first
        for k in range(count):
            a = k // stride * stride
            b = min(a + stride, count - 1)
            t = (k - a) / stride
            for c in range(3):
                lit = body[a, c] + t * (body[b, c] - body[a, c])
                shine = sheen[a, c] + t * (sheen[b, c] - sheen[a, c])
                out[s, k, c] = colour[s, k, c] * lit + shine


def stride(count: int) -> int:
    """How many points of a strand apart its light is looked up."""
    return next(step for step in (3, 2, 1) if (count - 1) % step == 0)


def surroundings(points: Array, leader: Indices, colours: Array, maps: ShadowMaps) -> Array:
    """(S, K, 3) radiance of the surroundings at strands, through their shadow maps."""
    light: Array = sky_on_strands(
        points, leader, stride(points.shape[1]), colours, maps.rays, maps.solid, maps.hair, maps.sides, maps.radius
    )
    return light
