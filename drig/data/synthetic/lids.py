"""The edges of the eyelids, and the lashes on them.

Legend: L points of a lid's edge from the inner to the outer corner, S lashes, K points of each.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np

from drig.data.synthetic.arrays import Array, Indices, Mask, unit, vector
from drig.data.synthetic.strands import Strands, join

_LASH_POINTS = 5
_COLOUR = vector(0.012, 0.009, 0.008)


@dataclass(frozen=True, eq=False)
class Lids:
    """Vertices of the mesh along the lids' edges; the first of each pair is the person's right eye."""

    upper: tuple[Indices, Indices]
    lower: tuple[Indices, Indices]


def find_lids(vertices: Array, faces: Indices, skin: Mask, sockets: Mask) -> Lids:
    """The lids' edges of a head at rest: where the skin's faces (F,) meet those of the eye sockets (F,)."""
    edge = np.intersect1d(faces[skin], faces[sockets])
    pairs = [_split(vertices, edge[(vertices[edge, 0] * side) > 0]) for side in (-1, 1)]
    return Lids(upper=(pairs[0][0], pairs[1][0]), lower=(pairs[0][1], pairs[1][1]))


def _split(vertices: Array, ring: Indices) -> tuple[Indices, Indices]:
    """A closed ring of vertices -> its upper and lower half, each from the nose outwards, corners included."""
    out = np.abs(vertices[ring, 0])
    inner, outer = ring[out.argmin()], ring[out.argmax()]
    share = (out - out.min()) / (out.max() - out.min())
    chord = vertices[inner, 1] + share * (vertices[outer, 1] - vertices[inner, 1])
    above = vertices[ring, 1] > chord
    halves = []
    for half in (above, ~above):
        chosen = np.union1d(ring[half], [inner, outer])
        halves.append(chosen[np.argsort(np.abs(vertices[chosen, 0]))])
    return halves[0], halves[1]


def lashes(vertices: Array, normals: Array, lids: Lids, length: float, rng: np.random.Generator) -> Strands:
    """Upper and lower lashes and the dark line at their roots on a posed head. length: of the upper ones, metres."""
    pieces = []
    for side in (0, 1):
        gap = vertices[lids.upper[side]].mean(0) - vertices[lids.lower[side]].mean(0)
        width = np.linalg.norm(vertices[lids.upper[side][0]] - vertices[lids.upper[side][-1]])
        closed = float(np.clip(1 - np.linalg.norm(gap) / (0.1 * width), 0, 1))  # closed lids turn their lashes down
        for edge, size, count, opacity in (
            (lids.upper[side], length, 46, 0.85),
            (lids.lower[side], 0.4 * length, 22, 0.4),
        ):
            pieces.append(
                _fan(vertices, normals, edge, size, count, opacity, closed, up=edge is lids.upper[side], rng=rng)
            )
            pieces.append(_line(vertices, normals, edge, 0.0011 if edge is lids.upper[side] else 0.0006, 0.8 * opacity))
    return reduce(join, pieces)


def _fan(
    vertices: Array,
    normals: Array,
    edge: Indices,
    length: float,
    count: int,
    opacity: float,
    closed: float,
    *,
    up: bool,
    rng: np.random.Generator,
) -> Strands:
    """Lashes along an edge: outwards from the eye, fanned sideways, the upper ones bent up."""
    along = np.sort(rng.uniform(0.06, 0.98, count))
    root = _sample(vertices[edge], along)
    normal = _sample(normals[edge], along)
    sideways = unit(vertices[edge[-1]] - vertices[edge[0]])
    # Outwards is forwards: the edge's own normals point every way.
    forward = _forward(vertices, edge)
    lift = vector(0, 0.22 if up else -0.45, 0) - vector(0, 0.6, 0) * closed * up
    towards = forward + 0.2 * normal + (along[:, None] - 0.4) * 0.9 * sideways + lift + rng.normal(0, 0.07, root.shape)
    towards = unit(towards).astype(np.float64)
    t = np.linspace(0, 1, _LASH_POINTS)[None, :, None]
    bend = vector(0, 0.55 if up else -0.2, 0) * t**2
    size = (
        length
        * rng.uniform(0.7, 1.1, (count, 1, 1))
        * np.interp(along, [0, 0.3, 0.8, 1], [0.5, 0.85, 1.1, 0.9])[:, None, None]
    )
    points = root[:, None] + size * (towards[:, None] * t + bend)
    width = 0.00034 * (1 - 0.8 * t[..., 0]) * np.ones((count, 1))
    return _dark(points, width, opacity * (1.05 - t[..., 0] ** 2) * np.ones((count, 1)))


def _forward(vertices: Array, edge: Indices) -> Array:
    """(3,) unit vector out of the eye: across its corners, and level with the head as far as a lid can tell."""
    across = vertices[edge[-1]] - vertices[edge[0]]
    ahead = vector(0, 0, 1) - across * across[2] / (across @ across)
    return unit(ahead)


def _line(vertices: Array, normals: Array, edge: Indices, width: float, opacity: float) -> Strands:
    """One dark strand along the edge, cut into pieces of K points."""
    curve = _sample(vertices[edge] + 0.0006 * normals[edge], np.linspace(0, 1, 4 * (_LASH_POINTS - 1) + 1))
    pieces = np.stack([curve[i : i + _LASH_POINTS] for i in range(0, len(curve) - 1, _LASH_POINTS - 1)])
    along = np.linspace(0, 1, len(curve))
    thin = np.stack([along[i : i + _LASH_POINTS] for i in range(0, len(curve) - 1, _LASH_POINTS - 1)])
    return _dark(pieces, width * np.interp(thin, [0, 0.3, 0.9, 1], [0.4, 0.9, 1, 0.7]), opacity * np.ones_like(thin))


def _dark(points: Array, width: Array, opacity: Array) -> Strands:
    return Strands.of(points, width, _COLOUR, opacity, np.arange(len(points)) // 4 * 4)


def _sample(polyline: Array, along: Array) -> Array:
    """Points at shares 0..1 of a polyline (L, 3) -> (S, 3)."""
    where = along * (len(polyline) - 1)
    low = np.minimum(where.astype(int), len(polyline) - 2)
    share = (where - low)[:, None].astype(np.float32)
    mixed: Array = polyline[low] * (1 - share) + polyline[low + 1] * share
    return mixed
