"""Triangle meshes with texture coordinates in Wavefront's OBJ format, as head templates come."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drig.foreign.source import open_source

_LONGEST = 1 << 26  # bytes; FLAME's template has half a million


@dataclass(frozen=True, eq=False)
class Mesh:
    """The faces of a mesh, in the file's order."""

    vertices: int
    """How many points it has."""
    faces: NDArray[np.int64]
    """(F, 3) indices of points."""
    uvs: NDArray[np.float32]
    """(U, 2)"""
    uv_faces: NDArray[np.int64]
    """(F, 3) indices of texture coordinates."""


def read_obj(path: Path) -> Mesh:
    """The mesh in a file. Raises DrigError for one that is missing or damaged, or not of triangles with UVs."""
    with open_source(path) as source:
        if source.size > _LONGEST:
            raise ValueError(f"a mesh of {source.size:,} bytes")
        lines = [line.split() for line in source.read(source.size).decode().splitlines()]
        vertices = sum(words[:1] == ["v"] for words in lines)
        uvs = np.array([words[1:3] for words in lines if words[:1] == ["vt"]], np.float32).reshape(-1, 2)
        corners = np.array([_corners(words) for words in lines if words[:1] == ["f"]], np.int64).reshape(-1, 3, 2) - 1
        for indices, count, what in ((corners[..., 0], vertices, "points"), (corners[..., 1], len(uvs), "UVs")):
            if not len(indices) or indices.min() < 0 or indices.max() >= count:
                raise ValueError(f"faces of {what} that are not in the file")
        if not np.isfinite(uvs).all():
            raise ValueError("UVs that are no numbers")
        return Mesh(vertices, corners[..., 0], uvs, corners[..., 1])


def _corners(words: list[str]) -> list[list[int]]:
    """Point and UV of each corner of `f v/vt v/vt v/vt`, counted from 1."""
    corners = [[int(index) for index in word.split("/")[:2]] for word in words[1:]]
    if len(corners) != 3 or any(len(corner) != 2 for corner in corners):
        raise ValueError("a face that is no triangle with UVs")
    return corners
