"""Where things are on one person's head at rest: the skull, the hairline, the ears, in metres.

Legend: V vertices, S points.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates, maximum_filter

from drig.data.synthetic.arrays import Array, Indices, Mask
from drig.faces.ibug import BROWS, MOUTH, eyes_and_mouth

_AZIMUTHS, _ELEVATIONS = 96, 48


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One head at rest, looking along +z, y up."""

    vertices: Array
    """(V, 3)"""
    normals: Array
    """(V, 3)"""
    faces: Indices
    """(F, 3)"""
    skin: Indices
    """(F', 3) those of them that are skin: hair grows there."""
    landmarks: Array
    """(68, 3)"""
    skull: Array
    """(3,) the middle of the brain case: hair grows away from it."""
    unit: float
    """A third of the face: from the base of the nose to the brows. The next third up ends at the hairline."""
    brow: float
    """Height (y) of the brows."""
    radius: Array
    """(azimuths, elevations) distance of the outermost surface from the skull's centre."""

    def angles(self, points: Array) -> tuple[Array, Array, Array]:
        """Points (..., 3) -> azimuth in degrees (0 front, 90 the image's right ear, 180 back), elevation, distance."""
        d = points - self.skull
        distance = np.linalg.norm(d, axis=-1)
        azimuth = np.degrees(np.arctan2(d[..., 0], d[..., 2]))
        elevation = np.degrees(np.arcsin(np.clip(d[..., 1] / np.maximum(distance, 1e-6), -1, 1)))
        return azimuth, elevation, distance

    def surface(self, points: Array) -> Array:
        """(..., 3) -> (...) distance from the skull's centre at which the head ends in that direction."""
        azimuth, elevation, _ = self.angles(points)
        where = np.stack([(azimuth + 180) / 360 * _AZIMUTHS - 0.5, (elevation + 90) / 180 * _ELEVATIONS - 0.5])
        edge: Array = map_coordinates(self.radius, where, order=1, mode="grid-wrap", prefilter=False)
        return edge

    def height(self, points: Array) -> Array:
        """(..., 3) -> (...) height over the brows in units."""
        return (points[..., 1] - self.brow) / self.unit

    def body_weight(self, points: Array) -> Array:
        """(..., 3) -> (...) 0 on the head, 1 at the shoulders, between which the neck bends.

        The border runs from under the chin up to the nape.
        """
        chin = self.landmarks[8]
        back = np.clip((chin[2] - 0.035 - points[..., 2]) / 0.09, 0, 1)
        top = chin[1] - 0.1 * self.unit + 0.7 * self.unit * back
        t = np.clip((top - points[..., 1]) / (1.5 * self.unit), 0, 1)
        weight: Array = (t * t * (3 - 2 * t)).astype(np.float32)
        return weight


def measure(vertices: Array, normals: Array, faces: Indices, skin: Mask, landmarks: Array) -> Anatomy:
    """The anatomy of a head at rest. skin (F,): which faces are."""
    left, right, _ = eyes_and_mouth(landmarks)
    eyes = (left + right) / 2
    brow = float(landmarks[BROWS, 1].mean())
    unit = brow - float(landmarks[33, 1])
    top = vertices[:, 1].max()
    back = vertices[vertices[:, 1] > eyes[1], 2].min()
    front = float(landmarks[27, 2])
    skull = np.array([eyes[0], eyes[1] + 0.25 * (top - eyes[1]), 0.5 * (back + front)], np.float32)
    head = vertices[vertices[:, 1] > landmarks[MOUTH, 1].min() - 2 * unit]
    return Anatomy(vertices, normals, faces, faces[skin], landmarks, skull, unit, brow, _outermost(head - skull))


def _outermost(offsets: Array) -> Array:
    """Radius by direction as a picture: the farthest vertex of each cell, holes filled from their neighbours."""
    distance = np.linalg.norm(offsets, axis=1)
    azimuth = np.degrees(np.arctan2(offsets[:, 0], offsets[:, 2]))
    elevation = np.degrees(np.arcsin(offsets[:, 1] / distance))
    i = np.minimum(((azimuth + 180) / 360 * _AZIMUTHS).astype(int), _AZIMUTHS - 1)
    j = np.minimum(((elevation + 90) / 180 * _ELEVATIONS).astype(int), _ELEVATIONS - 1)
    radius = np.zeros((_AZIMUTHS, _ELEVATIONS), np.float32)
    np.maximum.at(radius, (i, j), distance)
    modes: list[Literal["wrap", "nearest"]] = ["wrap", "nearest"]
    while (radius == 0).any():
        radius = np.where(radius == 0, maximum_filter(radius, 3, mode=modes), radius)
    smooth: Array = gaussian_filter(radius, 0.7, mode=modes).astype(np.float32)
    return smooth
