"""The light that reaches what the camera sees, and what of it is sent back: linear light throughout.

A white surface that faces a lamp of colour 1 sends back 1, so that for skin picture = albedo x diffuse + gloss.

Legend: P pixels, R lamp rays.
"""

from typing import NamedTuple

import numpy as np

from drig.data.synthetic.arrays import Array, Indices, compiled
from drig.data.synthetic.shadows import reaches
from drig.data.synthetic.surfaces import GLOSS, GLOSS_ROUGH, OPEN, PLACE, REFLECTANCE, SKY, WRAP


class Lamps(NamedTuple):
    """Rays of the lamps with their shadow maps (see `shadows.ShadowMaps`)."""

    rays: Array
    colours: Array
    """(R, 3)"""
    solid: Array
    hair: Array
    sides: Array
    radius: float
    sky_above: Array
    """(3,) radiance from above, for reflections."""
    sky_below: Array
    """(3,)"""


@compiled
def shade(at: Array, answer: Array, leader: Indices, lamps: Lamps, distance: float) -> tuple[Array, Array]:
    """Diffuse light (P, 3) and gloss (P, 3) of pixels with values (P, COLUMNS) and answers (P, ANSWERS).

    leader (P,): the pixel whose light each shares. distance: of the camera from the origin, on +z.
    """
    diffuse, gloss = at[:, SKY : SKY + 3].copy(), np.zeros((len(at), 3), np.float32)
    view = np.empty((len(at), 3), np.float32)
    for p in range(len(at)):
        length = 1.0 / np.sqrt(at[p, 0] ** 2 + at[p, 1] ** 2 + (distance - at[p, 2]) ** 2)
        view[p, 0], view[p, 1], view[p, 2] = -at[p, 0] * length, -at[p, 1] * length, (distance - at[p, 2]) * length
        if leader[p] == p:
            _reflect_surroundings(at, answer, view, p, lamps, gloss)
    # A ray at a time: its maps stay in the cache.
    for r in range(len(lamps.rays)):
        _shine(r, answer, leader, view, lamps, diffuse, gloss)
    for p in range(len(at)):
        q = leader[p]
        if q != p:
            for c in range(3):
                diffuse[p, c], gloss[p, c] = diffuse[q, c], gloss[q, c]
    return diffuse, gloss


@compiled
def _shine(r: int, answer: Array, leader: Indices, view: Array, lamps: Lamps, diffuse: Array, gloss: Array) -> None:
    """Adds one ray's light to every leader."""
    lx, ly, lz = lamps.rays[r, 0], lamps.rays[r, 1], lamps.rays[r, 2]
    for p in range(len(answer)):
        cosine = answer[p, 0] * lx + answer[p, 1] * ly + answer[p, 2] * lz
        if leader[p] != p or cosine <= -answer[p, WRAP]:
            continue
        x, y, z = answer[p, PLACE], answer[p, PLACE + 1], answer[p, PLACE + 2]
        seen = reaches(lamps.solid, lamps.hair, lamps.sides, lamps.rays, r, lamps.radius, x, y, z)
        if seen <= 0.002:
            continue
        lobe = seen * _lobe(answer, view, p, lx, ly, lz)
        for c in range(3):
            wrap = 1.0 + answer[p, WRAP + c]
            diffuse[p, c] += lamps.colours[r, c] * seen * max(cosine + wrap - 1.0, 0.0) / (wrap * wrap)
            gloss[p, c] += lamps.colours[r, c] * lobe


@compiled
def _lobe(answer: Array, view: Array, p: int, lx: float, ly: float, lz: float) -> float:
    """GGX with Kelemen's visibility and Schlick's Fresnel term, times pi and the cosine."""
    vx, vy, vz = view[p, 0], view[p, 1], view[p, 2]
    nx, ny, nz = answer[p, GLOSS], answer[p, GLOSS + 1], answer[p, GLOSS + 2]
    hx, hy, hz = lx + vx, ly + vy, lz + vz
    length = 1.0 / max(np.sqrt(hx * hx + hy * hy + hz * hz), 1e-6)
    cosine = max((nx * hx + ny * hy + nz * hz) * length, 0.0)
    half = max((vx * hx + vy * hy + vz * hz) * length, 0.1)
    a2 = answer[p, GLOSS_ROUGH] ** 4
    lobe = a2 / (cosine * cosine * (a2 - 1.0) + 1.0) ** 2
    fresnel = answer[p, REFLECTANCE] + (1.0 - answer[p, REFLECTANCE]) * (1.0 - half) ** 5
    return float(lobe * fresnel / (4.0 * half * half) * max(nx * lx + ny * ly + nz * lz, 0.0))


@compiled
def _reflect_surroundings(at: Array, answer: Array, view: Array, p: int, lamps: Lamps, gloss: Array) -> None:
    vx, vy, vz = view[p, 0], view[p, 1], view[p, 2]
    facing = max(answer[p, GLOSS] * vx + answer[p, GLOSS + 1] * vy + answer[p, GLOSS + 2] * vz, 0.0)
    # Rough surfaces mirror less at grazing angles than Schlick's term says.
    grazing = 0.15 * (1.0 - answer[p, REFLECTANCE]) * (1.0 - facing) ** 5 * (1.0 - answer[p, GLOSS_ROUGH])
    above = 0.5 + 0.5 * (2.0 * facing * answer[p, GLOSS + 1] - vy)
    for c in range(3):
        surroundings = lamps.sky_below[c] + above * (lamps.sky_above[c] - lamps.sky_below[c])
        gloss[p, c] += (answer[p, REFLECTANCE] + grazing) * surroundings * at[p, OPEN]


@compiled
def gather_sky(
    points: Array,
    normals: Array,
    rays: Array,
    colours: Array,
    solid: Array,
    hair: Array,
    sides: Array,
    radius: float,
    lift: float,
) -> tuple[Array, Array]:
    """(P, 3) irradiance and (P,) openness from rays (R, 3) at points (P, 3), looked up `lift` metres above them."""
    light = np.zeros((len(points), 3), np.float32)
    openness = np.zeros(len(points), np.float32)
    reachable = np.full(len(points), 1e-6, np.float32)
    for r in range(len(rays)):
        for p in range(len(points)):
            nx, ny, nz = normals[p, 0], normals[p, 1], normals[p, 2]
            cosine = nx * rays[r, 0] + ny * rays[r, 1] + nz * rays[r, 2]
            if cosine > 0:
                x, y, z = points[p, 0] + lift * nx, points[p, 1] + lift * ny, points[p, 2] + lift * nz
                seen = cosine * reaches(solid, hair, sides, rays, r, radius, x, y, z)
                reachable[p] += cosine
                openness[p] += seen
                for c in range(3):
                    light[p, c] += colours[r, c] * seen
    for p in range(len(points)):
        openness[p] /= reachable[p]
    return light, openness
