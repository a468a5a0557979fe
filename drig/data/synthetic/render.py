"""From a person and a shot to a portrait with its ground truth.

Legend: S side of the portrait, H = W = its side while it is drawn (supersampled), V vertices.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from drig.data.synthetic.arrays import Array, Indices, vector
from drig.data.synthetic.backgrounds import paint_background
from drig.data.synthetic.bodies import weave
from drig.data.synthetic.framing import View, frame, orthographic_camera, to_codes
from drig.data.synthetic.hair_light import light_strands, stride, surroundings
from drig.data.synthetic.people import Person, iris_colours
from drig.data.synthetic.scene import Scene, assemble
from drig.data.synthetic.shading import SKIN, Eyes, Lamps, Paint, Surface, gather_sky, shade
from drig.data.synthetic.shadows import ShadowMaps, cast
from drig.data.synthetic.shots import Shot
from drig.data.synthetic.strands import Strands, paint_strands
from drig.faces.codes import FaceCodes
from drig.faces.lighting import sh_basis
from drig.faces.open_head import OpenHead
from drig.faces.rasterizer import rasterize
from drig.randomness import numpy_generator

_GAMMA = 2.2
_LAMP_MAP, _SKY_MAP = 144, 72  # sides of the shadow maps in texels
_REACH = 0.19  # metres around the face's centre that cast shadows
_HAIR_SHADOWS = 24000  # points of hair that cast shadows


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
    # Strands are thinner than a pixel, so small portraits are drawn even larger in proportion.
    side = size * max(2, -(-192 // size))
    canvas = _draw(head, person, shot, view, scene, side)
    normals = _head_normals(head, person, shot, view)
    light = _fit_light(shot, canvas, normals, scene)
    codes = _codes(head, person, shot, view, scene, light)
    factor = side // size
    picture = _reduce(canvas.picture, factor)
    image = _develop(picture, shot, size)
    landmarks = view.project(view.landmarks)[:, :2]
    return SyntheticPortrait(image, codes, landmarks, _reduce(canvas.skin[..., None], factor)[..., 0])


@dataclass(frozen=True, eq=False)
class _Canvas:
    picture: Array
    """(H, W, 3) linear RGB."""
    diffuse: Array
    """(H, W, 3) light that the skin turns into colour."""
    skin: Array
    """(H, W) visible skin."""
    face: Indices
    """(H, W) index of the visible face, -1 where there is none."""
    bary: Array
    """(H, W, 3)"""


@dataclass(frozen=True, eq=False)
class _Layer:
    """Strands in front of the solid surfaces (see `strands.paint_strands`)."""

    paint: Array
    clear: Array
    depth: Array


def _draw(head: OpenHead, person: Person, shot: Shot, view: View, scene: Scene, side: int) -> _Canvas:
    lamps, sky_maps, sky_colours = _light_up(shot, scene)
    surface = _surface(person, scene, sky_maps, sky_colours)
    seen = rasterize(torch.from_numpy(view.project(scene.vertices))[None], torch.from_numpy(scene.faces).long(), side)
    face, bary = seen.face[0].numpy(), seen.bary[0].numpy()
    exposure = float(np.mean(shot.light.sky) + np.mean(shot.light.ground) + 0.35 * np.mean(shot.light.lamps[0].colour))
    picture = np.repeat(np.repeat(paint_background(shot.background, side // 2), 2, 0), 2, 1) * np.float32(
        0.75 * exposure + 0.25
    )
    picture = np.ascontiguousarray(picture, np.float32)
    diffuse = np.zeros_like(picture)
    depth = np.full((side, side), np.inf, np.float32)
    shade(
        face,
        bary,
        surface,
        _paint(person, shot),
        _eyes(head, person, scene),
        lamps,
        view.camera.distance,
        picture,
        diffuse,
        depth,
    )
    _draw_lenses(view, scene, shot, picture, depth)
    layer = _Layer(np.zeros_like(picture), np.ones_like(depth), depth + np.float32(0.0015))
    if scene.hair is not None:
        _lay_strands(view, scene.hair, scene.hair_normals, 1.0, sky_maps, sky_colours, lamps, layer)
    for strands in scene.short:
        _lay_strands(view, strands, None, 0.25, sky_maps, sky_colours, lamps, layer)
    picture = layer.paint + layer.clear[..., None] * picture
    material = np.append(scene.material, 255)[face]
    return _Canvas(picture, diffuse, (material == SKIN) * layer.clear, face, bary)


def _light_up(shot: Shot, scene: Scene) -> tuple[Lamps, ShadowMaps, Array]:
    rays, colours = shot.light.lamp_rays()
    sky_rays, sky_colours = shot.light.sky_rays()
    hair, thickness = _hair_in_the_way(scene.hair)
    maps = cast(scene.vertices, scene.faces, hair, thickness, rays, _LAMP_MAP, _REACH)
    sky_maps = cast(scene.vertices, scene.faces, hair, thickness, sky_rays, _SKY_MAP, _REACH)
    above, below = np.array(shot.light.sky, np.float32), np.array(shot.light.ground, np.float32)
    return (
        Lamps(maps.rays, colours, maps.solid, maps.hair, maps.sides, maps.radius, above, below),
        sky_maps,
        sky_colours,
    )


def _hair_in_the_way(hair: Strands | None) -> tuple[Array, Array]:
    """A sample of the hair's points, and the area (m^2) that each stands for."""
    if hair is None:
        return np.zeros((0, 3), np.float32), np.zeros(0, np.float32)
    skip = max(1, round(hair.points.shape[0] * hair.points.shape[1] / _HAIR_SHADOWS))
    points = hair.points[::skip]
    step = np.linalg.norm(np.diff(points, axis=1), axis=-1)
    area = skip * step * hair.width[::skip, 1:] * hair.opacity[::skip, 1:]
    return np.ascontiguousarray(points[:, 1:].reshape(-1, 3)), area.reshape(-1).astype(np.float32)


def _surface(person: Person, scene: Scene, maps: ShadowMaps, colours: Array) -> Surface:
    sky, openness = gather_sky(
        scene.vertices, scene.normals, maps.rays, colours, maps.solid, maps.hair, maps.sides, maps.radius, 0.004
    )
    extra = len(scene.vertices) - len(person.tint)
    rough, tint = np.pad(person.roughness, (0, extra)), np.pad(person.tint, (0, extra))
    return Surface(scene.vertices, scene.faces, scene.normals, sky, openness, rough, tint, scene.uv, scene.material)


def _paint(person: Person, shot: Shot) -> Paint:
    frame_colour = np.array(person.looks.glasses.colour if person.looks.glasses else (0, 0, 0), np.float32)
    return Paint(
        person.skin,
        weave(shot.clothing),
        frame_colour,
        person.hair_reflectance,
        person.grain,
        float(person.looks.relief),
    )


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
        edge = person.lids.upper[side]
        where = np.linspace(0, len(edge) - 1, 9)
        lids.append(np.stack([np.interp(where, np.arange(len(edge)), scene.vertices[edge, k]) for k in range(3)], 1))
    arrays = (np.array(a, np.float32) for a in (centres, radii, gazes, lids))
    centre_array, radius_array, gaze_array, lid_array = arrays
    rim = 0.0061 / float(radius_array.mean())
    pupil = person.looks.pupil * rim / 0.5
    return Eyes(centre_array, radius_array, gaze_array, lid_array, iris_colours(person.looks), rim, pupil)


def _lay_strands(
    view: View,
    strands: Strands,
    normals: Array | None,
    gloss: float,
    sky_maps: ShadowMaps,
    sky_colours: Array,
    lamps: Lamps,
    layer: _Layer,
) -> None:
    """Lights a set of strands and lays it behind those that are in the layer already."""
    points = strands.points
    # Short hair has no normals of its own, and would be in the shadow of the skin that it lies on.
    above = points if normals is not None else points + vector(0, 0, 0.004)
    sky = surroundings(above, strands.leader, sky_colours, sky_maps)
    if normals is None:
        normals = np.broadcast_to(vector(0, 0, 1), points.shape)
    lit = np.empty_like(points)
    distance, step = view.camera.distance, stride(points.shape[1])
    light_strands(above, np.ascontiguousarray(normals), strands.colour, sky, lamps, distance, gloss, step, lit)
    side = len(layer.depth)
    pixels = view.project(points)
    pixels[..., :2] = (pixels[..., :2] + 1) * side / 2 - 0.5
    width = strands.width * np.float32(side / (2 * view.half))
    paint_strands(layer.paint, layer.clear, layer.depth, pixels, width, lit, strands.opacity)


def _draw_lenses(view: View, scene: Scene, shot: Shot, picture: Array, depth: Array) -> None:
    """Glass takes a little light away and mirrors a little of the surroundings."""
    if not scene.lenses:
        return
    side = depth.shape[0]
    for outline in scene.lenses:
        flat = np.concatenate([view.project(outline), view.project(outline.mean(0, keepdims=True))])
        count = len(outline)
        fan = np.stack([np.arange(count), (np.arange(count) + 1) % count, np.full(count, count)], 1)
        seen = rasterize(torch.from_numpy(flat)[None], torch.from_numpy(fan), side)
        inside = seen.face[0].numpy() >= 0
        inside &= depth > float(flat[:, 2].max()) - 0.004
        rows, columns = np.nonzero(inside)
        slant = (columns - columns.mean()) + 1.3 * (rows - rows.mean()) if len(rows) else np.zeros(0)
        streak = np.exp(-(((slant / side - 0.01) / 0.035) ** 2))
        sky = np.array(shot.light.sky) + 0.15 * np.array(shot.light.lamps[0].colour)
        picture[rows, columns] = 0.93 * picture[rows, columns] + (0.015 + 0.05 * streak[:, None]) * sky


def _head_normals(head: OpenHead, person: Person, shot: Shot, view: View) -> Array:
    """(V, 3) normals of the head that the codes pose, as the buffers have them."""
    from drig.faces.buffers import vertex_normals

    return vertex_normals(torch.from_numpy(view.vertices)[None], head.faces)[0].numpy()


def _fit_light(shot: Shot, canvas: _Canvas, normals: Array, scene: Scene) -> Array:
    """(9, 3) SH coefficients whose shading is nearest to the diffuse light on the visible skin, in display space.

    A portrait is (albedo^g x light)^(1/g) = albedo x light^(1/g), g the display's gamma: the target is light^(1/g).
    Normals that no visible skin has are held by a tenth of weight on the unshadowed light over the whole sphere.
    """
    balance = np.array(shot.light.balance, np.float32)
    step = 4 if canvas.face.shape[0] > 256 else 2
    face, bary = canvas.face[::step, ::step], canvas.bary[::step, ::step]
    shown = canvas.skin[::step, ::step] > 0.9
    shown &= face < 100000
    index = face[shown]
    corners = scene.faces[index]
    inside = (corners < len(normals)).all(1)
    n = np.einsum("pk,pkc->pc", bary[shown][inside], normals[corners[inside]])
    target = np.maximum(canvas.diffuse[::step, ::step][shown][inside] * balance, 1e-4) ** (1 / _GAMMA)
    sphere = _sphere()
    around = np.maximum(shot.light.irradiance(sphere) * balance, 1e-4) ** (1 / _GAMMA)
    weight = np.sqrt(0.1 * max(len(n), 100) / len(sphere))
    basis = np.concatenate([sh_basis(torch.from_numpy(n)).numpy(), weight * sh_basis(torch.from_numpy(sphere)).numpy()])
    solution = np.linalg.lstsq(basis, np.concatenate([target, weight * around]), rcond=None)[0]
    light: Array = solution.astype(np.float32)
    return light


def _sphere() -> Array:
    from drig.data.synthetic.lights import fibonacci_sphere

    return fibonacci_sphere(200).astype(np.float32)


def _codes(head: OpenHead, person: Person, shot: Shot, view: View, scene: Scene, light: Array) -> FaceCodes:
    codes = to_codes(person, shot, view, np.array([1, 0, 0], np.float32), light)
    vertices = head.vertices(codes)
    landmarks = head.landmarks(codes, vertices)
    front = scene.normals[: len(view.vertices), 2] > 0.2
    facing = front & (person.anatomy.vertices[:, 1] > person.anatomy.landmarks[8, 1])
    cam = orthographic_camera(view, vertices[0], landmarks[0], facing)
    return codes.replace(cam=torch.from_numpy(cam)[None])


def _reduce(picture: Array, factor: int) -> Array:
    """(H, W, C) -> (S, S, C): the mean of factor x factor pixels."""
    s = picture.shape[0] // factor
    reduced: Array = picture.reshape(s, factor, s, factor, -1).mean((1, 3), dtype=np.float32)
    return reduced


def _develop(picture: Array, shot: Shot, size: int) -> NDArray[np.uint8]:
    """Lens, white balance, tone curve and sensor noise: (S, S, 3) linear -> uint8."""
    camera = shot.camera
    sigma = camera.blur * size / 256
    if sigma > 0.15:
        picture = gaussian_filter(picture, (sigma, sigma, 0), truncate=3)
    t = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    falloff = 1 - camera.vignette * 0.5 * (t[:, None] ** 2 + t[None] ** 2)
    exposed = picture * falloff[..., None] * np.array(shot.light.balance, np.float32)
    # Highlights roll off instead of clipping.
    exposed = np.where(exposed > 0.7, 0.7 + 0.3 * np.tanh((exposed - 0.7) / 0.45), exposed)
    display = np.clip(exposed, 0, 1) ** (1 / _GAMMA)
    noise = numpy_generator(shot.seed, "sensor").standard_normal(display.shape, np.float32)
    display = display + noise * camera.noise * (1.3 - display)
    image: NDArray[np.uint8] = np.clip(np.rint(display * 255), 0, 255).astype(np.uint8)
    return image
