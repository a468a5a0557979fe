"""Everything that stands before the camera in one photo, as one mesh and a few sets of strands."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from drig.data.synthetic.arrays import Array, Indices
from drig.data.synthetic.bodies import torso
from drig.data.synthetic.framing import View
from drig.data.synthetic.lids import lashes
from drig.data.synthetic.people import Person
from drig.data.synthetic.shots import Shot
from drig.data.synthetic.strands import Strands
from drig.data.synthetic.surfaces import CLOTH, EYE_LEFT, EYE_RIGHT, FRAME, MOUTH, SKIN
from drig.faces.buffers import vertex_normals
from drig.faces.open_head import OpenHead
from drig.randomness import numpy_generator

_MATERIALS = {"eye_right": EYE_RIGHT, "eye_left": EYE_LEFT, "skin": SKIN}


@dataclass(frozen=True, eq=False)
class Scene:
    """The head comes first among vertices and faces."""

    vertices: Array
    """(V, 3) in the view's frame."""
    normals: Array
    """(V, 3)"""
    faces: Indices
    """(F, 3)"""
    uv: Array
    """(F, 3, 2)"""
    material: Indices
    """(F,)"""
    hair: Strands | None
    skull: Array
    """(3,) the middle of the brain case."""
    short: tuple[Strands, ...]
    """Brows, lashes and beard."""
    lenses: tuple[Array, ...]
    """Outlines (P, 3) of spectacle lenses."""
    lips: Array
    """(3,) the middle between the lips."""


def assemble(head: OpenHead, person: Person, shot: Shot, view: View) -> Scene:
    """Poses the head, bends the neck towards the shoulders, and adds clothes, hair and spectacles."""
    body = _torso_rotation(shot, view)
    joint = _neck_joint(person)
    settle = view.rotation @ joint + view.offset - body @ joint  # the shoulders' offset: they share the joint

    def with_head(points: Array) -> Array:
        return points @ view.rotation.T.astype(np.float32) + view.offset.astype(np.float32)

    def with_body(points: Array) -> Array:
        return points @ body.T.astype(np.float32) + settle.astype(np.float32)

    weight = person.neck_weight[:, None]
    unposed = (view.vertices - view.offset) @ view.rotation  # the head with its expression, at rest
    skin = view.vertices + weight * (with_body(unposed) - view.vertices)
    cloth, cloth_faces, cloth_uv = torso(person.anatomy, shot.clothing, person.looks.breadth)
    pieces = [(skin, person.anatomy.faces), (with_body(cloth), cloth_faces)]
    parts = np.array([_MATERIALS.get(name, MOUTH) for name in head.part_names], np.uint8)[head.face_parts.numpy()]
    uvs = [head.uvs.numpy()[head.uv_faces.numpy()], cloth_uv]
    materials = [parts, np.full(len(cloth_faces), CLOTH, np.uint8)]
    lenses: tuple[Array, ...] = ()
    if person.frame:
        pieces.append((with_head(person.frame.vertices), person.frame.faces))
        uvs.append(np.zeros((len(person.frame.faces), 3, 2), np.float32))
        materials.append(np.full(len(person.frame.faces), FRAME, np.uint8))
        lenses = tuple(with_head(outline) for outline in person.frame.lenses)
    vertices, faces = _join(pieces)
    normals = vertex_normals(torch.from_numpy(vertices)[None], torch.from_numpy(faces).long())[0].numpy()
    hair = None
    if person.hair:
        at_rest = person.hair.points
        stays = 0.8 * person.hair_weight[..., None]
        moved = with_head(at_rest)
        hair = person.hair.moved(moved + stays * (with_body(at_rest) - moved))
    count = len(skin)
    rooted = [person.brows] + ([person.beard] if person.beard else [])
    short = [strands.posed(vertices[:count], normals[:count]) for strands in rooted]
    # Lashes are the person's, whichever the photo.
    growth = numpy_generator(person.seed, "lashes", person.index)
    short.append(lashes(vertices[:count], normals[:count], person.lids, person.looks.lashes, growth))
    return Scene(
        vertices,
        normals,
        faces,
        np.concatenate(uvs).astype(np.float32),
        np.concatenate(materials),
        hair,
        with_head(person.anatomy.skull),
        tuple(short),
        lenses,
        view.landmarks[[62, 66]].mean(0),
    )


def _join(pieces: list[tuple[Array, Indices]]) -> tuple[Array, Indices]:
    starts = np.cumsum([0] + [len(points) for points, _ in pieces])
    faces = [triangles + start for (_, triangles), start in zip(pieces, starts, strict=False)]
    vertices = np.concatenate([points for points, _ in pieces])
    return np.ascontiguousarray(vertices, np.float32), np.concatenate(faces).astype(np.int32)


def _torso_rotation(shot: Shot, view: View) -> Array:
    turned: Array = view.lean @ Rotation.from_euler("y", shot.torso, degrees=True).as_matrix()
    return turned


def _neck_joint(person: Person) -> Array:
    """The point of the neck about which head and shoulders turn against each other."""
    anatomy = person.anatomy
    ears = 0.5 * (anatomy.landmarks[0] + anatomy.landmarks[16])
    return np.array([ears[0], anatomy.landmarks[8, 1] + 0.2 * anatomy.unit, ears[2] - 0.25 * anatomy.unit])
