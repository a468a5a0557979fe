"""Points spread over a triangle mesh, and strands that stay rooted in it however the face moves."""

from dataclasses import dataclass

import numpy as np

from drig.data.synthetic.arrays import Array, Indices, Mask, unit
from drig.data.synthetic.strands import Strands


@dataclass(frozen=True, eq=False)
class Roots:
    """S points on a mesh."""

    corners: Indices
    """(S, 3) vertices of the faces they lie on."""
    bary: Array
    """(S, 3)"""

    def __len__(self) -> int:
        return len(self.corners)

    def __getitem__(self, chosen: Indices | Mask) -> "Roots":
        return Roots(self.corners[chosen], self.bary[chosen])

    def of(self, values: Array) -> Array:
        """Values of the vertices (V, ...) -> values at the points (S, ...)."""
        mixed: Array = np.einsum("sk,sk...->s...", self.bary, values[self.corners])
        return mixed

    def frames(self, vertices: Array, normals: Array) -> Array:
        """(S, 3, 3) axes at the points, as rows: along the face's first edge, across it, and the normal."""
        normal = unit(self.of(normals))
        edge = vertices[self.corners[:, 1]] - vertices[self.corners[:, 0]]
        along = unit(edge - (edge * normal).sum(1, keepdims=True) * normal)
        return np.stack([along, np.cross(normal, along), normal], 1).astype(np.float32)


def scatter(vertices: Array, faces: Indices, density: Array, count: int, rng: np.random.Generator) -> Roots:
    """`count` points on a mesh (V, 3), (F, 3), as dense as `density` (V,) says; fewer if that is nearly all zero."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    weight = np.linalg.norm(np.cross(b - a, c - a), axis=1) * density[faces].max(1)
    if weight.sum() <= 0:
        return Roots(np.zeros((0, 3), np.int64), np.zeros((0, 3), np.float32))
    cumulative = np.cumsum(weight)
    tries = rng.random(2 * count) * cumulative[-1]
    face = np.minimum(np.searchsorted(cumulative, tries), len(faces) - 1)
    u, v = np.sqrt(rng.random(2 * count)), rng.random(2 * count)
    bary = np.stack([1 - u, u * (1 - v), u * v], 1).astype(np.float32)
    roots = Roots(faces[face], bary)
    share = roots.of(density) / np.maximum(density[faces[face]].max(1), 1e-9)
    return roots[np.flatnonzero(rng.random(2 * count) < share)[:count]]


@dataclass(frozen=True, eq=False)
class RootedStrands:
    """Strands that follow the face: brows, lashes, beards."""

    roots: Roots
    local: Array
    """(S, K, 3) points in the frame of their root."""
    strands: Strands
    """Width, colour and opacity; its points are those at rest."""

    def posed(self, vertices: Array, normals: Array) -> Strands:
        """The strands on a moved mesh (V, 3) with vertex normals (V, 3)."""
        frames = self.roots.frames(vertices, normals)
        return self.strands.moved(self.roots.of(vertices)[:, None] + self.local @ frames)


def root_strands(roots: Roots, vertices: Array, normals: Array, strands: Strands) -> RootedStrands:
    """Strands, grown from `roots` on the mesh at rest, bound to it."""
    frames = roots.frames(vertices, normals)
    offset = strands.points - roots.of(vertices)[:, None]
    return RootedStrands(roots, offset @ frames.transpose(0, 2, 1), strands)
