"""How strands catch light: a sheen that runs across them (Kajiya and Kay 1989; two lobes as Marschner et al. 2003).

Legend: S strands, K points of each, Q stations: every third point or so, at which light is found; R rays.
"""

import numpy as np

from drig.data.synthetic.arrays import Array, Indices, compiled
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
    count = points.shape[1]
    stride = 3 if (count - 1) % 3 == 0 else count - 1  # short hairs are lit at both ends
    stations = _stations(points, normals, stride, distance)  # (Q, 12)
    around = _surroundings(stations, leader, sky_colours, sky.rays, sky.solid, sky.hair, sky.sides, sky.radius)
    body, sheen = np.float32(_BODY) * around, np.float32(0.02 * gloss) * around  # (Q, 3)
    for r in range(len(lamps.rays)):
        _shine(r, stations, lamps, gloss, body, sheen)
    lit = np.empty_like(points)
    _spread(body, sheen, colour, stride, lit)
    return lit


@compiled
def _stations(points: Array, normals: Array, stride: int, distance: float) -> Array:
    """(Q, 12) position, direction, normal and view vector of every stride-th point, strand by strand."""
    strands, count = points.shape[0], points.shape[1]
    per_strand = (count - 1) // stride + 1
    stations = np.empty((strands * per_strand, 12), np.float32)
    for s in range(strands):
        for m in range(per_strand):
            k, q = m * stride, s * per_strand + m
            a, b = max(k - 1, 0), min(k + 1, count - 1)
            tx, ty, tz = 0.0, 0.0, 1e-9
            tx += points[s, b, 0] - points[s, a, 0]
            ty += points[s, b, 1] - points[s, a, 1]
            tz += points[s, b, 2] - points[s, a, 2]
            length = 1.0 / np.sqrt(tx * tx + ty * ty + tz * tz)
            stations[q, 3], stations[q, 4], stations[q, 5] = tx * length, ty * length, tz * length
            x, y, z = points[s, k, 0], points[s, k, 1], points[s, k, 2]
            length = 1.0 / np.sqrt(x * x + y * y + (distance - z) ** 2)
            stations[q, 9], stations[q, 10], stations[q, 11] = -x * length, -y * length, (distance - z) * length
            for c in range(3):
                stations[q, c] = points[s, k, c]
                stations[q, 6 + c] = normals[s, k, c]
    return stations


@compiled
def _surroundings(
    stations: Array,
    leader: Indices,
    colours: Array,
    rays: Array,
    solid: Array,
    hair: Array,
    sides: Array,
    radius: float,
) -> Array:
    """(Q, 3) mean radiance of the surroundings, found for the leaders."""
    light = np.zeros((len(stations), 3), np.float32)
    per_strand = len(stations) // max(len(leader), 1)
    for r in range(len(rays)):
        for s in range(len(leader)):
            if leader[s] == s:
                for q in range(s * per_strand, (s + 1) * per_strand):
                    x, y, z = stations[q, 0], stations[q, 1], stations[q, 2]
                    seen = 0.25 * reaches_nearest(solid, hair, sides, rays, r, radius, x, y, z)
                    for c in range(3):
                        light[q, c] += colours[r, c] * seen
    for s in range(len(leader)):
        for m in range(per_strand):
            for c in range(3):
                light[s * per_strand + m, c] = light[leader[s] * per_strand + m, c]
    return light


@compiled
def _shine(r: int, stations: Array, lamps: Lamps, gloss: float, body: Array, sheen: Array) -> None:
    """Adds one ray's light to the stations."""
    lx, ly, lz = lamps.rays[r, 0], lamps.rays[r, 1], lamps.rays[r, 2]
    for q in range(len(stations)):
        x, y, z = stations[q, 0], stations[q, 1], stations[q, 2]
        seen = reaches_nearest(lamps.solid, lamps.hair, lamps.sides, lamps.rays, r, lamps.radius, x, y, z)
        if seen < 0.003:
            continue
        tx, ty, tz = stations[q, 3], stations[q, 4], stations[q, 5]
        hx, hy, hz = lx + stations[q, 9], ly + stations[q, 10], lz + stations[q, 11]
        along = tx * lx + ty * ly + tz * lz
        tilt = (tx * hx + ty * hy + tz * hz) / max(np.sqrt(hx * hx + hy * hy + hz * hz), 1e-6)
        facing = 0.5 + 0.5 * (stations[q, 6] * lx + stations[q, 7] * ly + stations[q, 8] * lz)
        weight = seen * np.sqrt(max(1.0 - along * along, 0.0)) * facing * facing
        first = max(1.0 - ((tilt + _SHIFT) / 0.26) ** 2, 0.0) ** 3
        second = max(1.0 - ((tilt - 1.5 * _SHIFT) / 0.56) ** 2, 0.0) ** 3
        for c in range(3):
            body[q, c] += lamps.colours[r, c] * weight * (0.55 + 1.1 * gloss * second)
            sheen[q, c] += lamps.colours[r, c] * weight * gloss * _SHEEN * first


@compiled
def _spread(body: Array, sheen: Array, colour: Array, stride: int, lit: Array) -> None:
    """Light of the stations (Q, 3), interpolated along the strands and coloured: fills lit (S, K, 3)."""
    strands, count = lit.shape[0], lit.shape[1]
    per_strand = (count - 1) // stride + 1
    for s in range(strands):
        for k in range(count):
            a = s * per_strand + k // stride
            b = min(a + 1, (s + 1) * per_strand - 1)
            t = (k % stride) / stride
            for c in range(3):
                all_over = body[a, c] + t * (body[b, c] - body[a, c])
                lit[s, k, c] = colour[s, k, c] * all_over + sheen[a, c] + t * (sheen[b, c] - sheen[a, c])
