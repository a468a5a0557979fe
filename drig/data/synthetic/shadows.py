"""Who stands in whose light: a depth map for every ray of a light, and what of the ray gets to a point.

Solid surfaces stop a ray; hair thins it out with the thickness of hair passed (deep opacity maps, Yuksel and Keyser
2008). Everything is seen through a window of `radius` metres about `centre`.

Legend: R rays, M side of a map, V vertices, F faces, P points.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from drig.data.synthetic.arrays import Array, Indices, vector

_LAYERS = (0.005, 0.015, 0.04, 0.16)
"""Depths in metres behind the first hair at which the thickness of hair is kept; the last layer holds all of it."""
_BIAS = 0.004  # metres: surfaces do not shade themselves through the coarseness of the maps
_SOFT = 0.006  # metres over which a solid shadow comes in
_FAR = np.float32(1e3)


@dataclass(frozen=True, eq=False)
class ShadowMaps:
    """What R rays meet first, and how much hair."""

    rays: Array
    """(R, 3) unit vectors towards the light."""
    sides: Array
    """(R, 2, 3) the axes of each map's rows and columns."""
    solid: Array
    """(R, M, M) distance to the first surface, along the ray from the window's centre plane."""
    hair: Array
    """(R, M, M, 5): distance to the first hair, then the optical thickness behind it within _LAYERS, and in all."""
    centre: Array
    """(3,)"""
    radius: float


def cast(
    vertices: Array, faces: Indices, hair: Array, thickness: Array, rays: Array, size: int, radius: float
) -> ShadowMaps:
    """Shadow maps of a mesh (V, 3), (F, 3) and of hair points (P, 3), each of `thickness` (P,) m^2 across the ray."""
    centre = np.zeros(3, np.float32)
    up = np.where(np.abs(rays[:, 1:2]) < 0.9, vector(0, 1, 0), vector(1, 0, 0))
    side = np.cross(up, rays)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    sides = np.stack([side, np.cross(rays, side)], 1).astype(np.float32)
    solid = np.full((len(rays), size, size), _FAR, np.float32)
    layers = np.zeros((len(rays), size, size, 5), np.float32)
    layers[..., 0] = _FAR
    for r in range(len(rays)):
        frame = np.concatenate([sides[r], -rays[r : r + 1]]).astype(np.float32)
        texel = size / (2 * radius)
        _draw_solid((vertices - centre) @ frame.T, faces, texel, solid[r])
        if len(hair):
            _draw_hair((hair - centre) @ frame.T, thickness, texel, layers[r])
    return ShadowMaps(rays, sides, solid, layers, centre, radius)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _draw_solid(points: Array, faces: Indices, texel: float, depth: Array) -> None:
    size = depth.shape[0]
    half = 0.5 * size - 0.5
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay = points[a, 0] * texel + half, points[a, 1] * texel + half
        bx, by = points[b, 0] * texel + half, points[b, 1] * texel + half
        cx, cy = points[c, 0] * texel + half, points[c, 1] * texel + half
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area <= 1e-9:  # turned away from the light
            continue
        left, right = int(max(np.ceil(min(ax, bx, cx)), 0.0)), int(min(np.floor(max(ax, bx, cx)), size - 1.0))
        top, bottom = int(max(np.ceil(min(ay, by, cy)), 0.0)), int(min(np.floor(max(ay, by, cy)), size - 1.0))
        az, bz, cz = points[a, 2], points[b, 2], points[c, 2]
        for i in range(top, bottom + 1):
            for j in range(left, right + 1):
                u = ((bx - j) * (cy - i) - (cx - j) * (by - i)) / area
                v = ((cx - j) * (ay - i) - (ax - j) * (cy - i)) / area
                w = 1.0 - u - v
                if u >= -1e-4 and v >= -1e-4 and w >= -1e-4:
                    z = u * az + v * bz + w * cz
                    if z < depth[i, j]:
                        depth[i, j] = z


@njit(cache=True, nogil=True, fastmath=True)
def _draw_hair(points: Array, thickness: Array, texel: float, layers: Array) -> None:
    """Spreads each point over four texels: the strands that cast shadows stand for several, which lie around them."""
    size = layers.shape[0]
    half = 0.5 * size - 0.5
    _draw_hair_front(points, texel, layers)
    for p in range(len(points)):
        x, y = points[p, 0] * texel + half, points[p, 1] * texel + half
        if not (0.0 <= x < size - 1.0 and 0.0 <= y < size - 1.0):
            continue
        j, i = int(x), int(y)
        for di in range(2):
            for dj in range(2):
                weight = (y - i if di else 1.0 - y + i) * (x - j if dj else 1.0 - x + j)
                tau = weight * thickness[p] * texel * texel
                behind = points[p, 2] - layers[i + di, j + dj, 0]
                for k in range(3):
                    if behind < _LAYERS[k]:
                        layers[i + di, j + dj, k + 1] += tau
                layers[i + di, j + dj, 4] += tau


@njit(cache=True, nogil=True, fastmath=True)
def _draw_hair_front(points: Array, texel: float, layers: Array) -> None:
    """Depth of the first hair in each texel or beside it."""
    size = layers.shape[0]
    front = np.full((size, size), _FAR, np.float32)
    for p in range(len(points)):
        j, i = int(points[p, 0] * texel + 0.5 * size), int(points[p, 1] * texel + 0.5 * size)
        if 0 <= i < size and 0 <= j < size and points[p, 2] < front[i, j]:
            front[i, j] = points[p, 2]
    for i in range(size):
        for j in range(size):
            nearest = front[i, j]
            for a in range(max(i - 1, 0), min(i + 2, size)):
                for b in range(max(j - 1, 0), min(j + 2, size)):
                    nearest = min(nearest, front[a, b])
            layers[i, j, 0] = nearest


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _through_hair(layers: Array, r: int, i: int, j: int, z: float) -> float:
    """Share of ray r that passes the hair in front of depth z, at texel (i, j) of layers (R, M, M, 5)."""
    behind = z - layers[r, i, j, 0]
    if behind <= 0.0:
        return 1.0
    before, tau = 0.0, 0.0
    reach = behind  # the end of the layer that z lies in
    following = 0.0
    if behind < _LAYERS[0]:
        reach, following = _LAYERS[0], layers[r, i, j, 1]
    elif behind < _LAYERS[1]:
        before, tau, reach, following = _LAYERS[0], layers[r, i, j, 1], _LAYERS[1], layers[r, i, j, 2]
    elif behind < _LAYERS[2]:
        before, tau, reach, following = _LAYERS[1], layers[r, i, j, 2], _LAYERS[2], layers[r, i, j, 3]
    else:
        before, tau, reach, following = _LAYERS[2], layers[r, i, j, 3], _LAYERS[3], layers[r, i, j, 4]
    tau += min((behind - before) / (reach - before), 1.0) * (following - tau)
    return float(1.0 / (1.0 + tau * (1.0 + tau * (0.5 + tau * 0.22))))  # exp(-tau), nearly


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def reaches(
    solid: Array, layers: Array, sides: Array, rays: Array, r: int, radius: float, x: float, y: float, z: float
) -> float:
    """Share in [0, 1] of ray r that gets to the point (x, y, z); the arrays are those of ShadowMaps."""
    size = solid.shape[1]
    texel = size / (2.0 * radius)
    u = (sides[r, 0, 0] * x + sides[r, 0, 1] * y + sides[r, 0, 2] * z) * texel + 0.5 * size - 0.5
    v = (sides[r, 1, 0] * x + sides[r, 1, 1] * y + sides[r, 1, 2] * z) * texel + 0.5 * size - 0.5
    if not (0.0 <= u < size - 1.0 and 0.0 <= v < size - 1.0):
        return 1.0
    depth = -(rays[r, 0] * x + rays[r, 1] * y + rays[r, 2] * z)
    j, i = int(u), int(v)
    fu, fv = u - j, v - i
    edge = depth - _BIAS - _SOFT
    total = 0.0
    for di in range(2):
        for dj in range(2):
            free = solid[r, i + di, j + dj] - edge
            if free > 0.0:
                weight = (fv if di else 1.0 - fv) * (fu if dj else 1.0 - fu) * min(free / _SOFT, 1.0)
                total += weight * _through_hair(layers, r, i + di, j + dj, depth)
    return float(total)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def reaches_nearest(
    solid: Array, layers: Array, sides: Array, rays: Array, r: int, radius: float, x: float, y: float, z: float
) -> float:
    """`reaches` from the nearest texel alone, for points as many and as thin as those of hair."""
    size = solid.shape[1]
    texel = size / (2.0 * radius)
    u = (sides[r, 0, 0] * x + sides[r, 0, 1] * y + sides[r, 0, 2] * z) * texel + 0.5 * size
    v = (sides[r, 1, 0] * x + sides[r, 1, 1] * y + sides[r, 1, 2] * z) * texel + 0.5 * size
    if not (0.0 <= u < size and 0.0 <= v < size):
        return 1.0
    depth = -(rays[r, 0] * x + rays[r, 1] * y + rays[r, 2] * z)
    j, i = int(u), int(v)
    free = solid[r, i, j] - depth + _BIAS + _SOFT
    if free <= 0.0:
        return 0.0
    return float(min(free / _SOFT, 1.0) * _through_hair(layers, r, i, j, depth))
