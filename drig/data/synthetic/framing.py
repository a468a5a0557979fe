"""The perspective camera, the FFHQ crop it looks through, and the codes' own camera that matches it best.

The crop takes the roll out of a photo. So the whole scene is turned until the crop is upright, and everything from here
on (head pose, light, shoulders) is in the frame of the finished portrait.

Legend: V vertices, P points.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from drig.data.synthetic.arrays import Array
from drig.data.synthetic.people import Person
from drig.data.synthetic.shots import Camera, Shot
from drig.faces.alignment import face_quad
from drig.faces.buffers import vertex_normals
from drig.faces.ibug import ffhq_centre

if TYPE_CHECKING:
    from drig.faces.head import HeadModel


@dataclass(frozen=True, eq=False)
class View:
    """One head before the camera, upright in its crop. The origin is the head's FFHQ centre, the camera on +z."""

    vertices: Array
    """(V, 3) the posed head, metres."""
    normals: Array
    """(V, 3) of the whole head, unit length."""
    landmarks: Array
    """(68, 3)"""
    rotation: Array
    """(3, 3) of the head, as in the codes."""
    offset: Array
    """(3,) a point x of the head at rest is at rotation x + offset."""
    lean: Array
    """(3, 3) by which the scene was turned to make the crop upright."""
    camera: Camera
    half: float
    """Half the crop's side in metres, in the plane of the origin."""
    middle: Array
    """(2,) the crop's middle in that plane, x right, y up."""

    def project(self, points: Array) -> Array:
        """Points (..., 3) -> (..., 3): image NDC, y down, and depth away from the camera in metres."""
        seen = np.empty(points.shape, np.float32)
        seen[..., :2] = (through_lens(points, self.camera) - self.middle.astype(np.float32)) / np.float32(self.half)
        seen[..., 1] *= -1
        seen[..., 2] = -points[..., 2]
        return seen


def frame(head: "HeadModel", person: Person, shot: Shot) -> View:
    """The person of a shot before its camera."""
    face = _Face.of(head, person, shot)
    turn = _crop_angle(head, person, shot.upright_from) if shot.upright_from else face.crop(_rotation(shot.pose))[0]
    lean = Rotation.from_euler("z", -turn).as_matrix()
    rotation = lean @ _rotation(shot.pose)
    _, half, middle = face.crop(rotation)
    if shot.sized_from is not None:
        half = frame(head, person, shot.sized_from).half
    return View(
        vertices=(face.vertices @ rotation.T).astype(np.float32),
        normals=(face.normals(head) @ rotation.T).astype(np.float32),
        landmarks=(face.landmarks @ rotation.T).astype(np.float32),
        rotation=rotation,
        offset=-rotation @ face.centre,
        lean=lean,
        camera=shot.camera,
        half=half,
        middle=middle,
    )


@dataclass(frozen=True, eq=False)
class _Face:
    """A head with its expression, not turned yet; the origin is its FFHQ centre, about which it can be turned."""

    vertices: Array
    landmarks: Array
    centre: Array
    """(3,) of the FFHQ crop, on the head at rest."""
    camera: Camera

    @classmethod
    def of(cls, head: "HeadModel", person: Person, shot: Shot) -> Self:
        codes = person.codes(shot.expression, np.eye(3))
        posed = head.vertices(codes)
        landmarks = head.landmarks(codes, posed)[0].numpy().astype(np.float64)
        centre = ffhq_centre(landmarks)
        return cls(posed[0].numpy() - centre, landmarks - centre, centre, shot.camera)

    def normals(self, head: "HeadModel") -> Array:
        found: Array = vertex_normals(torch.from_numpy(self.vertices)[None], head.faces)[0].numpy()
        return found

    def crop(self, rotation: Array) -> tuple[float, float, Array]:
        """Angle (counter-clockwise, radians), half side and middle of the turned head's FFHQ crop, in metres in the
        plane of the origin."""
        flat = through_lens(self.landmarks @ rotation.T, self.camera)
        quad = face_quad(flat * [1, -1])  # y down
        across = quad[3] - quad[0]
        half = 0.5 * float(np.hypot(*across)) * self.camera.scale
        middle = quad.mean(0) * [1, -1] + np.array(self.camera.shift) * half
        return float(np.arctan2(-across[1], across[0])) + self.camera.turn, half, middle


def through_lens(points: Array, camera: Camera) -> Array:
    """Points (..., 3) -> (..., 2): where the camera sees them in the plane of the origin."""
    flat: Array = points[..., :2] * (camera.distance / (camera.distance - points[..., 2:]))
    return flat


def _rotation(pose: tuple[float, float, float]) -> Array:
    """(3, 3) from yaw to the image's right, pitch up and roll counter-clockwise in degrees."""
    yaw, pitch, roll = pose
    matrix: Array = Rotation.from_euler("ZYX", [roll, yaw, -pitch], degrees=True).as_matrix()
    return matrix


def _crop_angle(head: "HeadModel", person: Person, shot: Shot) -> float:
    if shot.upright_from is not None:
        return _crop_angle(head, person, shot.upright_from)
    return _Face.of(head, person, shot).crop(_rotation(shot.pose))[0]
