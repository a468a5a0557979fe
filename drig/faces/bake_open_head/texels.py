"""Where on the head each texel lies, and the regions that anatomy gives: what `paint` colours.

Positions are in metres on MakeHuman's base mesh (its eyes are at y = 0.728, x = +-0.031; x to the person's left, y up,
z forward). Legend: T texture size.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates
from scipy.spatial import cKDTree

from drig.faces.bake_open_head.source import PARTS, Source
from drig.faces.rasterizer import rasterize_numba

Image = NDArray[np.float64]  # (T, T)

EYE = np.array([0.0308, 0.7284])
EYE_DEPTH, IRIS_RADIUS, PUPIL_RADIUS = 0.1245, 0.0060, 0.0025


@dataclass(frozen=True, eq=False)
class Texels:
    """What each texel shows; the empty ones show what their nearest neighbour does, so that nothing bleeds."""

    position: NDArray[np.float64]
    """(T, T, 3)"""
    part: NDArray[np.int64]
    """(T, T) index into PARTS."""
    masks: NDArray[np.float64]
    """(3, T, T) MakeHuman's lips, eyelids, ears, in 0..1."""
    lid_distance: Image
    """Metres to the inner edge of the eyelids."""

    def on(self, *parts: str) -> Image:
        return np.isin(self.part, [PARTS.index(part) for part in parts]).astype(float)


def read_texels(source: Source, uvs: NDArray[np.float64], uv_faces: NDArray[np.int64], size: int) -> Texels:
    """Draws the mesh into its own texture."""
    depth = np.zeros(len(uvs))  # the front of an eyeball covers its back, which shares its chart
    depth[uv_faces] = -source.vertices[source.faces, 2]
    flat = np.stack([2 * uvs[:, 0] - 1, 1 - 2 * uvs[:, 1], depth], 1)
    seen = rasterize_numba(torch.from_numpy(flat)[None], torch.from_numpy(uv_faces), size)
    face, bary = seen.face[0].numpy(), seen.bary[0].numpy().astype(float)
    nearest = distance_transform_edt(face < 0, return_distances=False, return_indices=True)
    face, bary = face[tuple(nearest)], bary[tuple(nearest)]
    position = np.einsum("ijk,ijkc->ijc", bary, source.vertices[source.faces[face]])
    source_uv = np.einsum("ijk,ijkc->ijc", bary, source.source_uvs[face])
    side = source.mask_images.shape[1]
    place = [(1 - source_uv[..., 1]) * side - 0.5, source_uv[..., 0] * side - 0.5]
    masks = np.stack([map_coordinates(image / 255, place, order=1, mode="nearest") for image in source.mask_images])
    part = source.part[face]
    masks *= part == PARTS.index("skin")
    lids = np.intersect1d(source.faces[source.part == 0], source.faces[source.part == PARTS.index("socket")])
    gaps, _ = cKDTree(_along_edges(source, lids)).query(position)
    return Texels(position, part, masks, np.asarray(gaps))


def _along_edges(source: Source, vertices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Points every eighth of the edges between these vertices, (P, 3)."""
    edges = np.concatenate([source.faces[:, [0, 1]], source.faces[:, [1, 2]], source.faces[:, [2, 0]]])
    start, end = (source.vertices[edges[np.isin(edges, vertices).all(1), side]] for side in (0, 1))
    return np.concatenate([start + t * (end - start) for t in np.linspace(0, 1, 9)])


def regions(texels: Texels) -> dict[str, Image]:
    """Soft masks in 0..1; they may overlap (a moustache lies on skin)."""
    lips, _, ears = texels.masks
    x, y, z = np.moveaxis(texels.position, -1, 0)
    side = np.abs(x)
    skin = texels.on("skin")
    eyes = texels.on("eye_left", "eye_right")
    off_axis = np.hypot(side - EYE[0] - 0.0004, y - EYE[1] - 0.0003) + (z < EYE_DEPTH)
    iris, pupil = (step(radius - off_axis, 0.0006) * eyes for radius in (IRIS_RADIUS, PUPIL_RADIUS))
    face = skin * (1 - ears)
    lit = step(z - 0.118, 0.016)  # how far light reaches into the mouth
    scalp = _scalp(x, y, z) * face
    beard, moustache = _beard(side, y, z), _moustache(side, y, z)
    return {
        "skin": skin * (1 - lips),
        "lips": lips,
        "brows": _brows(side, y, z) * face,
        "lashes": _lashes(side, y, texels.lid_distance) * skin,
        "eyelids": np.exp(-np.square(texels.lid_distance / 0.006)) * skin,
        "under_eyes": _blob(side, y, (0.029, 0.7165), (0.014, 0.006)) * face * (z > 0.1),
        "cheeks": _blob(side, y, (0.043, 0.692), (0.017, 0.016)) * face * (z > 0.07),
        "nose": _blob(side, y, (0.0, 0.690), (0.016, 0.014)) * face * (z > 0.13),
        "ears": ears,
        "scalp": scalp,
        "beard": beard * face * (1 - lips) * (1 - scalp),
        "moustache": moustache * face * (1 - lips),
        "neck": step(0.612 + 0.25 * np.maximum(0.11 - z, 0) - y, 0.01) * skin,
        "sclera": eyes - iris,
        "iris": iris - pupil,
        "pupil": pupil,
        "sockets": texels.on("socket"),
        "mouth": texels.on("mouth", "teeth_upper", "teeth_lower", "tongue"),
        "teeth": texels.on("teeth_upper", "teeth_lower") * lit,
        "tongue": texels.on("tongue") * lit,
    }


def step(distance: Image, softness: float) -> Image:
    """0 below -softness, 1 above +softness, smooth between."""
    t = np.clip(distance / (2 * softness) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _blob(side: Image, y: Image, centre: tuple[float, float], radius: tuple[float, float]) -> Image:
    return np.asarray(np.exp(-np.square((side - centre[0]) / radius[0]) - np.square((y - centre[1]) / radius[1])))


def _lashes(side: Image, y: Image, lid_distance: Image) -> Image:
    """The front edge of the lids, which are 4 mm thick; the upper lashes more than the lower."""
    off_centre = np.abs(side - EYE[0])
    edge = 0.0047 - 0.0010 * np.square(off_centre / 0.012)
    return step(edge - lid_distance, 0.0005) * step(0.0125 - off_centre, 0.002) * (0.2 + 0.8 * step(y - EYE[1], 0.002))


def _brows(side: Image, y: Image, z: Image) -> Image:
    """A band along the brow ridge, thickest in its inner half."""
    across = np.array([0.010, 0.020, 0.030, 0.039, 0.047, 0.053])
    height = np.interp(side, across, [0.7448, 0.7477, 0.7498, 0.7503, 0.7478, 0.7440])
    half = np.interp(side, across, [0.0022, 0.0033, 0.0033, 0.0027, 0.0018, 0.0006])
    ends = step(side - 0.011, 0.003) * step(0.053 - side, 0.003)
    return step(half - np.abs(y - height), 0.0022) * ends * (z > 0.08)


def _scalp(x: Image, y: Image, z: Image) -> Image:
    """Above the hairline: high on the forehead, down in front of the ear, low on the nape."""
    turn = np.degrees(np.arctan2(np.abs(x), z - 0.05))  # 0 to the front, 180 to the back
    line = np.interp(
        turn, [0, 25, 45, 58, 70, 88, 100, 125, 180], [0.801, 0.802, 0.793, 0.775, 0.757, 0.718, 0.712, 0.675, 0.652]
    )
    return step(y - line, 0.007)


def _beard(side: Image, y: Image, z: Image) -> Image:
    """Jaw and chin up to a line from the sideburns to the corners of the mouth, and the upper neck."""
    across = [0.0, 0.016, 0.027, 0.040, 0.055, 0.066, 0.072]
    top = np.interp(side, across, [0.6500, 0.6525, 0.659, 0.664, 0.676, 0.700, 0.735])
    return step(top - y, 0.009) * step(z - 0.045, 0.012) * step(y - 0.590 - 0.3 * np.maximum(0.1 - z, 0), 0.012)


def _moustache(side: Image, y: Image, z: Image) -> Image:
    height = np.interp(side, [0, 0.005, 0.015, 0.028], [0.675, 0.676, 0.674, 0.663])
    return step(0.0055 - np.abs(y - height), 0.003) * step(0.031 - side, 0.004) * (z > 0.1)
