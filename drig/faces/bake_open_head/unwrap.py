"""The texture's layout: the skin as one chart with a large face, and small charts for what it hides.

The skin is cut open from the neck up the back to the crown and mapped onto a rectangle by Tutte's embedding (a convex
boundary and positive weights: no triangle flips), whose weights are adapted until every region has the share of the
texture that it is worth (Yoshizawa, Belyaev, Seidel 2004).

Legend: V vertices, F triangles, U texture coordinates.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import spsolve
from scipy.spatial import cKDTree

from drig.faces.bake_open_head.source import PARTS, Source

SKIN_BOTTOM = 0.16
"""Below this v lie the small charts."""

_MARGIN = 0.008
_ROUNDS = 30
_CHARTS = {  # part -> left, bottom, right, top
    "eye_right": (0.0, 0.0, 0.15, 0.15),
    "eye_left": (0.16, 0.0, 0.31, 0.15),
    "mouth": (0.33, 0.0, 0.56, 0.15),
    "tongue": (0.57, 0.0, 0.67, 0.15),
    "teeth_upper": (0.69, 0.08, 0.85, 0.15),
    "teeth_lower": (0.69, 0.0, 0.85, 0.07),
    "socket": (0.87, 0.0, 1.0, 0.15),
}


def unwrap(source: Source) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """-> texture coordinates (U, 2) in 0..1, v up, and the triangles' corners in them (F, 3)."""
    uv_faces = np.zeros_like(source.faces)
    charts = []
    count = 0
    for index, name in enumerate(PARTS):
        rows = source.part == index
        uvs, faces = _unwrap_skin(source) if name == "skin" else _unwrap_small(source, name)
        uv_faces[rows] = faces + count
        charts.append(uvs)
        count += len(uvs)
    return np.concatenate(charts), uv_faces


def _unwrap_small(source: Source, name: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rows = source.part == PARTS.index(name)
    left, bottom, right, top = _CHARTS[name]
    if name.startswith("eye"):
        used, faces = np.unique(source.faces[rows], return_inverse=True)
        flat = _eyeball(source.vertices[used])
    else:
        flat, faces = np.unique(source.source_uvs[rows].reshape(-1, 2).round(6), axis=0, return_inverse=True)
    low, high = flat.min(0), flat.max(0)
    corner, extent = np.array([left, bottom]) + _MARGIN, np.array([right - left, top - bottom]) - 2 * _MARGIN
    return corner + (flat - low) / (high - low) * extent, faces.reshape(-1, 3)


def _eyeball(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The front half as the viewer sees it; the back half, which no one sees, on its rim."""
    centred = points - (points.min(0) + points.max(0)) / 2
    radius = np.linalg.norm(centred[:, :2], axis=1, keepdims=True)
    rim = np.abs(centred[:, :2]).max()
    behind = centred[:, 2:] < 0
    return np.asarray(np.where(behind, centred[:, :2] / np.maximum(radius, 1e-9) * rim, centred[:, :2]))


def _unwrap_skin(source: Source) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    used, faces = np.unique(source.faces[source.part == 0], return_inverse=True)
    faces = faces.reshape(-1, 3)
    points = source.vertices[used]
    loops = boundary_loops(faces)
    neck = min(loops, key=lambda loop: points[loop, 1].min())
    seam = _back_seam(points, faces, neck)
    points, faces, outline, corner_count = _cut(points, faces, neck, seam)
    border, target = _rectangle(points, outline, corner_count)
    holes = [loop for loop in loops if loop is not neck]
    lids = [np.stack([np.roll(h, -1), h, np.full(len(h), len(points) + k)], 1) for k, h in enumerate(holes)]
    closed = np.concatenate([faces, *lids])  # every hole is a fan around its middle
    filled = np.concatenate([points, [points[hole].mean(0) for hole in holes]])
    total = len(filled)
    edges = np.unique(np.sort(np.concatenate([closed[:, [0, 1]], closed[:, [1, 2]], closed[:, [2, 0]]]), 1), axis=0)
    wanted = _area(filled, closed) * _importance(filled[closed].mean(1), points[np.concatenate(holes)])
    wanted[len(faces) :] *= 0.4
    weights = np.ones(len(edges))
    for _ in range(_ROUNDS):
        uvs = _tutte(total, edges, weights, border, target)
        got = _area(np.pad(uvs, ((0, 0), (0, 1))), closed)
        ratio = (got / got.sum()) / (wanted / wanted.sum())
        crowding = np.bincount(closed.ravel(), np.repeat(np.log(ratio), 3)) / np.bincount(closed.ravel())
        weights *= np.exp(0.25 * np.clip(crowding[edges].mean(1), -1.5, 1.5))
    return uvs[: len(points)], faces


def boundary_loops(faces: NDArray[np.int64]) -> list[list[int]]:
    """The closed chains of vertices along which a mesh ends."""
    edges = {(int(a), int(b)) for f in faces for a, b in ((f[0], f[1]), (f[1], f[2]), (f[2], f[0]))}
    following = dict(sorted((a, b) for a, b in edges if (b, a) not in edges))
    loops = []
    while following:
        start, vertex = following.popitem()
        loop = [start]
        while vertex != start:
            loop.append(vertex)
            vertex = following.pop(vertex)
        loops.append(loop)
    return loops


def _back_seam(points: NDArray[np.float64], faces: NDArray[np.int64], neck: Iterable[int]) -> list[int]:
    """Vertices on the midline from the nape to the crown."""
    middle = np.abs(points[:, 0]) < 1e-6
    neighbours: dict[int, set[int]] = {}
    for f in faces:
        for a, b in ((f[0], f[1]), (f[1], f[2]), (f[2], f[0])):
            if middle[a] and middle[b]:
                neighbours.setdefault(int(a), set()).add(int(b))
                neighbours.setdefault(int(b), set()).add(int(a))
    seam = [min((v for v in neck if middle[v]), key=lambda v: points[v, 2])]
    crown = points[:, 1].max()
    while points[seam[-1], 1] < crown:
        seam.append(max(neighbours[seam[-1]] - set(seam), key=lambda v: points[v, 1]))
    return seam


def _cut(
    points: NDArray[np.float64], faces: NDArray[np.int64], neck: list[int], seam: list[int]
) -> tuple[NDArray[np.float64], NDArray[np.int64], list[int], int]:
    """Doubles the seam's vertices for the faces on the person's left.

    Returns points, faces, the outline (the neck from its left copy to its right one, up the seam and down again) and
    how many of the outline's vertices are the neck's.
    """
    copy = {vertex: len(points) + k for k, vertex in enumerate(seam[:-1])}
    faces = faces.copy()
    on_left = points[faces].mean(1)[:, 0] > 0
    faces[on_left] = np.vectorize(lambda vertex: copy.get(vertex, vertex))(faces[on_left])
    points = np.concatenate([points, points[seam[:-1]]])
    start = neck.index(seam[0])
    ring = neck[start + 1 :] + neck[:start]
    if points[ring[0], 0] > 0:
        ring = ring[::-1]
    bottom = [seam[0], *ring, copy[seam[0]]]  # from the person's right, which is the image's left
    left_side = [copy[vertex] for vertex in seam[1:-1]]
    return points, faces, bottom + left_side + [seam[-1]] + seam[-2:0:-1], len(bottom)


def _rectangle(
    points: NDArray[np.float64], outline: list[int], bottom: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where the outline goes: the neck on the lower edge, the seam on the sides and, with the crown, on the top."""
    low, high = np.array([_MARGIN, SKIN_BOTTOM + _MARGIN]), np.array([1 - _MARGIN, 1 - _MARGIN])
    width, height = high - low
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height], [0, 0]]) + low
    neck_x = low[0] + width * _arc_length(points[outline[:bottom]])
    lower = np.stack([neck_x, np.full(bottom, low[1])], 1)
    rest = [*outline[bottom - 1 :], outline[0]]
    along = _arc_length(points[rest])[1:-1] * (width + 2 * height)
    way = np.cumsum([0, height, width, height])
    upper = np.stack([np.interp(along, way, corners[1:, axis]) for axis in range(2)], 1)
    return np.array(outline), np.concatenate([lower, upper])


def _arc_length(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, 3) polyline -> (P,) share of its length up to each point."""
    length = np.append(0, np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1)))
    return np.asarray(length / length[-1])


def _tutte(
    count: int,
    edges: NDArray[np.int64],
    weights: NDArray[np.float64],
    border: NDArray[np.int64],
    target: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Every vertex at the weighted mean of its neighbours, the border fixed: (count, 2)."""
    a, b = edges.T
    half = coo_matrix((weights, (a, b)), shape=(count, count))
    graph = (half + half.T).tocsr()
    laplacian = (diags(np.asarray(graph.sum(1)).ravel()) - graph).tocsr()
    uvs = np.zeros((count, 2))
    uvs[border] = target
    inside = np.setdiff1d(np.arange(count), border)
    uvs[inside] = spsolve(laplacian[inside][:, inside].tocsc(), -(laplacian[inside][:, border] @ target))
    return uvs


def _area(points: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    a, b, c = (points[faces[:, i]] for i in range(3))
    return np.asarray(np.maximum(np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2, 1e-12))


def _importance(points: NDArray[np.float64], rims: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many times more texels than the back of the head a place deserves: the face, the eyes and the mouth do.

    points: (P, 3); rims: (R, 3) the edges of the eyelids and of the lips.
    """
    x, y, z = points.T
    face = np.exp(-(np.square(x / 0.055) + np.square((y - 0.70) / 0.07))) * (z > 0.06)
    eyes = np.exp(-(np.square((np.abs(x) - 0.031) / 0.02) + np.square((y - 0.732) / 0.016))) * (z > 0.1)
    mouth = np.exp(-(np.square(x / 0.027) + np.square((y - 0.66) / 0.014))) * (z > 0.1)
    rim = np.exp(-np.square(cKDTree(rims).query(points)[0] / 0.003))
    ears = (np.abs(x) > 0.07) & (y > 0.66)
    return np.asarray((1 + 5 * face + 10 * eyes + 6 * mouth + 20 * rim) * np.where(ears, 0.35, 1))
