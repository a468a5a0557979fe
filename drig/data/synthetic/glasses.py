"""Spectacles: rims swept along an outline before each eye, a bridge, and temples to the ears."""

from dataclasses import dataclass

import numpy as np

from drig.data.synthetic.anatomy import Anatomy
from drig.data.synthetic.arrays import Array, Indices
from drig.faces.ibug import eyes_and_mouth

SHAPES = ("round", "square", "aviator", "cat")
_OUTLINE, _TUBE = 40, 5


@dataclass(frozen=True)
class Glasses:
    """One person's spectacles."""

    shape: str
    """One of SHAPES."""
    width: float
    """Of a lens, metres."""
    thickness: float
    """Of the rim, metres."""
    colour: tuple[float, float, float]
    """Linear RGB reflectance."""


def sample_glasses(rng: np.random.Generator) -> Glasses:
    colours = [
        (0.012, 0.011, 0.012),
        (0.07, 0.03, 0.015),
        (0.25, 0.22, 0.18),
        (0.2, 0.02, 0.03),
        (0.02, 0.04, 0.12),
        (0.35, 0.25, 0.1),
    ]
    thick = rng.random() < 0.6
    return Glasses(
        str(rng.choice(SHAPES)),
        float(rng.uniform(0.044, 0.054)),
        float(rng.uniform(0.0024, 0.0042) if thick else rng.uniform(0.0011, 0.0018)),
        colours[rng.integers(len(colours))],
    )


@dataclass(frozen=True, eq=False)
class Frame:
    """Spectacles as geometry on the head at rest."""

    vertices: Array
    """(V, 3)"""
    faces: Indices
    """(F, 3)"""
    lenses: tuple[Array, Array]
    """Two outlines (P, 3)."""


def build_frame(anatomy: Anatomy, glasses: Glasses) -> Frame:
    """The spectacles on a nose, before the eyes and over the ears."""
    right, left, _ = eyes_and_mouth(anatomy.landmarks)
    bridge = anatomy.landmarks[27]
    tubes: list[tuple[Array, float, bool]] = []
    lenses = []
    for sign, eye in ((-1.0, right), (1.0, left)):
        centre = np.array([0.5 * (right[0] + left[0]) + sign * (0.5 * glasses.width + 0.0095), eye[1] - 0.002, 0.0])
        flat = _outline(glasses.shape, glasses.width, sign)
        outline = np.concatenate([centre[:2] + flat, np.zeros((len(flat), 1))], 1)
        # The front is bent around the face, and stands off the bridge of the nose.
        reach = np.abs(outline[:, 0] - bridge[0])
        outline[:, 2] = bridge[2] + 0.0105 - 0.9 * reach**2 / 0.11 - 0.05 * (outline[:, 1] - centre[1])
        tubes.append((outline.astype(np.float32), glasses.thickness, True))
        lenses.append(outline.astype(np.float32))
        tubes.append((_temple(anatomy, outline, sign), max(0.7 * glasses.thickness, 0.0012), False))
    tubes.append((_bridge(*lenses), 0.8 * glasses.thickness, False))
    vertices, faces, first = [], [], 0
    for path, thickness, closed in tubes:
        points, triangles = _sweep(path, thickness, closed)
        vertices.append(points)
        faces.append(triangles + first)
        first += len(points)
    return Frame(np.concatenate(vertices), np.concatenate(faces), (lenses[0], lenses[1]))


def _outline(shape: str, width: float, sign: float) -> Array:
    """(P, 2) the rim about its centre; positive x * sign is outwards."""
    angle = np.linspace(0, 2 * np.pi, _OUTLINE, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    power, height = {"round": (1.0, 0.94), "square": (0.5, 0.72), "aviator": (0.8, 0.86), "cat": (0.65, 0.68)}[shape]
    x = np.sign(c) * np.abs(c) ** power
    y = np.sign(s) * np.abs(s) ** power * height
    if shape == "aviator":
        x, y = x * (1 + 0.12 * y), y - 0.12 * (1 - x)
    if shape == "cat":
        y = y + 0.22 * np.clip(x, 0, 1) ** 2
    return np.stack([sign * x, y], 1) * width / 2


def _temple(anatomy: Anatomy, outline: Array, sign: float) -> Array:
    hinge = outline[(outline[:, 0] * sign + 0.3 * outline[:, 1]).argmax()]
    ear = anatomy.landmarks[0 if sign < 0 else 16]
    over = anatomy.vertices[np.argmax(sign * anatomy.vertices[:, 0] - 20 * np.abs(anatomy.vertices[:, 1] - hinge[1]))]
    reach = 0.5 * (abs(float(over[0])) + abs(float(ear[0])))
    turn = hinge + np.array([sign * 0.004, 0.001, -0.008])
    mid = np.array([sign * max(reach, abs(turn[0])) * 1.0, hinge[1] + 0.001, ear[2] + 0.01])
    end = np.array([sign * reach * 0.99, hinge[1], ear[2] - 0.03])
    return np.stack([hinge, turn, 0.5 * (turn + mid), mid, end]).astype(np.float32)


def _bridge(right: Array, left: Array) -> Array:
    a = right[(right[:, 0] + 0.25 * right[:, 1]).argmax()]
    b = left[(left[:, 0] - 0.25 * left[:, 1]).argmin()]
    t = np.linspace(0, 1, 7)[:, None]
    arch = np.array([0, 0.0022, 0.0018]) * (4 * t * (1 - t))
    path: Array = (a + t * (b - a) + arch).astype(np.float32)
    return path


def _sweep(path: Array, thickness: float, closed: bool) -> tuple[Array, Indices]:
    """A tube of _TUBE sides along a path (P, 3) -> vertices and faces."""
    step = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    step /= np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9)
    side = np.cross(step, [0.05, 0.1, 1.0])
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    up = np.cross(side, step)
    angle = np.linspace(0, 2 * np.pi, _TUBE, endpoint=False)
    ring = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * up[:, None]
    points = (path[:, None] + 0.5 * thickness * ring).reshape(-1, 3).astype(np.float32)
    count = len(path) if closed else len(path) - 1
    i, j = np.meshgrid(np.arange(count), np.arange(_TUBE), indexing="ij")
    following, beside = (i + 1) % len(path), (j + 1) % _TUBE
    a, b, c, d = i * _TUBE + j, i * _TUBE + beside, following * _TUBE + j, following * _TUBE + beside
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)])
    return points, faces.astype(np.int32)
