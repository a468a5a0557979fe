"""What a portrait's buffers should be: the codes that explain it in the rig's own camera and light."""

import numpy as np
import torch

from drig.data.synthetic.arrays import Array, Indices, Mask
from drig.data.synthetic.framing import View
from drig.data.synthetic.lights import Light, fibonacci_sphere
from drig.data.synthetic.people import Person
from drig.data.synthetic.shots import Shot
from drig.faces.codes import FaceCodes
from drig.faces.lighting import sh_basis
from drig.faces.open_head import OpenHead

GAMMA = 2.2
"""Of the display: portraits are linear light to the power of 1 / GAMMA."""

_LANDMARK_WEIGHT = 8  # vertices that one landmark counts as in the fit of the camera
_PRIOR = 0.1  # weight of light that no visible skin shows, to that of what is seen


def true_codes(head: OpenHead, person: Person, shot: Shot, view: View, light: Array) -> FaceCodes:
    """One face: the head as it was posed, the light (9, 3), and SPEC 5's camera that comes nearest to the lens.

    Without perspective no camera fits exactly: it is the least-squares one for the face's front and the landmarks.
    """
    codes = person.codes(shot.expression, view.rotation).replace(light=torch.from_numpy(light)[None])
    world = head.vertices(codes)
    landmarks = head.landmarks(codes, world)[0].numpy()
    front = (view.normals[:, 2] > 0.2) & (person.anatomy.vertices[:, 1] > person.anatomy.landmarks[8, 1])
    codes_side = np.concatenate([world[0].numpy()[front], np.repeat(landmarks, _LANDMARK_WEIGHT, 0)])
    view_side = np.concatenate([view.vertices[front], np.repeat(view.landmarks, _LANDMARK_WEIGHT, 0)])
    seen = view.project(view_side)[:, :2].astype(np.float64) * [1, -1]
    return codes.replace(cam=torch.from_numpy(_fit_camera(codes_side[:, :2].astype(np.float64), seen))[None])


def _fit_camera(world: Array, seen: Array) -> Array:
    """(3,) scale, tx, ty with seen ~ scale (world + t), both (P, 2) with y up."""
    spread, wanted = world - world.mean(0), seen - seen.mean(0)
    scale = (spread * wanted).sum() / np.square(spread).sum()
    return np.array([scale, *(seen.mean(0) / scale - world.mean(0))], np.float32)


def fit_light(
    light: Light, head: OpenHead, view: View, face: Indices, bary: Array, seen: Mask, diffuse: Array
) -> Array:
    """(9, 3) SH coefficients whose shading is nearest to the diffuse light on visible skin, in display space.

    A portrait is (albedo^g x light)^(1/g) = albedo x light^(1/g), g the display's gamma: the target is light^(1/g).
    Normals that no visible skin has are held by the light without shadows over the whole sphere.

    face (P,), bary (P, 3): of the head, at pixels; diffuse (P, 3); seen (P,): those that show nothing but skin.
    """
    balance = np.array(light.balance, np.float32)
    shown = np.einsum("pk,pkc->pc", bary[seen], view.normals[head.faces.numpy()[face[seen]]]).astype(np.float32)
    sphere = fibonacci_sphere(200).astype(np.float32)
    target = np.maximum(diffuse[seen] * balance, 1e-4) ** (1 / GAMMA)
    around = np.maximum(light.irradiance(sphere) * balance, 1e-4) ** (1 / GAMMA)
    weight = np.sqrt(_PRIOR * max(len(shown), 100) / len(sphere))
    basis = np.concatenate([_basis(shown), weight * _basis(sphere)])
    solution: Array = np.linalg.lstsq(basis, np.concatenate([target, weight * around]), rcond=None)[0]
    return solution.astype(np.float32)


def _basis(normals: Array) -> Array:
    basis: Array = sh_basis(torch.from_numpy(normals)).numpy()
    return basis
