"""A scene in its light: shadow maps of lamps and surroundings, and what they do to surfaces and strands."""

from dataclasses import dataclass

import numpy as np

from drig.data.synthetic.arrays import Array, unit, vector
from drig.data.synthetic.framing import View
from drig.data.synthetic.hair_light import light_strands
from drig.data.synthetic.lights import Light
from drig.data.synthetic.people import Person
from drig.data.synthetic.scene import Scene
from drig.data.synthetic.shading import Lamps, gather_sky
from drig.data.synthetic.shadows import ShadowMaps, cast
from drig.data.synthetic.strands import Strands
from drig.data.synthetic.surfaces import MOUTH, Surface

_LAMP_MAP, _SKY_MAP = 144, 72  # sides of the shadow maps in texels
_REACH = 0.19  # metres around the face's centre that cast shadows
_HAIR_SHADOWS = 20000  # about how many points of hair cast shadows
_SHADOW_STEP = 0.004  # metres between them along a strand: about the width of a texel


@dataclass(frozen=True, eq=False)
class Illumination:
    """One scene's light."""

    light: Light
    lamps: Lamps
    sky: ShadowMaps
    sky_colours: Array
    """(E, 3) of the surroundings' rays."""


def illuminate(light: Light, scene: Scene) -> Illumination:
    """Draws the shadow maps."""
    rays, colours = light.lamp_rays()
    sky_rays, sky_colours = light.sky_rays()
    hair, area = _hair_in_the_way(scene.hair)
    maps = cast(scene.vertices, scene.faces, hair, area, rays, _LAMP_MAP, _REACH)
    sky = cast(scene.vertices, scene.faces, hair, area, sky_rays, _SKY_MAP, _REACH)
    above, below = np.array(light.sky, np.float32), np.array(light.ground, np.float32)
    lamps = Lamps(maps.rays, colours, maps.solid, maps.hair, maps.sides, maps.radius, above, below)
    return Illumination(light, lamps, sky, sky_colours)


def _hair_in_the_way(hair: Strands | None) -> tuple[Array, Array]:
    """Points (P, 3) on some of the strands, close together, and the area (P,) in m^2 that each stands for."""
    if hair is None:
        return np.zeros((0, 3), np.float32), np.zeros(0, np.float32)
    step = np.linalg.norm(np.diff(hair.points[::16], axis=1), axis=-1)  # (S', K - 1)
    pieces = max(1, round(float(step.mean()) / _SHADOW_STEP))
    skip = max(1, round(len(hair) * step.shape[1] * pieces / _HAIR_SHADOWS))
    points, width = hair.points[::skip], hair.width[::skip, 1:] * hair.opacity[::skip, 1:]
    t = ((np.arange(pieces) + 0.5) / pieces).astype(np.float32)[:, None]
    between = points[:, :-1, None] + t * np.diff(points, axis=1)[:, :, None]  # (S, K - 1, pieces, 3)
    area = skip / pieces * np.linalg.norm(np.diff(points, axis=1), axis=-1) * width
    return between.reshape(-1, 3), np.repeat(area.reshape(-1), pieces).astype(np.float32)


def light_surface(person: Person, scene: Scene, lit: Illumination) -> Surface:
    """The scene's mesh with the light of its surroundings at every vertex."""
    maps = lit.sky
    sky, openness = gather_sky(
        scene.vertices, scene.normals, maps.rays, lit.sky_colours, maps.solid, maps.hair, maps.sides, maps.radius, 0.004
    )
    sky = np.maximum(sky, _bounce_in_mouth(scene, lit.light))
    extra = len(scene.vertices) - len(person.tint)
    skin = np.concatenate([person.skin_map, person.roughness[:, None], person.tint[:, None]], 1)
    skin = np.pad(skin, ((0, extra), (0, 0)))
    values = np.concatenate([scene.normals, skin[:, :2], openness[:, None], skin[:, 2:], sky], 1)
    return Surface(scene.vertices, scene.faces, values.astype(np.float32), scene.uv, scene.material)


def _bounce_in_mouth(scene: Scene, light: Light) -> Array:
    """(V, 3) least light of the inside of the mouth, which flesh and teeth hand on between them: less further in."""
    inside = np.unique(scene.faces[scene.material == MOUTH])
    ambient = 0.5 * (np.array(light.sky) + np.array(light.ground)) + 0.2 * np.array(light.lamps[0].colour)
    floor = np.zeros_like(scene.vertices)
    depth = np.linalg.norm(scene.vertices[inside] - scene.lips, axis=1)
    floor[inside] = 0.75 * np.exp(-((depth / 0.026) ** 2))[:, None] * ambient
    return floor


def light_hair(view: View, scene: Scene, strands: Strands, gloss: float, lit: Illumination, lift: float = 0.0) -> Array:
    """(S, K, 3) linear RGB of strands. gloss: strength of the sheen. lift: metres towards the camera by which strands
    that lie on the skin are lit as if they were out of its shadow."""
    points = strands.points + vector(0, 0, lift) if lift else strands.points
    normals = unit(points - scene.skull)
    return light_strands(
        points,
        normals,
        strands.leader,
        strands.colour,
        lit.lamps,
        lit.sky,
        lit.sky_colours,
        view.camera.distance,
        gloss,
    )
