"""Who a synthetic person is: everything that stays the same from photo to photo.

Legend: V vertices of the head, T texture side.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from drig.data.synthetic.anatomy import Anatomy, measure
from drig.data.synthetic.arrays import Array, vector
from drig.data.synthetic.facial_hair import BEARDS, Brows, grow_beard, grow_brows
from drig.data.synthetic.glasses import Frame, Glasses, build_frame, sample_glasses
from drig.data.synthetic.hair import STYLES, Hairline, Style, grow, scalp_density, tie_bun
from drig.data.synthetic.lids import Lids, find_lids
from drig.data.synthetic.noise import spectral_noise
from drig.data.synthetic.scatter import RootedStrands, scatter
from drig.data.synthetic.strands import Strands, join
from drig.faces.buffers import vertex_normals
from drig.faces.codes import FaceCodes
from drig.faces.ibug import eyes_and_mouth
from drig.faces.open_head import OpenHead
from drig.randomness import numpy_generator

Colour = tuple[float, float, float]

_HAIR_COLOURS: dict[str, tuple[Colour, float]] = {
    "black": ((0.012, 0.010, 0.010), 0.26),
    "dark brown": ((0.035, 0.022, 0.015), 0.27),
    "brown": ((0.085, 0.048, 0.028), 0.17),
    "auburn": ((0.13, 0.045, 0.020), 0.06),
    "red": ((0.28, 0.085, 0.025), 0.04),
    "dark blond": ((0.20, 0.13, 0.07), 0.08),
    "blond": ((0.42, 0.29, 0.15), 0.06),
    "grey": ((0.30, 0.29, 0.28), 0.035),
    "white": ((0.60, 0.59, 0.57), 0.025),
}
"""Linear reflectance, and how common it is."""

_IRISES: dict[str, tuple[Colour, Colour]] = {
    "dark brown": ((0.030, 0.015, 0.008), (0.055, 0.028, 0.014)),
    "brown": ((0.085, 0.040, 0.018), (0.13, 0.065, 0.028)),
    "hazel": ((0.15, 0.085, 0.03), (0.12, 0.12, 0.055)),
    "green": ((0.13, 0.12, 0.05), (0.12, 0.19, 0.11)),
    "blue": ((0.13, 0.17, 0.22), (0.13, 0.22, 0.36)),
    "grey": ((0.16, 0.17, 0.18), (0.22, 0.25, 0.28)),
}
"""Linear reflectance beside the pupil and at the rim."""

_SHORT = ("buzz", "crop", "tousled", "side part", "swept back", "curly short", "afro")
_LONG = ("bob", "fringe bob", "long", "long fringe", "wavy", "curly long", "bun", "afro", "curly short", "side part")


@dataclass(frozen=True)
class Looks:
    """A person in words and numbers, without any geometry."""

    feminine: bool
    hair: str
    """A style's name, or bald."""
    hair_colour: str
    hairline: Hairline
    part: float
    """Where the hair is parted, metres."""
    beard: str
    """One of BEARDS."""
    brows: Brows
    iris: str
    pupil: float
    """Sine of the pupil's angle from the eye's centre."""
    glasses: Glasses | None
    oiliness: float
    """Of the skin, 0..1."""
    relief: float
    """Strength of the skin's fine relief."""
    mottling: float
    """Relative unevenness of the skin's colour."""
    lashes: float
    """Metres."""
    breadth: float
    """Of the shoulders."""


@dataclass(frozen=True, eq=False)
class Person:
    """One person, ready to be photographed; made by `sample_person`."""

    seed: int
    index: int
    looks: Looks
    shape: Array
    """(S,) the head's shape codes."""
    tex: Array
    """(K,) its albedo codes."""
    expression_names: tuple[str, ...]
    anatomy: Anatomy
    neck_weight: Array
    """(V,) share in the shoulders' movement."""
    lids: Lids
    skin: Array
    """(T, T, 3) linear RGB reflectance of the head's texture, painted brows and stubble taken out."""
    grain: Array
    """(B, B, 3) fine structure of the skin (see `surfaces.Paint`)."""
    skin_map: Array
    """(V, 2) metres across and along the skin: coordinates of that structure."""
    roughness: Array
    """(V,) of the skin's gloss."""
    tint: Array
    """(V,) how much hair at the roots darkens the skin."""
    hair_reflectance: Array
    """(3,) linear RGB."""
    hair: Strands | None
    """At rest."""
    hair_weight: Array
    """(S, K) share of its points in the shoulders' movement."""
    brows: RootedStrands
    beard: RootedStrands | None
    frame: Frame | None

    def codes(self, expression: Array, rotation: Array) -> FaceCodes:
        """Face codes with an expression (E,) and a head rotation (3, 3); camera and light are unset."""

        def row(values: Array) -> torch.Tensor:
            return torch.from_numpy(np.asarray(values, np.float32))[None]

        return FaceCodes(
            shape=row(self.shape),
            tex=row(self.tex),
            exp=row(expression),
            pose=torch.cat([row(Rotation.from_matrix(rotation).as_rotvec()), torch.zeros(1, 3)], 1),
            cam=torch.tensor([[1.0, 0.0, 0.0]]),
            light=torch.zeros(1, 9, 3),
            crop=torch.eye(2, 3)[None],
        )


def sample_person(head: OpenHead, seed: int, index: int) -> Person:
    """Person `index` of a population: the same whichever others are made."""
    rng = numpy_generator(seed, "person", index)
    shape = np.clip(rng.normal(0, 0.85, head.shape_size), -2, 2).astype(np.float32)
    looks, tone = _sample_looks(rng)
    tex = _sample_tex(head.albedo_names, looks, tone, rng)
    anatomy = _at_rest(head, shape)
    reflectance = np.array(_HAIR_COLOURS[looks.hair_colour][0], np.float32) * np.exp(rng.normal(0, 0.15))
    growth = numpy_generator(seed, "growth", index)
    masks = {name: _at_vertices(head, head.regions[name].numpy()) for name in ("lips", "ears", "skin", "nose")}
    hair, scalp_tint = _grow_hair(anatomy, looks, reflectance, masks, growth)
    beard, tint = None, scalp_tint
    if looks.beard != "none":
        beard, beard_tint = grow_beard(anatomy, looks.beard, masks["lips"], reflectance * 0.9, growth)
        tint = np.maximum(scalp_tint, beard_tint)
    parts = head.face_parts.numpy()
    on_skin, in_socket = (parts == head.part_names.index(name) for name in ("skin", "socket"))
    return Person(
        seed=seed,
        index=index,
        looks=looks,
        shape=shape,
        tex=tex,
        expression_names=head.expression_names,
        anatomy=anatomy,
        neck_weight=anatomy.body_weight(anatomy.vertices),
        lids=find_lids(anatomy.vertices, anatomy.faces, on_skin, in_socket),
        skin=_clean_skin(head, tex),
        grain=_skin_grain(looks, growth),
        skin_map=_skin_map(anatomy),
        roughness=_roughness(anatomy, masks["lips"], looks.oiliness),
        tint=tint.astype(np.float32),
        hair_reflectance=reflectance,
        hair=hair,
        hair_weight=anatomy.body_weight(hair.points) if hair else np.zeros((0, 0), np.float32),
        brows=grow_brows(anatomy, looks.brows, reflectance * np.float32(0.8) + np.float32(0.004), growth),
        beard=beard,
        frame=build_frame(anatomy, looks.glasses) if looks.glasses else None,
    )


def _sample_looks(rng: np.random.Generator) -> tuple[Looks, float]:
    """The looks, and the skin's tone in standard deviations (light is positive)."""
    feminine = bool(rng.random() < 0.5)
    tone = float(np.clip(rng.normal(0.1, 1.0), -2.1, 1.5))
    colours = list(_HAIR_COLOURS)
    fair = (
        np.array([1.6, 1.3, 1, 1, 1, 1, 1, 1, 1]) if tone > -0.3 else np.array([6, 2, 0.5, 0.1, 0.02, 0.02, 0.02, 1, 1])
    )
    chances = np.array([share for _, share in _HAIR_COLOURS.values()]) * fair
    colour = str(rng.choice(colours, p=chances / chances.sum()))
    irises = np.array([3, 3, 1, 0.7, 1.8, 0.8]) if tone > 0 else np.array([6, 3, 0.4, 0.05, 0.05, 0.05])
    iris = str(rng.choice(list(_IRISES), p=irises / irises.sum()))
    if feminine:
        hair = str(rng.choice(_LONG, p=[0.13, 0.08, 0.19, 0.09, 0.16, 0.1, 0.13, 0.04, 0.03, 0.05]))
        hairline = Hairline(float(rng.normal(0, 0.06)), float(max(rng.normal(0, 0.08), 0)), 0.0)
        beard = "none"
        brows = Brows(float(rng.uniform(0.0035, 0.0065)), float(rng.uniform(0.6, 1.0)), float(rng.normal(0.0, 0.015)))
    else:
        hair = str(rng.choice([*_SHORT, "bald", "long"], p=[0.12, 0.22, 0.14, 0.17, 0.11, 0.08, 0.05, 0.08, 0.03]))
        receding = rng.random() < 0.3
        hairline = Hairline(
            float(rng.normal(0.04, 0.08)), float(rng.uniform(0.2, 0.9) if receding else rng.uniform(0, 0.2)), 0.0
        )
        if receding and hair in ("buzz", "crop") and rng.random() < 0.5:
            hairline = Hairline(hairline.height, hairline.recession, float(rng.uniform(0.4, 1.0)))
        beard = str(rng.choice(BEARDS, p=[0.38, 0.24, 0.07, 0.09, 0.14, 0.08]))
        brows = Brows(
            float(rng.uniform(0.0055, 0.0095)), float(rng.uniform(0.75, 1.0)), float(rng.normal(-0.02, 0.015))
        )
    if tone < -0.6 and rng.random() < 0.35:
        hair = str(
            rng.choice(["afro", "buzz", "curly short"] if not feminine else ["afro", "curly long", "curly short"])
        )
    looks = Looks(
        feminine=feminine,
        hair=hair,
        hair_colour=colour,
        hairline=hairline,
        part=float(rng.choice([-1, 1]) * rng.uniform(0.0, 0.035)),
        beard=beard,
        brows=brows,
        iris=iris,
        pupil=float(rng.uniform(0.13, 0.20)),
        glasses=sample_glasses(rng) if rng.random() < 0.2 else None,
        oiliness=float(rng.beta(2, 3)),
        relief=float(rng.uniform(0.02, 0.06)),
        mottling=float(rng.uniform(0.012, 0.03)),
        lashes=float(rng.uniform(0.0075, 0.0105) if feminine else rng.uniform(0.005, 0.007)),
        breadth=float(rng.normal(0.92, 0.06) if feminine else rng.normal(1.06, 0.07)),
    )
    return looks, tone


def _sample_tex(names: tuple[str, ...], looks: Looks, tone: float, rng: np.random.Generator) -> Array:
    """(K,) albedo codes that agree with the looks."""
    value = dict(zip(names, np.clip(rng.normal(0, 0.8, len(names)), -1.8, 1.8), strict=True))
    dark = {"black": 1.2, "dark brown": 0.9, "brown": 0.3, "auburn": 0.0, "red": -0.6, "dark blond": -0.6}
    value["skin_tone"] = tone
    value["brows_dark"] = dark.get(looks.hair_colour, -1.3)
    value["brows_thick"] = (looks.brows.thickness - 0.006) / 0.0015
    value["beard"] = {"none": -1.1, "stubble": 0.8, "short": 1.6, "full": 2.0, "goatee": 0.3}.get(looks.beard, -0.8)
    value["moustache"] = {"none": -1.1, "stubble": 0.8, "short": 1.6, "full": 2.0}.get(looks.beard, 1.5)
    value["scalp_hair"] = -2.0 if looks.hair == "bald" else 1.2
    value["iris_brown"] = {"dark brown": 1.5, "brown": 1.0, "hazel": 0.3, "green": -0.4, "blue": -1.2, "grey": -0.8}[
        looks.iris
    ]
    value["iris_light"] = {"dark brown": -1.2, "brown": -0.5}.get(looks.iris, 0.8)
    if looks.feminine:
        value["lips_red"] += 0.35
    return np.array([value[name] for name in names], np.float32)


def _at_rest(head: OpenHead, shape: Array) -> Anatomy:
    zeros = FaceCodes(
        shape=torch.from_numpy(shape)[None],
        tex=torch.zeros(1, head.tex_size),
        exp=torch.zeros(1, head.exp_size),
        pose=torch.zeros(1, 6),
        cam=torch.tensor([[1.0, 0.0, 0.0]]),
        light=torch.zeros(1, 9, 3),
        crop=torch.eye(2, 3)[None],
    )
    vertices = head.vertices(zeros)
    landmarks = head.landmarks(zeros, vertices)
    normals = vertex_normals(vertices, head.faces)
    faces, skin = head.faces.numpy(), head.face_parts.numpy() == head.part_names.index("skin")
    return measure(vertices[0].numpy(), normals[0].numpy(), faces, skin, landmarks[0].numpy())


def _at_vertices(head: OpenHead, texture: Array) -> Array:
    """A UV picture (T, T) at the vertices (V,)."""
    size = texture.shape[0]
    uvs = head.uvs.numpy()[head.uv_faces.numpy()]  # (F, 3, 2)
    column = np.clip((uvs[..., 0] * size).astype(int), 0, size - 1)
    row = np.clip(((1 - uvs[..., 1]) * size).astype(int), 0, size - 1)
    values = np.zeros(int(head.faces.max()) + 1, np.float32)
    values[head.faces.numpy()] = texture[row, column]
    return values


def _grow_hair(
    anatomy: Anatomy, looks: Looks, reflectance: Array, masks: dict[str, Array], rng: np.random.Generator
) -> tuple[Strands | None, Array]:
    """The scalp's strands, and how much the roots darken the skin (V,)."""
    noise = rng.normal(0, 1, len(anatomy.vertices)).astype(np.float32)
    density = scalp_density(anatomy, anatomy.vertices, looks.hairline, 0.5 * noise)
    density *= (masks["ears"] < 0.2) * (masks["skin"] > 0.2) * (anatomy.vertices[:, 2] < anatomy.landmarks[27, 2])
    if looks.hair == "bald":
        return None, (0.12 * density).astype(np.float32)
    style: Style = STYLES[looks.hair]
    roots = scatter(anatomy.vertices, anatomy.skin, (density > 0.01).astype(np.float32), style.strands * 2, rng)
    points, normals = roots.of(anatomy.vertices), roots.of(anatomy.normals)
    local = scalp_density(anatomy, points, looks.hairline, rng.normal(0, 1.2, len(points)).astype(np.float32))
    chosen = np.flatnonzero(rng.random(len(points)) < local * roots.of(masks["skin"]))[: style.strands]
    colours = np.stack([reflectance * np.float32(0.85), reflectance * np.float32(1.25)])
    strands = grow(anatomy, style, points[chosen], normals[chosen], looks.part, colours, rng)
    if style.comb == "bun":
        strands = join(strands, tie_bun(anatomy, 900, colours, rng))
    return strands, (0.9 * density).astype(np.float32)


_NO_PAINTED_HAIR = {
    **{"scalp_hair": -2.05, "beard": -1.08, "moustache": -1.0},
    **{"brows_dark": -3.65, "brows_warm": 0.0, "brows_thick": 0.0},
}
"""Albedo codes at which the head's painter (`drig.faces.bake_open_head.paint`) covers the skin with no hair."""


def _clean_skin(head: OpenHead, tex: Array) -> Array:
    """The albedo (T, T, 3) in linear light, without the brows and stubble that strands will stand for."""
    codes = [_NO_PAINTED_HAIR.get(name, float(code)) for name, code in zip(head.albedo_names, tex, strict=True)]
    basis = head.albedo_basis.numpy()
    albedo = head.albedo_mean.numpy() + np.tensordot(np.array(codes, np.float32), basis, 1)  # (3, T, T)
    hairy = [head.regions[name].numpy() for name in ("scalp", "beard", "moustache", "brows")]
    bare = head.regions["skin"].numpy() * np.clip(1 - np.sum(hairy, 0), 0, 1)
    plain = (albedo * bare).sum((1, 2)) / bare.sum()
    for region in hairy:  # painted hair had hidden some of the skin's own tone
        mean = (albedo * region).sum((1, 2)) / region.sum()
        albedo = albedo + region * (plain - mean)[:, None, None]
    linear: Array = np.ascontiguousarray(np.clip(albedo, 0.01, 1).transpose(1, 2, 0) ** 2.2, np.float32)
    return linear


def _skin_grain(looks: Looks, rng: np.random.Generator) -> Array:
    """(B, B, 3) mottling, and slopes of pores."""
    size = 256
    mottle = looks.mottling * (
        0.7 * spectral_noise(size, 1.2, rng, smallest=2) + 0.5 * spectral_noise(size, 0.3, rng, smallest=1)
    )
    height = spectral_noise(size, 0.35, rng, smallest=1.5)
    down, across = np.gradient(height)
    slope = np.stack([down, across], -1)
    return np.concatenate([mottle[..., None], slope / slope.std()], -1).astype(np.float32)


def _skin_map(anatomy: Anatomy) -> Array:
    """(V, 2): a cylinder about the skull, unrolled."""
    azimuth, _, _ = anatomy.angles(anatomy.vertices)
    return np.stack([np.radians(azimuth) * 0.09, anatomy.vertices[:, 1]], 1).astype(np.float32)


def _roughness(anatomy: Anatomy, lips: Array, oiliness: float) -> Array:
    """(V,): oily nose, forehead and chin shine more, lips most."""
    left, right, _ = eyes_and_mouth(anatomy.landmarks)
    forehead = (left + right) / 2 + vector(0, 0.75, 0) * anatomy.unit
    zone = np.zeros(len(anatomy.vertices), np.float32)
    for centre, reach in (
        (anatomy.landmarks[30], 0.5),
        (forehead, 0.7),
        (anatomy.landmarks[8], 0.4),
        (anatomy.landmarks[29], 0.4),
    ):
        gap = np.linalg.norm(anatomy.vertices - centre, axis=1) / (reach * anatomy.unit)
        zone = np.maximum(zone, np.exp(-(gap**2)))
    rough = 0.58 - 0.12 * oiliness - (0.06 + 0.14 * oiliness) * zone
    return (rough - 0.16 * lips).astype(np.float32)


def iris_colours(looks: Looks) -> Array:
    """(2, 3) linear reflectance beside the pupil and at the rim."""
    return np.array(_IRISES[looks.iris], np.float32)
