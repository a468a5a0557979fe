"""Who stands in whose light: a depth map for every ray of a light, and what of the ray gets to a point.

Solid surfaces stop a ray; hair thins it out with the thickness of hair passed (deep opacity maps, Yuksel and Keyser
2008). Everything is seen through a window about the origin.

Legend: R rays, M side of a map, V vertices, F faces, P points.
"""

from dataclasses import dataclass

import numpy as np

from drig.data.synthetic.arrays import Array, Indices, compiled, unit, vector

_LAYERS = (0.005, 0.015, 0.04, 0.16)
"""Depths in metres behind the first hair at which the thickness of hair is kept; the last layer holds all of it."""
_HAIR_MAP = 64  # side of the hair's maps in texels: coarse, since few of the strands stand for all
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
    """(R, M, M) distance to the first surface, along the ray from the plane through the origin."""
    hair: Array
    """(R, M', M', 5): distance to the first hair, then the optical thickness behind it within _LAYERS, and in all."""
    radius: float
    """Half the side of the maps, in metres about the origin."""


def cast(
    vertices: Array, faces: Indices, hair: Array, area: Array, rays: Array, size: int, radius: float
) -> ShadowMaps:
    """Shadow maps of a mesh (V, 3), (F, 3) and of hair points (P, 3), each of which covers `area` (P,) m^2 of a ray."""
    up = np.where(np.abs(rays[:, 1:2]) < 0.9, vector(0, 1, 0), vector(1, 0, 0))
    side = unit(np.cross(up, rays))
    sides = np.stack([side, np.cross(rays, side)], 1).astype(np.float32)
    frames = np.concatenate([sides, -rays[:, None]], 1)  # (R, 3, 3) to column and row from the middle, and depth
    solid = np.full((len(rays), size, size), _FAR, np.float32)
    layers = np.zeros((len(rays), _HAIR_MAP, _HAIR_MAP, 5), np.float32)
    layers[..., 0] = _FAR
    for r, frame in enumerate(frames):
        _draw_solid(vertices @ (frame * _in_texels(size, radius)).T, faces, solid[r])
        if len(hair):
            texel = _HAIR_MAP / (2 * radius)
            _draw_hair(hair, frame * _in_texels(_HAIR_MAP, radius), area * np.float32(texel**2), layers[r])
    return ShadowMaps(rays, sides, solid, layers, radius)


def _in_texels(size: int, radius: float) -> Array:
    return np.array([[size / (2 * radius)], [size / (2 * radius)], [1]], np.float32)


@compiled
def _draw_solid(points: Array, faces: Indices, depth: Array) -> None:
    size = depth.shape[0]
    half = 0.5 * size - 0.5
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay = points[a, 0] + half, points[a, 1] + half
        bx, by = points[b, 0] + half, points[b, 1] + half
        cx, cy = points[c, 0] + half, points[c, 1] + half
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


@compiled
def _draw_hair(points: Array, frame: Array, thickness: Array, layers: Array) -> None:
    """Spreads each point over four texels: the strands that cast shadows stand for several, which lie around them."""
    size = layers.shape[0]
    half = 0.5 * size - 0.5
    placed = np.empty((len(points), 3), np.float32)
    for p in range(len(points)):
        for k in range(3):
            placed[p, k] = frame[k, 0] * points[p, 0] + frame[k, 1] * points[p, 1] + frame[k, 2] * points[p, 2]
    _draw_hair_front(placed, layers)
    for p in range(len(points)):
        x, y = placed[p, 0] + half, placed[p, 1] + half
        if not (0.0 <= x < size - 1.0 and 0.0 <= y < size - 1.0):
            continue
        j, i = int(x), int(y)
        for di in range(2):
            for dj in range(2):
                tau = (y - i if di else 1.0 - y + i) * (x - j if dj else 1.0 - x + j) * thickness[p]
                behind = placed[p, 2] - layers[i + di, j + dj, 0]
                for k in range(3):
                    if behind < _LAYERS[k]:
                        layers[i + di, j + dj, k + 1] += tau
                layers[i + di, j + dj, 4] += tau


@compiled
def _draw_hair_front(placed: Array, layers: Array) -> None:
    """Depth of the first hair in each texel or beside it."""
    size = layers.shape[0]
    front = np.full((size, size), _FAR, np.float32)
    for p in range(len(placed)):
        j, i = int(placed[p, 0] + 0.5 * size), int(placed[p, 1] + 0.5 * size)
        if 0 <= i < size and 0 <= j < size and placed[p, 2] < front[i, j]:
            front[i, j] = placed[p, 2]
    across = front.copy()
    for i in range(size):
        for j in range(1, size - 1):
            across[i, j] = min(front[i, j - 1], front[i, j], front[i, j + 1])
    for i in range(1, size - 1):
        for j in range(size):
            layers[i, j, 0] = min(across[i - 1, j], across[i, j], across[i + 1, j])


@compiled
def _through_hair(layers: Array, r: int, i: int, j: int, z: float) -> float:
    """Share of ray r that passes the hair in front of depth z, at texel (i, j) of layers (R, M', M', 5)."""
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


@compiled
def reaches(
    solid: Array, layers: Array, sides: Array, rays: Array, r: int, radius: float, x: float, y: float, z: float
) -> float:
    """Share in [0, 1] of ray r that gets to the point (x, y, z); the arrays are those of ShadowMaps."""
    size = solid.shape[1]
    u = (sides[r, 0, 0] * x + sides[r, 0, 1] * y + sides[r, 0, 2] * z) / (2.0 * radius) + 0.5
    v = (sides[r, 1, 0] * x + sides[r, 1, 1] * y + sides[r, 1, 2] * z) / (2.0 * radius) + 0.5
    column, row = u * size - 0.5, v * size - 0.5
    if not (0.0 <= column < size - 1.0 and 0.0 <= row < size - 1.0):
        return 1.0
    depth = -(rays[r, 0] * x + rays[r, 1] * y + rays[r, 2] * z)
    j, i = int(column), int(row)
    fu, fv = column - j, row - i
    edge = depth - _BIAS - _SOFT
    light = (1.0 - fv) * (1.0 - fu) * min(max(solid[r, i, j] - edge, 0.0), _SOFT)
    light += (1.0 - fv) * fu * min(max(solid[r, i, j + 1] - edge, 0.0), _SOFT)
    light += fv * (1.0 - fu) * min(max(solid[r, i + 1, j] - edge, 0.0), _SOFT)
    light += fv * fu * min(max(solid[r, i + 1, j + 1] - edge, 0.0), _SOFT)
    if light <= 0.0:
        return 0.0
    return float(light / _SOFT * _hair_between(layers, r, u, v, depth))


@compiled
def _hair_between(layers: Array, r: int, u: float, v: float, depth: float) -> float:
    """Share of ray r that passes the hair in front of a depth, at (u, v) in 0..1 of its map."""
    size = layers.shape[1]
    column, row = min(max(u * size - 0.5, 0.0), size - 1.001), min(max(v * size - 0.5, 0.0), size - 1.001)
    j, i = int(column), int(row)
    fu, fv = column - j, row - i
    total = (1.0 - fv) * (1.0 - fu) * _through_hair(layers, r, i, j, depth)
    total += (1.0 - fv) * fu * _through_hair(layers, r, i, j + 1, depth)
    total += fv * (1.0 - fu) * _through_hair(layers, r, i + 1, j, depth)
    return float(total + fv * fu * _through_hair(layers, r, i + 1, j + 1, depth))


@compiled
def reaches_nearest(
    solid: Array, layers: Array, sides: Array, rays: Array, r: int, radius: float, x: float, y: float, z: float
) -> float:
    """`reaches` from the nearest texels alone, for points as many and as thin as those of hair."""
    size, coarse = solid.shape[1], layers.shape[1]
    u = (sides[r, 0, 0] * x + sides[r, 0, 1] * y + sides[r, 0, 2] * z) / (2.0 * radius) + 0.5
    v = (sides[r, 1, 0] * x + sides[r, 1, 1] * y + sides[r, 1, 2] * z) / (2.0 * radius) + 0.5
    if not (0.0 <= u < 1.0 and 0.0 <= v < 1.0):
        return 1.0
    depth = -(rays[r, 0] * x + rays[r, 1] * y + rays[r, 2] * z)
    free = solid[r, int(v * size), int(u * size)] - depth + _BIAS + _SOFT
    if free <= 0.0:
        return 0.0
    return float(min(free / _SOFT, 1.0) * _through_hair(layers, r, int(v * coarse), int(u * coarse), depth))
