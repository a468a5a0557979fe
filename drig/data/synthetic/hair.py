"""Hair on the scalp: where it grows, which way it is combed, how it hangs.

Every strand is grown point by point along a field of directions (lift at the root, the style's comb, gravity), kept out
of the head, drawn together into locks and curled. All of it happens once for a person, on the head at rest.

Legend: S strands, K points of each, N guide strands.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from drig.data.synthetic.anatomy import Anatomy
from drig.data.synthetic.arrays import Array, Indices, Mask, unit
from drig.data.synthetic.strands import Strands

_POINTS, _CURLY_POINTS = 16, 31
"""Points of a strand; 1 more than a multiple of 3 (see `hair_light`)."""

_HAIRLINE_AZIMUTH = [0, 22, 42, 56, 66, 76, 84, 100, 125, 180]
_HAIRLINE_HEIGHT = [0.92, 0.95, 0.84, 0.58, 0.18, -0.30, -0.05, -0.45, -1.0, -1.15]
"""The edge of the hair in units over the brows, by azimuth: forehead, temple, sideburn, behind the ear, nape."""


_OUT_OF_SIGHT = -2.7
"""Height in units under which no portrait shows any hair."""

_FACE_HEIGHT = [-2.6, -1.8, -1.0, -0.2, 0.4, 0.75, 1.0]
_FACE_AZIMUTH = [30, 40, 54, 60, 52, 34, 0]
"""By height over the brows, in units: the azimuth up to which hair that is not a fringe leaves the face free."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a head of hair is cut and combed. Lengths in metres."""

    name: str
    strands: int
    length: float
    """On the top of the head."""
    sides: float
    """On the sides and the back."""
    comb: str
    """Which way it is combed: crown, back, side, part, radial or bun."""
    lift: float
    """How far it stands off the scalp at the root, 0 flat .. 1 upright."""
    weight: float
    """Pull of gravity, 0 none."""
    volume: float
    """Greatest distance of the inner to the outer layer, metres."""
    lock: float
    """How far strands of a lock meet at the tip, 0..1."""
    locks: int
    curl: float = 0.0
    """Radius of a curl, metres."""
    turns: float = 0.0
    """Curls in the length of a strand."""
    frizz: float = 0.0
    """Random bending, 0..1."""
    fringe: float | None = None
    """Height over the brows, in units, at which hair combed over the forehead is cut; None: no fringe."""
    cut: float | None = None
    """Height at which hanging hair is cut, in units over the brows (the chin is at about -2.1)."""

    @property
    def points(self) -> int:
        """K"""
        return _CURLY_POINTS if self.turns > 2 else _POINTS


STYLES: dict[str, Style] = {
    style.name: style
    for style in (
        Style(name="buzz", strands=7000, length=0.008, sides=0.005, comb="crown",
              lift=0.7, weight=0.1, volume=0.002, lock=0.1, locks=900),
        Style(name="crop", strands=7000, length=0.035, sides=0.013, comb="crown",
              lift=0.5, weight=0.25, volume=0.012, lock=0.55, locks=420, frizz=0.15),
        Style(name="tousled", strands=6000, length=0.065, sides=0.024, comb="crown",
              lift=0.65, weight=0.4, volume=0.022, lock=0.7, locks=260, curl=0.006, turns=0.8, frizz=0.3),
        Style(name="side part", strands=6000, length=0.07, sides=0.016, comb="side",
              lift=0.35, weight=0.85, volume=0.014, lock=0.5, locks=260, frizz=0.08),
        Style(name="swept back", strands=6000, length=0.10, sides=0.018, comb="back",
              lift=0.42, weight=0.2, volume=0.018, lock=0.55, locks=260, frizz=0.08),
        Style(name="curly short", strands=7000, length=0.055, sides=0.03, comb="radial",
              lift=0.9, weight=0.25, volume=0.02, lock=0.85, locks=420, curl=0.006, turns=2.5, frizz=0.3),
        Style(name="afro", strands=8000, length=0.075, sides=0.065, comb="radial",
              lift=1.0, weight=0.0, volume=0.02, lock=0.6, locks=900, curl=0.0035, turns=6.0, frizz=0.5),
        Style(name="bob", strands=4800, length=0.26, sides=0.24, comb="part",
              lift=0.25, weight=0.9, volume=0.018, lock=0.45, locks=220, frizz=0.06, cut=-1.75),
        Style(name="fringe bob", strands=4800, length=0.26, sides=0.24, comb="part",
              lift=0.25, weight=0.9, volume=0.016, lock=0.35, locks=220, frizz=0.05, cut=-1.9, fringe=0.12),
        Style(name="long", strands=4800, length=0.40, sides=0.36, comb="part",
              lift=0.25, weight=0.9, volume=0.02, lock=0.5, locks=200, curl=0.006, turns=1.2, frizz=0.08),
        Style(name="long fringe", strands=4800, length=0.40, sides=0.36, comb="part",
              lift=0.25, weight=0.9, volume=0.018, lock=0.4, locks=200, frizz=0.06, fringe=0.1),
        Style(name="wavy", strands=5500, length=0.36, sides=0.33, comb="part",
              lift=0.35, weight=0.8, volume=0.03, lock=0.7, locks=170, curl=0.013, turns=2.6, frizz=0.15),
        Style(name="curly long", strands=5500, length=0.30, sides=0.28, comb="part",
              lift=0.6, weight=0.7, volume=0.045, lock=0.85, locks=300, curl=0.010, turns=6.0, frizz=0.3),
        Style(name="bun", strands=5500, length=0.30, sides=0.30, comb="bun",
              lift=0.1, weight=0.0, volume=0.006, lock=0.3, locks=260, frizz=0.04),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Hairline:
    """The shape of one person's hairline."""

    height: float
    """Added to the forehead, in units."""
    recession: float
    """How far the temples have receded, 0..1."""
    crown: float
    """How bald the crown is, 0..1."""


def scalp_density(anatomy: Anatomy, points: Array, hairline: Hairline, noise: Array) -> Array:
    """(S,) density of hair in [0, 1] at points (S, 3) of the skin; `noise` (S,), deviation 1, makes the edge uneven."""
    azimuth, _, _ = anatomy.angles(points)
    azimuth = np.abs(azimuth)
    edge = np.interp(azimuth, _HAIRLINE_AZIMUTH, _HAIRLINE_HEIGHT)
    front = np.clip(1 - azimuth / 70, 0, 1)
    edge = edge + hairline.height * np.minimum(front * 3, 1)
    edge = edge + hairline.recession * 0.75 * np.exp(-(((azimuth - 36) / 18) ** 2)) + hairline.recession * 0.2 * front
    over = anatomy.height(points) - edge + 0.05 * noise
    density = np.clip(over / 0.16 + 0.5, 0, 1)
    if hairline.crown > 0:
        top = anatomy.skull + np.array([0, 1.0, -0.35]) * anatomy.unit * 1.9
        bald = np.linalg.norm((points - top) / anatomy.unit, axis=1) - 0.2 * noise
        density = density * np.clip((bald - 1.75 * hairline.crown) / 0.35, 0, 1)
    return density.astype(np.float32)


def grow(
    anatomy: Anatomy,
    style: Style,
    roots: Array,
    normals: Array,
    part: float,
    colours: Array,
    rng: np.random.Generator,
) -> Strands:
    """Strands of a style from roots (S, 3) with skin normals (S, 3).

    part: where the hair is parted, metres to the image's right of the middle. colours (2, 3): reflectance at the root
    and at the tip.
    """
    count = len(roots)
    top = _top_weight(anatomy, roots)
    length = (style.sides + (style.length - style.sides) * top) * rng.uniform(0.8, 1.05, count)
    normals = unit(0.6 * normals + 0.4 * unit(roots - anatomy.skull))  # smoother beside the ears
    comb = _comb(anatomy, style, roots, normals, part, rng)
    if style.comb == "bun":
        length = 1.25 * np.linalg.norm(roots - _bun_centre(anatomy), axis=1)
    points = _trace(anatomy, style, roots, normals, comb, length, rng)
    points = _cut(anatomy, style, points, rng)
    points, leader = _lock(style, anatomy, points, rng)
    if style.comb != "bun":
        points = _off_the_face(anatomy, style, points)
    return _finish(points, leader, colours, rng)


def _top_weight(anatomy: Anatomy, roots: Array) -> Array:
    """1 on the top of the head, 0 on the sides and the back of short cuts."""
    azimuth, elevation, _ = anatomy.angles(roots)
    edge = np.interp(np.abs(azimuth), [0, 40, 90, 180], [5, 24, 40, 40])
    top: Array = np.clip((elevation - edge) / 22 + 0.5, 0, 1).astype(np.float32)
    return top


def _fringe(anatomy: Anatomy, style: Style, roots: Array) -> Mask:
    azimuth, elevation, _ = anatomy.angles(roots)
    return (np.abs(azimuth) < 48) & (elevation < 62) if style.fringe is not None else np.zeros(len(roots), bool)


def _comb(anatomy: Anatomy, style: Style, roots: Array, normals: Array, part: float, rng: np.random.Generator) -> Array:
    """(S, 3) unit directions along the scalp in which the hair is combed at its root."""
    offset = roots - anatomy.skull
    side = np.sign(offset[:, :1] - part)
    ones, zeros = np.ones((len(roots), 1)), np.zeros((len(roots), 1))
    if style.comb == "crown":
        whorl = anatomy.skull + anatomy.unit * np.array([0.25 * np.sign(part + 1e-9), 1.5, -0.9])
        away = roots - whorl
        direction = away + np.cross(normals, away) * 0.35 * np.sign(part + 1e-9)
    elif style.comb == "back":
        direction = np.concatenate([0.35 * offset[:, :1] / anatomy.unit, zeros - 0.1, -ones], 1)
    elif style.comb == "side":
        lean = np.clip(offset[:, 2:] / (1.3 * anatomy.unit), -1, 1)
        direction = np.concatenate([side, zeros - 0.35, 0.25 + 0.2 * lean], 1)
    elif style.comb == "part":
        front = np.clip(offset[:, 2:] / (1.2 * anatomy.unit), 0, 1)
        direction = np.concatenate([side, zeros - 0.25, 0.25 - 0.75 * front], 1)
    elif style.comb == "bun":
        direction = _bun_centre(anatomy) - roots
    else:
        direction = normals.astype(np.float64)
    fringe = _fringe(anatomy, style, roots)
    spread = np.concatenate([0.35 * offset[:, :1] / anatomy.unit, zeros - 0.4, ones], 1)
    direction = np.where(fringe[:, None], spread, direction)
    direction = unit(direction) + rng.normal(0, 0.08 + 0.5 * style.frizz, direction.shape)
    return unit(direction - (direction * normals).sum(1, keepdims=True) * normals)


def _bun_centre(anatomy: Anatomy) -> Array:
    centre: Array = anatomy.skull + anatomy.unit * np.array([0, 1.75, -1.15], np.float32)
    return centre


def _trace(
    anatomy: Anatomy, style: Style, roots: Array, normals: Array, comb: Array, length: Array, rng: np.random.Generator
) -> Array:
    """(S, K, 3): strands grown from their roots along the comb and then down, outside of the head."""
    count = len(roots)
    step = (length / (style.points - 1)).astype(np.float32)[:, None]
    layer = (rng.uniform(0.05, 1, count) * style.volume).astype(np.float32)
    direction = style.lift * normals + (1 - 0.6 * style.lift) * comb
    direction = unit(direction)
    points = np.empty((count, style.points, 3), np.float32)
    points[:, 0] = roots
    here: Array = roots.astype(np.float32)
    down = np.array([0, -1, 0], np.float32)
    bend = rng.normal(0, style.frizz * 0.35, (count, 3)).astype(np.float32)
    for k in range(1, style.points):
        travelled = step[:, 0] * k
        outward = unit(here - anatomy.skull)
        settled = np.clip(travelled / min(0.06, 0.4 * style.length), 0, 1)[:, None] * style.weight
        # Hanging hair follows the head: what has been combed past the crown is drawn down and in, not sideways.
        steep = settled * (1 - np.abs((outward * down).sum(1, keepdims=True)) ** 2)
        wish: Array = (1 - settled) * comb * (0.0 if style.comb == "radial" else 1.0)
        wish = wish + (0.35 * settled + 0.65 * steep) * down - 0.3 * settled * outward + bend
        if style.comb == "bun":
            wish = unit(_bun_centre(anatomy) - here)
        turn = np.minimum(step / 0.02, 1) * (0.25 if style.comb == "radial" else 0.55)
        direction = unit(direction + turn * wish).astype(np.float32)
        here = here + step * direction
        # Out of the head: back to a clearance that grows with the distance from the root.
        offset = here - anatomy.skull
        distance = np.linalg.norm(offset, axis=1)
        floor = anatomy.surface(here) + np.minimum(travelled * 0.5, layer) + 0.0025
        outward = unit(offset)
        inside = distance < floor
        here = np.where(inside[:, None], anatomy.skull + outward * floor[:, None], here)
        inward = np.minimum((direction * outward).sum(1, keepdims=True), 0)
        direction = np.where(inside[:, None], direction - inward * outward, direction)
        points[:, k] = here
    return points


def _cut(anatomy: Anatomy, style: Style, points: Array, rng: np.random.Generator) -> Array:
    """Strands shortened to where they first come below the cut, with their points spread evenly again."""
    count = len(points)
    height = anatomy.height(points)  # (S, K)
    limit = np.full(count, _OUT_OF_SIGHT if style.cut is None else style.cut)
    if style.fringe is not None:
        fringe = _fringe(anatomy, style, points[:, 0])
        limit = np.where(fringe, style.fringe, limit)
    limit = limit + rng.normal(0, 0.06, count)
    below = height < limit[:, None]
    first = np.where(below.any(1), below.argmax(1), style.points - 1)
    before = np.maximum(first - 1, 0)
    rows = np.arange(count)
    drop = height[rows, before] - height[rows, first]
    part = np.clip((height[rows, before] - limit) / np.maximum(drop, 1e-6), 0.05, 1)
    end = np.where(below.any(1), before + part, style.points - 1)
    where = np.linspace(0, 1, style.points)[None] * end[:, None]  # (S, K)
    low = np.minimum(where.astype(int), style.points - 2)
    share = (where - low)[..., None].astype(np.float32)
    cut: Array = points[rows[:, None], low] * (1 - share) + points[rows[:, None], low + 1] * share
    return cut


def _lock(style: Style, anatomy: Anatomy, points: Array, rng: np.random.Generator) -> tuple[Array, Indices]:
    """Strands drawn towards the nearest of N guides, more so at the tip, and curled with it; and that guide."""
    count = len(points)
    guides = rng.choice(count, min(style.locks, count), replace=False)
    _, nearest = cKDTree(points[guides, 0]).query(points[:, 0])
    along = np.linspace(0, 1, style.points, dtype=np.float32)[None, :, None]
    pull = style.lock * along**0.8 * rng.uniform(0.6, 1.0, (count, 1, 1)).astype(np.float32)
    points = points + pull * (points[guides[nearest]] - points)
    if style.curl > 0:
        phase = rng.uniform(0, 2 * np.pi, len(guides))[nearest] + rng.normal(0, 0.35, count)
        pace = style.turns * (rng.uniform(0.75, 1.25, len(guides)) * rng.choice([-1, 1], len(guides)))[nearest]
        angle = phase[:, None] + 2 * np.pi * pace[:, None] * along[..., 0]
        tangent = unit(np.gradient(points, axis=1))
        across = unit(np.cross(tangent, points - anatomy.skull))
        second = np.cross(across, tangent)
        radius = style.curl * np.minimum(along[..., 0] * 4, 1) * rng.uniform(0.6, 1.2, (count, 1))
        swing = np.cos(angle)[..., None] * across + (1 + np.sin(angle)[..., None]) * second
        points = points + radius[..., None] * swing
    return points.astype(np.float32), guides[nearest].astype(np.int64)


def _off_the_face(anatomy: Anatomy, style: Style, points: Array) -> Array:
    """Strands that would hang over the face, turned about the skull's axis to its sides."""
    azimuth, _, _ = anatomy.angles(points)
    limit = np.interp(anatomy.height(points), _FACE_HEIGHT, _FACE_AZIMUTH)
    limit = np.where(_fringe(anatomy, style, points[:, 0])[:, None], 0, limit)
    side = np.where(points[:, 1:].mean(1)[:, :1] >= anatomy.skull[0], 1.0, -1.0)
    # Softly: strands gather at the border instead of all lying on it.
    gap = np.where(side * azimuth > -70, side * azimuth - limit, 1e3)
    moved = limit + np.where(gap < 12, 12 * np.exp(np.minimum(gap, 12) / 12 - 1), gap)
    turn = np.radians(np.where(gap < 12, side * moved - azimuth, 0) * (limit > 0))
    offset = points - anatomy.skull
    x = offset[..., 0] * np.cos(turn) + offset[..., 2] * np.sin(turn)
    z = offset[..., 2] * np.cos(turn) - offset[..., 0] * np.sin(turn)
    moved_points: Array = (anatomy.skull + np.stack([x, offset[..., 1], z], -1)).astype(np.float32)
    return moved_points


def tie_bun(anatomy: Anatomy, strands: int, colours: Array, rng: np.random.Generator) -> Strands:
    """The ball of a bun: strands wound around a sphere on the back of the crown."""
    radius = 0.5 * anatomy.unit
    centre = _bun_centre(anatomy) + 0.55 * radius * unit(_bun_centre(anatomy) - anatomy.skull)
    axis = unit(rng.normal(0, 1, (strands, 3)) * [0.5, 0.5, 0.5] + np.array([0, 0.8, -0.6]))
    start = unit(np.cross(axis, rng.normal(0, 1, (strands, 3))))
    third = np.cross(axis, start)
    angle = np.linspace(0, 1, _POINTS)[None] * rng.uniform(2, 5, (strands, 1))
    wave = 0.35 * np.sin(angle * rng.uniform(0.5, 1.5, (strands, 1)) + rng.uniform(0, 6, (strands, 1)))
    ring = np.cos(angle)[..., None] * start[:, None] + np.sin(angle)[..., None] * third[:, None]
    path = unit(ring + wave[..., None] * axis[:, None]) * radius * rng.uniform(0.75, 1.04, (strands, 1, 1))
    return _finish((centre + path).astype(np.float32), np.arange(strands) // 8 * 8, colours, rng)


def _finish(points: Array, leader: Indices, colours: Array, rng: np.random.Generator) -> Strands:
    """Width, colour and opacity: thinner and lighter towards the tip, no two strands of one colour."""
    count = len(points)
    along = np.linspace(0, 1, points.shape[1], dtype=np.float32)[None]
    width = 0.0009 * (1 - 0.55 * along**2) * rng.uniform(0.6, 1.2, (count, 1))
    lock = np.exp(rng.normal(0, 0.13, (count, 1, 1)))[leader]
    own = lock * np.exp(rng.normal(0, 0.14, (count, 1, 1)) + rng.normal(0, 0.03, (count, 1, 3)))
    colour = (colours[0] + along[..., None] * (colours[1] - colours[0])) * own
    opacity = np.clip(1.15 - along**4, 0, 1) * np.ones((count, 1)) * 0.92
    return Strands.of(points, width, np.clip(colour, 0.004, 0.9), opacity, leader)
