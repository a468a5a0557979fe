"""From a person and a shot to a portrait with its ground truth.

Legend: S side of the portrait, H = W = its side while it is drawn (supersampled), P covered pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from drig.data.synthetic.arrays import Array, Indices, Mask
from drig.data.synthetic.backgrounds import paint_background
from drig.data.synthetic.bodies import weave
from drig.data.synthetic.developing import develop, reduce
from drig.data.synthetic.framing import View, frame
from drig.data.synthetic.illumination import Illumination, illuminate, light_hair, light_surface
from drig.data.synthetic.lights import Light
from drig.data.synthetic.people import Person, iris_colours
from drig.data.synthetic.scene import Scene, assemble
from drig.data.synthetic.shading import shade
from drig.data.synthetic.shots import Shot
from drig.data.synthetic.strands import Strands, only, paint_strands
from drig.data.synthetic.surfaces import SKIN, Eyes, Paint, colour, interpolate
from drig.data.synthetic.truth import fit_light, true_codes
from drig.faces.codes import FaceCodes
from drig.faces.open_head import OpenHead
from drig.faces.rasterizer import rasterize

_LEAST_SIDE = 192  # Strands are thinner than a pixel: smaller pictures than this are drawn this large.
_IRIS = 0.0061  # metres, of everybody


@dataclass(frozen=True, eq=False)
class SyntheticPortrait:
    """A photo of a synthetic person, and the truth about it."""

    image: NDArray[np.uint8]
    """(S, S, 3) RGB: an FFHQ crop."""
    codes: FaceCodes
    """One face. Its light explains the diffuse light on visible skin in display space: portrait ~ albedo x shading."""
    landmarks: Array
    """(68, 2) image NDC, y down: the true ones, hidden points included."""
    skin: Array
    """(S, S) share of each pixel that shows skin, in [0, 1]."""


def render_portrait(head: OpenHead, person: Person, shot: Shot, size: int = 256) -> SyntheticPortrait:
    """One photo of one person, size x size."""
    view = frame(head, person, shot)
    scene = assemble(head, person, shot, view)
    lit = illuminate(shot.light, scene)
    factor = max(2, -(-_LEAST_SIDE // size))
    solids = _draw_solids(head, person, shot, view, scene, lit, size * factor)
    _draw_lenses(view, scene, shot.light, solids)
    layer = _lay_strands(view, scene, lit, solids.depth)
    picture = layer.paint + layer.clear[..., None] * solids.picture
    skin = np.zeros_like(layer.clear)
    skin[solids.rows, solids.columns] = solids.skin * layer.clear[solids.rows, solids.columns]
    bare = solids.skin & (layer.clear[solids.rows, solids.columns] > 0.9)
    few = slice(None, None, 8 * (size * factor) // 512 or 1)
    face, bary = solids.face[few], solids.bary[few]
    light = fit_light(shot.light, head, view, face, bary, bare[few], solids.diffuse[few])
    return SyntheticPortrait(
        image=develop(reduce(picture, factor), shot),
        codes=true_codes(head, person, shot, view, light),
        landmarks=np.ascontiguousarray(view.project(view.landmarks)[:, :2]),
        skin=reduce(skin, factor),
    )


@dataclass(frozen=True, eq=False)
class _Solids:
    """The scene without its strands, on the background."""

    picture: Array
    """(H, W, 3) linear RGB."""
    depth: Array
    """(H, W) metres, infinite where nothing is."""
    rows: Indices
    """(P,) of the covered pixels; likewise what follows."""
    columns: Indices
    face: Indices
    bary: Array
    skin: Mask
    diffuse: Array
    """(P, 3) light that skin turns into colour."""


def _draw_solids(
    head: OpenHead, person: Person, shot: Shot, view: View, scene: Scene, lit: Illumination, side: int
) -> _Solids:
    seen = rasterize(torch.from_numpy(view.project(scene.vertices))[None], torch.from_numpy(scene.faces).long(), side)
    face, bary = seen.face[0].numpy(), seen.bary[0].numpy()
    rows, columns, at, leader = interpolate(face, bary, light_surface(person, scene, lit))
    face, bary = face[rows, columns], bary[rows, columns]
    material, distance = scene.material[face], view.camera.distance
    base, answer = colour(at, material, _paint(person, shot, side), _eyes(head, person, scene), distance)
    diffuse, gloss = shade(at, answer, leader, lit.lamps, distance)
    picture = _backdrop(shot, side)
    picture[rows, columns] = base * diffuse + gloss
    depth = np.full((side, side), np.inf, np.float32)
    depth[rows, columns] = -at[:, 2]
    return _Solids(picture, depth, rows, columns, face, bary, material == SKIN, diffuse)


def _backdrop(shot: Shot, side: int) -> Array:
    """(H, W, 3): the background, as bright as the surroundings of the face."""
    light = shot.light
    ambient = float(np.mean(light.sky) + np.mean(light.ground) + 0.35 * np.mean(light.lamps[0].colour))
    painted = paint_background(shot.background, side // 2) * np.float32(0.75 * ambient + 0.25)
    return np.repeat(np.repeat(painted, 2, 0), 2, 1)


def _paint(person: Person, shot: Shot, side: int) -> Paint:
    glasses = person.looks.glasses
    rims = np.array(glasses.colour if glasses else (0, 0, 0), np.float32)
    # Relief finer than a pixel only makes the skin sparkle.
    relief = person.looks.relief * min(side / 1024, 1.0)
    return Paint(person.skin, weave(shot.clothing), rims, person.hair_reflectance, person.grain, relief)


def _eyes(head: OpenHead, person: Person, scene: Scene) -> Eyes:
    """The eyeballs where the expression has turned them: at rest they look ahead."""
    centres, radii, gazes, lids = [], [], [], []
    parts = head.face_parts.numpy()
    for side, name in enumerate(("eye_right", "eye_left")):
        ball = np.unique(person.anatomy.faces[parts == head.part_names.index(name)])
        points, at_rest = scene.vertices[ball], person.anatomy.vertices[ball]
        centre = 0.5 * (points.min(0) + points.max(0))
        centres.append(centre)
        radii.append(float(np.linalg.norm(points - centre, axis=1).mean()))
        turned, _ = Rotation.align_vectors(points - points.mean(0), at_rest - at_rest.mean(0))
        gazes.append(turned.apply([0, 0, 1]))
        edge = scene.vertices[person.lids.upper[side]]
        where = np.linspace(0, len(edge) - 1, 9)
        lids.append(np.stack([np.interp(where, np.arange(len(edge)), edge[:, k]) for k in range(3)], 1))
    centre, radius, gaze, lid = (np.array(a, np.float32) for a in (centres, radii, gazes, lids))
    rim = _IRIS / float(radius.mean())
    return Eyes(centre, radius, gaze, lid, iris_colours(person.looks), rim, person.looks.pupil * rim)


@dataclass(frozen=True, eq=False)
class _Layer:
    """Strands in front of the solid surfaces (see `strands.paint_strands`)."""

    paint: Array
    clear: Array


def _lay_strands(view: View, scene: Scene, lit: Illumination, depth: Array) -> _Layer:
    """Lays long hair over lashes, brows and beard."""
    layer = _Layer(np.zeros((*depth.shape, 3), np.float32), np.ones_like(depth))
    if scene.hair is not None:
        hair = only(scene.hair, _in_sight(view, scene.hair, depth))
        colours = light_hair(view, scene, hair, 1.0, lit)
        _paint_strands(view, hair, colours, depth + np.float32(0.0015), layer)
    for strands in scene.short:
        colours = light_hair(view, scene, strands, 0.25, lit, lift=0.004)
        # Lids and brows bulge over the roots of what grows on them.
        _paint_strands(view, strands, colours, depth + np.float32(0.006), layer)
    return layer


def _in_sight(view: View, strands: Strands, depth: Array) -> Mask:
    """(S,) strands of which some point is in the picture and not behind a surface."""
    side = len(depth)
    seen = view.project(strands.points[:, ::2])
    column, row = (((seen[..., k] + 1) * np.float32(side / 2)).astype(np.int32) for k in (0, 1))
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    nearest = depth[np.clip(row, 0, side - 1), np.clip(column, 0, side - 1)]
    return np.asarray((inside & (seen[..., 2] < nearest + np.float32(0.004))).any(1))


def _paint_strands(view: View, strands: Strands, colours: Array, depth: Array, layer: _Layer) -> None:
    side = len(depth)
    pixels = view.project(strands.points)
    pixels[..., :2] = (pixels[..., :2] + 1) * np.float32(side / 2) - np.float32(0.5)
    width = strands.width * np.float32(side / (2 * view.half))
    paint_strands(layer.paint, layer.clear, depth, pixels, width, colours, strands.opacity)


def _draw_lenses(view: View, scene: Scene, light: Light, solids: _Solids) -> None:
    """Glass takes a little light away and mirrors a streak of the surroundings."""
    side = len(solids.depth)
    for outline in scene.lenses:
        flat = np.concatenate([view.project(outline), view.project(outline.mean(0, keepdims=True))])
        around = np.arange(len(outline))
        fan = np.stack([around, (around + 1) % len(outline), np.full_like(around, len(outline))], 1)
        seen = rasterize(torch.from_numpy(flat)[None], torch.from_numpy(fan), side)
        inside = (seen.face[0].numpy() >= 0) & (solids.depth > float(flat[:, 2].max()) - 0.004)
        rows, columns = np.nonzero(inside)
        if len(rows):
            slant = ((columns - columns.mean()) + 1.3 * (rows - rows.mean())) / side
            streak = np.exp(-(((slant - 0.01) / 0.035) ** 2))[:, None]
            mirrored = np.array(light.sky) + 0.15 * np.array(light.lamps[0].colour)
            picture = solids.picture
            picture[rows, columns] = 0.93 * picture[rows, columns] + (0.015 + 0.05 * streak) * mirrored
