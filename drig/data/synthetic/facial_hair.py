"""Hair of the face: brows, lashes, moustaches and beards, rooted in the skin so that they move with it.

Legend: S strands, K points of each.
"""

from dataclasses import dataclass

import numpy as np

from drig.data.synthetic.anatomy import Anatomy
from drig.data.synthetic.arrays import Array, unit, vector
from drig.data.synthetic.scatter import RootedStrands, root_strands, scatter
from drig.data.synthetic.strands import Strands
from drig.faces.ibug import MOUTH

BEARDS = ("none", "stubble", "moustache", "goatee", "short", "full")


@dataclass(frozen=True)
class Brows:
    """The shape of a pair of brows."""

    thickness: float
    """Of the middle, metres."""
    density: float
    """0..1"""
    lift: float
    """Raised, in units of the face."""


def grow_brows(anatomy: Anatomy, brows: Brows, colour: Array, rng: np.random.Generator) -> RootedStrands:
    """Short hairs along the arcs of the brow landmarks, which point up near the nose and outwards beyond."""
    near = np.zeros(len(anatomy.vertices), np.float32)
    arcs = [anatomy.landmarks[21:16:-1], anatomy.landmarks[22:27]]  # from the nose outwards
    # The landmarks lie on the brows' upper edge and go a little beyond both ends.
    drop = vector(-0.0008, -0.0022, -0.0030, -0.0022, -0.0006)[:, None] + brows.lift * anatomy.unit
    curves = [_curve(arc + drop * vector(0, 1, 0), 44)[7:39] for arc in arcs]
    for curve in curves:
        gap = np.linalg.norm(anatomy.vertices[:, None] - curve[None], axis=-1).min(1)
        near = np.maximum(near, gap < 0.012)
    roots = scatter(anatomy.vertices, anatomy.skin, near * (anatomy.normals[:, 2] > 0.1), 9000, rng)
    points, normals = roots.of(anatomy.vertices), roots.of(anatomy.normals)
    curve = np.concatenate(curves)
    index = np.linalg.norm(points[:, None, :2] - curve[None, :, :2], axis=-1).argmin(1)
    along = (index % 32) / 31
    above = points[:, 1] - curve[index, 1] - 0.0008
    half = 0.5 * brows.thickness * np.interp(along, [0, 0.12, 0.5, 0.75, 1], [0.75, 1, 1, 0.75, 0.25])
    inside = np.clip(1.35 - np.abs(above) / half, 0, 1) * np.interp(along, [0, 0.05, 0.1, 1], [0.25, 0.7, 1, 0.9])
    keep = np.flatnonzero(rng.random(len(points)) < inside * brows.density * 0.75)
    roots = roots[keep]
    points, normals, along, above, index = (x[keep] for x in (points, normals, along, above, index))
    tangents: Array = np.gradient(np.stack(curves), axis=1)
    tangent = unit(tangents.reshape(-1, 3)[index])
    up = np.interp(along, [0, 0.25, 0.6, 1], [1.3, 0.55, 0.1, -0.15]) - 90 * above
    direction = tangent + up[:, None] * vector(0, 1, 0) + 0.18 * normals + rng.normal(0, 0.16, points.shape)
    length = rng.uniform(0.0045, 0.0085, len(points)) * np.interp(along, [0, 0.3, 1], [0.9, 1, 0.75])
    strands = _short_strands(points, direction, normals, length, colour, 0.00036, 0.75, rng)
    return root_strands(roots, anatomy.vertices, anatomy.normals, strands)


def beard_density(anatomy: Anatomy, kind: str, points: Array, noise: Array, lips: Array) -> Array:
    """(S,) density in [0, 1] of a beard at points (S, 3) of skin; `lips` (S,) is 1 on them, noise has deviation 1."""
    landmarks, third = anatomy.landmarks, anatomy.unit
    azimuth, _, _ = anatomy.angles(points)
    azimuth = np.abs(azimuth)
    mouth = landmarks[MOUTH]
    corner = 0.5 * (mouth[6, 1] + mouth[0, 1])
    nose, chin = landmarks[33, 1], landmarks[8, 1]
    half = 0.5 * (mouth[6, 0] - mouth[0, 0])
    middle = 0.5 * (mouth[6, 0] + mouth[0, 0])
    side = np.abs(points[:, 0] - middle) / half
    edge = 0.05 * third
    cheek = np.interp(
        azimuth,
        [0, 20, 34, 52, 66, 78],
        [
            nose,
            nose - 0.1 * third,
            corner + 0.05 * third,
            corner + 0.3 * third,
            nose + 0.3 * third,
            nose + 0.75 * third,
        ],
    )
    below = np.clip((cheek - points[:, 1] + edge * noise) / (0.22 * third) + 0.2, 0, 1)
    throat = np.clip((points[:, 1] - (chin - 0.75 * third)) / (0.3 * third), 0, 1)
    ears = np.clip((80 - azimuth) / 6, 0, 1)
    moustache = (
        np.clip(1.28 - side, 0, 1) * 3 * (points[:, 1] > corner - 0.02 * third) * (points[:, 1] < nose - 0.02 * third)
    )
    ring = np.clip((1.25 - side) * 4 + 0.3 * noise, 0, 1) * throat * (points[:, 1] < nose - 0.02 * third)
    density = {
        "stubble": below * throat * ears,
        "short": below * throat * ears,
        "full": below * throat * ears,
        "moustache": np.clip(moustache, 0, 1),
        "goatee": np.clip(ring, 0, 1),
    }[kind]
    front = points[:, 2] > anatomy.skull[2] - 0.2 * third
    shape: Array = (np.clip(density, 0, 1) * (1 - np.clip(1.5 * lips, 0, 1)) * front).astype(np.float32)
    return shape


def grow_beard(
    anatomy: Anatomy, kind: str, lips: Array, colour: Array, rng: np.random.Generator
) -> tuple[RootedStrands, Array]:
    """The beard's strands, and how much it darkens the skin between them at each vertex (V,)."""
    noise = rng.normal(0, 1, len(anatomy.vertices)).astype(np.float32)
    density = beard_density(anatomy, kind, anatomy.vertices, noise, lips)
    count, length, spread = {
        "stubble": (5200, 0.0016, 0.5),
        "moustache": (2600, 0.009, 0.25),
        "goatee": (2800, 0.011, 0.3),
        "short": (7000, 0.008, 0.35),
        "full": (8000, 0.022, 0.35),
    }[kind]
    roots = scatter(anatomy.vertices, anatomy.skin, density, count, rng)
    points, normals = roots.of(anatomy.vertices), roots.of(anatomy.normals)
    outward = np.sign(points[:, :1]) * vector(1, 0, 0)
    direction = vector(0, -1, 0) + 0.35 * outward * (points[:, 1:2] > anatomy.landmarks[57, 1]) + 0.45 * normals
    direction = direction + rng.normal(0, spread, points.shape)
    lengths = length * rng.uniform(0.5, 1.15, len(points))
    strands = _short_strands(
        points, direction, normals, lengths, colour, 0.00038, 0.85 if kind != "stubble" else 0.5, rng
    )
    tint = {"stubble": 0.3, "moustache": 0.45, "goatee": 0.5, "short": 0.6, "full": 0.75}[kind]
    return root_strands(roots, anatomy.vertices, anatomy.normals, strands), tint * density


def _short_strands(
    points: Array,
    direction: Array,
    normals: Array,
    length: Array,
    colour: Array,
    width: float,
    opacity: float,
    rng: np.random.Generator,
) -> Strands:
    """(S, 5, 3) hairs that start in a direction and bow down to the skin."""
    count, along = len(points), np.linspace(0, 1, 5, dtype=np.float32)
    inward = np.minimum((direction * normals).sum(1, keepdims=True) - 0.12, 0)  # never into the skin
    direction = direction - inward * normals
    direction = direction / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-6)
    lift = (along * (1 - 0.5 * along))[None, :, None] * (direction * normals).sum(1)[:, None, None] * normals[:, None]
    flat = direction - (direction * normals).sum(1, keepdims=True) * normals
    path = along[None, :, None] * flat[:, None] + lift
    curve = points[:, None] + length[:, None, None] * path + 0.0002 * normals[:, None]
    own = np.exp(rng.normal(0, 0.18, (count, 1, 1)))
    tapered = np.broadcast_to(width * (1 - 0.7 * along), (count, 5)) * rng.uniform(0.7, 1.2, (count, 1))
    fade = opacity * np.clip(1.3 - along**3, 0, 1) * np.ones((count, 1))
    return Strands.of(curve, tapered, colour * own, fade, np.arange(count) // 4 * 4)


def _curve(points: Array, count: int) -> Array:
    """(count, 3) points at even steps along a polyline (P, 3)."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    where = np.linspace(0, length[-1], count)
    return np.stack([np.interp(where, length, points[:, k]) for k in range(3)], 1).astype(np.float32)
