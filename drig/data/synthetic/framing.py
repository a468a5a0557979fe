"""The perspective camera, the FFHQ crop it looks through, and the codes' own camera that matches it best.

The crop takes the roll out of a photo. So the whole scene is turned until the crop is upright, and everything from here
on (head pose, light, shoulders) is in the frame of the finished portrait.

Legend: V vertices, P points.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from drig.data.synthetic.arrays import Array
from drig.data.synthetic.people import Person
from drig.data.synthetic.shots import Camera, Shot
from drig.faces.alignment import face_quad
from drig.faces.ibug import ffhq_centre

if TYPE_CHECKING:
    from drig.faces.head import HeadModel


@dataclass(frozen=True, eq=False)
class View:
    """One head before the camera, upright in its crop. The origin is the head's FFHQ centre, the camera on +z."""

    vertices: Array
    """(V, 3) the posed head, metres."""
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
        near = self.camera.distance / (self.camera.distance - points[..., 2:])
        x, y = np.moveaxis((points[..., :2] * near - self.middle) / self.half, -1, 0)
        return np.stack([x, -y, -points[..., 2]], -1).astype(np.float32)


def frame(head: "HeadModel", person: Person, shot: Shot) -> View:
    """The person of a shot before its camera."""
    raw = _place(head, person, shot, head_rotation(shot.pose), np.eye(3))
    turn = _crop_angle(head, person, shot.upright_from) if shot.upright_from else _crop(raw)[0]
    lean = Rotation.from_euler("z", -turn).as_matrix()
    view = _place(head, person, shot, lean @ head_rotation(shot.pose), lean)
    half, middle = _crop(view)[1:]
    if shot.sized_from is not None:
        half = frame(head, person, shot.sized_from).half
    return View(**{**vars(view), "half": half, "middle": middle})


def head_rotation(pose: tuple[float, float, float]) -> Array:
    """(3, 3) from yaw to the image's right, pitch up and roll counter-clockwise in degrees."""
    yaw, pitch, roll = pose
    matrix: Array = Rotation.from_euler("ZYX", [roll, yaw, -pitch], degrees=True).as_matrix()
    return matrix


def _crop_angle(head: "HeadModel", person: Person, shot: Shot) -> float:
    if shot.upright_from is not None:
        return _crop_angle(head, person, shot.upright_from)
    return _crop(_place(head, person, shot, head_rotation(shot.pose), np.eye(3)))[0]


def _place(head: "HeadModel", person: Person, shot: Shot, rotation: Array, lean: Array) -> View:
    codes = person.codes(shot.expression, rotation)
    posed = head.vertices(codes)
    landmarks = head.landmarks(codes, posed)[0].numpy().astype(np.float64)
    centre = ffhq_centre(landmarks)
    vertices = posed[0].numpy() - centre
    # The scalp does not take part in expressions: it tells how the head at rest has moved.
    still = person.anatomy.vertices[person.still]
    offset = (vertices[person.still] - still @ rotation.T).mean(0)
    return View(
        vertices.astype(np.float32),
        (landmarks - centre).astype(np.float32),
        rotation,
        offset,
        lean,
        shot.camera,
        1.0,
        np.zeros(2),
    )


def _crop(view: View) -> tuple[float, float, Array]:
    """Angle (counter-clockwise, radians), half side and middle of the FFHQ crop, in the plane of the origin, metres."""
    flat = view.project(view.landmarks)[:, :2].astype(np.float64)  # y down
    quad = face_quad(flat * view.half)
    across = quad[3] - quad[0]
    camera = view.camera
    half = 0.5 * float(np.hypot(*across)) * camera.scale
    middle = quad.mean(0) * [1, -1] + np.array(camera.shift) * half
    return float(np.arctan2(-across[1], across[0])) + camera.turn, half, middle
