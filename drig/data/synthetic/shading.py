"""What colour every pixel of the solid surfaces has: skin, eyes, mouth, cloth and spectacle frames.

Everything is linear light. A white surface that faces a lamp of colour 1 sends back 1, so that for skin
picture = albedo x diffuse + gloss.

Legend: H, W pixels, V vertices, F faces, T texture side, R lamp rays.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from drig.data.synthetic.arrays import Array, Indices
from drig.data.synthetic.shadows import reaches

SKIN, EYE_RIGHT, EYE_LEFT, MOUTH, CLOTH, FRAME = range(6)
"""Materials of faces."""

_WRAP = (0.28, 0.12, 0.08)
"""How far light bleeds past the terminator in skin: red travels farthest under it."""


class Surface(NamedTuple):
    """A triangle mesh in the camera's frame (metres, the camera on the +z axis), ready to be shaded."""

    vertices: Array
    """(V, 3)"""
    faces: Indices
    """(F, 3)"""
    normals: Array
    """(V, 3) unit."""
    sky: Array
    """(V, 3) irradiance of the surroundings, what stands in their way left out."""
    openness: Array
    """(V,) share of the surroundings that is seen."""
    roughness: Array
    """(V,) of the gloss, 0..1."""
    tint: Array
    """(V,) share of the skin that hair roots hide."""
    uv: Array
    """(F, 3, 2) texture coordinates of each face's corners."""
    material: Indices
    """(F,)"""


class Paint(NamedTuple):
    """Colours, linear RGB."""

    skin: Array
    """(T, T, 3) reflectance, v = 1 at the top row."""
    cloth: Array
    """(T', T', 3) reflectance, repeated."""
    frame: Array
    """(3,) reflectance of spectacle frames."""
    hair: Array
    """(3,) reflectance of hair roots."""
    grain: Array
    """(B, B, 3) repeated: relative mottling of the skin, and the slope of its fine relief in two directions."""
    relief: float
    """Strength of that relief."""


class Eyes(NamedTuple):
    """The person's right and left eye."""

    centre: Array
    """(2, 3)"""
    radius: Array
    """(2,)"""
    gaze: Array
    """(2, 3) unit vectors."""
    lids: Array
    """(2, L, 3) the edge of the upper lid."""
    iris: Array
    """(2, 3) reflectance at the pupil and at the rim."""
    rim: float
    """Sine of the iris's angle seen from the eye's centre."""
    pupil: float
    """The same of the pupil."""


class Lamps(NamedTuple):
    """Rays of the lamps with their shadow maps (see `shadows.ShadowMaps`)."""

    rays: Array
    colours: Array
    """(R, 3)"""
    solid: Array
    hair: Array
    sides: Array
    radius: float
    sky_above: Array
    """(3,) radiance from above, for reflections."""
    sky_below: Array
    """(3,)"""


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _texel(texture: Array, u: float, v: float, channel: int) -> float:
    """Bilinear sample with clamped edges."""
    height, width = texture.shape[0], texture.shape[1]
    x = min(max(u * width - 0.5, 0.0), width - 1.001)
    y = min(max((1.0 - v) * height - 0.5, 0.0), height - 1.001)
    j, i = int(x), int(y)
    fx, fy = x - j, y - i
    top = texture[i, j, channel] * (1 - fx) + texture[i, j + 1, channel] * fx
    bottom = texture[i + 1, j, channel] * (1 - fx) + texture[i + 1, j + 1, channel] * fx
    return float(top * (1 - fy) + bottom * fy)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _gloss(
    nx: float,
    ny: float,
    nz: float,
    vx: float,
    vy: float,
    vz: float,
    lx: float,
    ly: float,
    lz: float,
    roughness: float,
    reflectance: float,
) -> float:
    """GGX with Kelemen's visibility and Schlick's Fresnel term, times pi and the cosine: normal, view and light."""
    hx, hy, hz = lx + vx, ly + vy, lz + vz
    length = 1.0 / max(np.sqrt(hx * hx + hy * hy + hz * hz), 1e-6)
    cosine = max((nx * hx + ny * hy + nz * hz) * length, 0.0)
    half = max((vx * hx + vy * hy + vz * hz) * length, 0.1)
    a2 = roughness**4
    lobe = a2 / (cosine * cosine * (a2 - 1.0) + 1.0) ** 2
    fresnel = reflectance + (1.0 - reflectance) * (1.0 - half) ** 5
    return float(lobe * fresnel / (4.0 * half * half) * max(nx * lx + ny * ly + nz * lz, 0.0))


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _smoothstep(low: float, high: float, x: float) -> float:
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _segment_distance(px: float, py: float, pz: float, a: Array, b: Array) -> float:
    dx, dy, dz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    qx, qy, qz = px - a[0], py - a[1], pz - a[2]
    t = min(max((qx * dx + qy * dy + qz * dz) / (dx * dx + dy * dy + dz * dz + 1e-12), 0.0), 1.0)
    ex, ey, ez = qx - t * dx, qy - t * dy, qz - t * dz
    return float(np.sqrt(ex * ex + ey * ey + ez * ez))


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _sphere_hit(
    px: float, py: float, pz: float, vx: float, vy: float, vz: float, centre: Array, radius: float
) -> tuple[float, float, float]:
    """Unit normal of a sphere where the sight line through p (view vector v) meets it; its rim where it misses."""
    ox, oy, oz = px - centre[0], py - centre[1], pz - centre[2]
    along = ox * vx + oy * vy + oz * vz
    ox, oy, oz = ox - along * vx, oy - along * vy, oz - along * vz
    lift = np.sqrt(max(radius * radius - (ox * ox + oy * oy + oz * oz), 0.0))
    nx, ny, nz = ox + lift * vx, oy + lift * vy, oz + lift * vz
    length = 1.0 / max(np.sqrt(nx * nx + ny * ny + nz * nz), 1e-9)
    return nx * length, ny * length, nz * length


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _iris(eyes: Eyes, nx: float, ny: float, nz: float, side: int, out: Array) -> None:
    """Colour of the eyeball at normal n: sclera, limbal ring, streaked iris, pupil."""
    gaze = eyes.gaze[side]
    cosine = nx * gaze[0] + ny * gaze[1] + nz * gaze[2]
    sine = np.sqrt(max(1.0 - cosine * cosine, 0.0)) if cosine > 0 else 1.0
    rim = eyes.rim
    inside = 1.0 - _smoothstep(rim - 0.035, rim + 0.02, sine)
    hole = 1.0 - _smoothstep(eyes.pupil - 0.03, eyes.pupil + 0.03, sine)
    ring = _smoothstep(rim - 0.14, rim - 0.02, sine)
    angle = np.arctan2(ny - cosine * gaze[1], nx - cosine * gaze[0])
    streak = 1.0 + 0.22 * np.sin(angle * 23.0 + 3.0 * np.sin(angle * 5.0)) + 0.12 * np.sin(angle * 41.0 + side)
    blend = _smoothstep(eyes.pupil, rim, sine)
    red = _smoothstep(0.55, 1.0, sine)
    for c in range(3):
        white = (0.72, 0.66, 0.63)[c] - (0.02, 0.13, 0.13)[c] * red
        iris = (eyes.iris[0, c] + blend * (eyes.iris[1, c] - eyes.iris[0, c])) * streak * (1.0 - 0.72 * ring)
        out[c] = white + inside * (iris * (1.0 - hole) + 0.004 - white)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def shade(
    face: Indices,
    bary: Array,
    surface: Surface,
    paint: Paint,
    eyes: Eyes,
    lamps: Lamps,
    distance: float,
    picture: Array,
    diffuse: Array,
    depth: Array,
) -> None:
    """Fills picture (H, W, 3), diffuse (H, W, 3: the irradiance that skin turns into colour) and depth (H, W).

    face (H, W), bary (H, W, 3): what is seen, -1 leaves the pixel as it is. distance: of the camera from the origin.
    """
    base = np.empty(3, np.float32)
    light = np.empty(3, np.float32)
    shine = np.empty(3, np.float32)
    solid, hair, sides, rays, colours = lamps.solid, lamps.hair, lamps.sides, lamps.rays, lamps.colours
    for i in range(face.shape[0]):
        for j in range(face.shape[1]):
            f = face[i, j]
            if f < 0:
                continue
            px = py = pz = nx = ny = nz = u = v = open_ = rough = tint = 0.0
            light[:] = 0.0
            shine[:] = 0.0
            for k in range(3):
                w = bary[i, j, k]
                vertex = surface.faces[f, k]
                px += w * surface.vertices[vertex, 0]
                py += w * surface.vertices[vertex, 1]
                pz += w * surface.vertices[vertex, 2]
                nx += w * surface.normals[vertex, 0]
                ny += w * surface.normals[vertex, 1]
                nz += w * surface.normals[vertex, 2]
                u += w * surface.uv[f, k, 0]
                v += w * surface.uv[f, k, 1]
                open_ += w * surface.openness[vertex]
                rough += w * surface.roughness[vertex]
                tint += w * surface.tint[vertex]
                for c in range(3):
                    light[c] += w * surface.sky[vertex, c]
            depth[i, j] = -pz
            vx, vy, vz = -px, -py, distance - pz
            length = 1.0 / np.sqrt(vx * vx + vy * vy + vz * vz)
            vx, vy, vz = vx * length, vy * length, vz * length
            material = surface.material[f]
            wrap_r, wrap_g, wrap_b = _WRAP
            reflectance = 0.028
            length = 1.0 / max(np.sqrt(nx * nx + ny * ny + nz * nz), 1e-6)
            nx, ny, nz = nx * length, ny * length, nz * length
            # Shadows are looked up above the surface, so that the mesh's corners do not show.
            sx, sy, sz = px + 0.004 * nx, py + 0.004 * ny, pz + 0.004 * nz
            gx, gy, gz = nx, ny, nz  # the normal that gloss sees
            if material in (SKIN, MOUTH):
                size = paint.grain.shape[0]
                a, b = int(v * 6.0 * size) % size, int(u * 6.0 * size) % size
                mottle = 1.0 + paint.grain[a, b, 0]
                if material == MOUTH:
                    mottle, rough, reflectance = 1.0, 0.3, 0.04
                for c in range(3):
                    base[c] = _texel(paint.skin, u, v, c) * mottle
                    base[c] += tint * (paint.hair[c] - base[c])
                gx += paint.relief * paint.grain[a, b, 1]
                gy += paint.relief * paint.grain[a, b, 2]
                length = 1.0 / np.sqrt(gx * gx + gy * gy + gz * gz)
                gx, gy, gz = gx * length, gy * length, gz * length
                nx, ny, nz = 0.6 * nx + 0.4 * gx, 0.6 * ny + 0.4 * gy, 0.6 * nz + 0.4 * gz
            elif material in (EYE_RIGHT, EYE_LEFT):
                side = material - EYE_RIGHT
                nx, ny, nz = _sphere_hit(px, py, pz, vx, vy, vz, eyes.centre[side], eyes.radius[side])
                _iris(eyes, nx, ny, nz, side, base)
                near = 1.0
                for k in range(eyes.lids.shape[1] - 1):
                    near = min(near, _segment_distance(px, py, pz, eyes.lids[side, k], eyes.lids[side, k + 1]))
                shadow = 0.3 + 0.7 * _smoothstep(0.0, 0.0055, near)
                for c in range(3):
                    base[c] *= shadow
                # The cornea bulges over the iris: its own smaller sphere carries the reflections.
                gaze, r = eyes.gaze[side], eyes.radius[side]
                cornea = eyes.centre[side] + gaze * np.float32(0.5 * r)
                cx, cy, cz = _sphere_hit(px, py, pz, vx, vy, vz, cornea, 0.58 * r)
                edge = np.sqrt(1.0 - eyes.rim * eyes.rim)
                over = _smoothstep(edge - 0.06, edge, nx * gaze[0] + ny * gaze[1] + nz * gaze[2])
                gx, gy, gz = nx + over * (cx - nx), ny + over * (cy - ny), nz + over * (cz - nz)
                rough, reflectance = 0.16, 0.05
                wrap_r = wrap_g = wrap_b = 0.25
                sx, sy, sz = px + 0.007 * nx, py + 0.007 * ny, pz + 0.007 * nz
            elif material == CLOTH:
                size = paint.cloth.shape[0]
                a, b = int((1.0 - v) * size) % size, int(u * size) % size
                for c in range(3):
                    base[c] = paint.cloth[a, b, c]
                rough, reflectance = 0.8, 0.03
                wrap_r = wrap_g = wrap_b = 0.1
            else:
                for c in range(3):
                    base[c] = paint.frame[c]
                rough, reflectance = 0.28, 0.05
                wrap_r = wrap_g = wrap_b = 0.0
            for ray in range(rays.shape[0]):
                lx, ly, lz = rays[ray, 0], rays[ray, 1], rays[ray, 2]
                cosine = nx * lx + ny * ly + nz * lz
                if cosine <= -wrap_r:
                    continue
                seen = reaches(solid, hair, sides, rays, ray, lamps.radius, sx, sy, sz)
                if seen <= 0.002:
                    continue
                lobe = _gloss(gx, gy, gz, vx, vy, vz, lx, ly, lz, rough, reflectance)
                light[0] += colours[ray, 0] * seen * max(cosine + wrap_r, 0.0) / ((1.0 + wrap_r) * (1.0 + wrap_r))
                light[1] += colours[ray, 1] * seen * max(cosine + wrap_g, 0.0) / ((1.0 + wrap_g) * (1.0 + wrap_g))
                light[2] += colours[ray, 2] * seen * max(cosine + wrap_b, 0.0) / ((1.0 + wrap_b) * (1.0 + wrap_b))
                for c in range(3):
                    shine[c] += colours[ray, c] * seen * lobe
            facing = max(gx * vx + gy * vy + gz * vz, 0.0)
            mirror = reflectance + (1.0 - reflectance) * (1.0 - facing) ** 5 * (1.0 - rough)
            above = 0.5 + 0.5 * (2.0 * facing * gy - vy)
            for c in range(3):
                surroundings = lamps.sky_below[c] + above * (lamps.sky_above[c] - lamps.sky_below[c])
                shine[c] += mirror * surroundings * open_
                picture[i, j, c] = base[c] * light[c] + shine[c]
                diffuse[i, j, c] = light[c]


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def gather_sky(
    points: Array,
    normals: Array,
    rays: Array,
    colours: Array,
    solid: Array,
    hair: Array,
    sides: Array,
    radius: float,
    lift: float,
) -> tuple[Array, Array]:
    """(P, 3) irradiance and (P,) openness from rays (R, 3) at points (P, 3), looked up `lift` metres above them."""
    light = np.zeros((len(points), 3), np.float32)
    openness = np.zeros(len(points), np.float32)
    for p in range(len(points)):
        nx, ny, nz = normals[p, 0], normals[p, 1], normals[p, 2]
        x, y, z = points[p, 0] + lift * nx, points[p, 1] + lift * ny, points[p, 2] + lift * nz
        reachable = 0.0
        for r in range(len(rays)):
            cosine = nx * rays[r, 0] + ny * rays[r, 1] + nz * rays[r, 2]
            if cosine > 0:
                seen = cosine * reaches(solid, hair, sides, rays, r, radius, x, y, z)
                reachable += cosine
                openness[p] += seen
                for c in range(3):
                    light[p, c] += colours[r, c] * seen
        openness[p] /= max(reachable, 1e-6)
    return light, openness
