"""What every pixel shows: skin, eyes, mouth, cloth or spectacle frames, its colour, and how it answers to light.

Legend: H, W pixels, P pixels that a surface covers, V vertices, F faces, T texture side.
"""

from typing import NamedTuple

import numpy as np

from drig.data.synthetic.arrays import Array, Indices, compiled

SKIN, EYE_RIGHT, EYE_LEFT, MOUTH, CLOTH, FRAME = range(6)
"""Materials of faces."""

X, NX, U, GRAIN, OPEN, ROUGH, TINT, SKY = 0, 3, 6, 8, 10, 11, 12, 13
"""Columns of what is interpolated at a pixel: position (3), normal (3), texture (2), and the rest of Surface.values."""
COLUMNS = 16

GLOSS, PLACE, GLOSS_ROUGH, REFLECTANCE, WRAP = 3, 6, 9, 10, 11
"""Columns of how a pixel answers to light: normal for diffuse light (3), normal for gloss (3), where its shadow is
looked up (3), roughness and reflectance of the gloss, and how far red, green and blue light wrap around it (3)."""
ANSWERS = 14

_SKIN_WRAP = (0.28, 0.12, 0.08)  # red travels farthest under the skin
_GRAIN_SIDE = 0.05  # metres that one tile of the skin's grain covers


class Surface(NamedTuple):
    """A triangle mesh in the view's frame (metres, the camera on the +z axis)."""

    vertices: Array
    """(V, 3)"""
    faces: Indices
    """(F, 3)"""
    values: Array
    """(V, 12): normal, then the skin's own coordinates in metres (2), the share of the surroundings that is seen,
    roughness, share of the skin that hair roots hide, and irradiance of the surroundings (3); two are unused."""
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


@compiled
def interpolate(face: Array, bary: Array, surface: Surface) -> tuple[Indices, Indices, Array, Indices]:
    """Rows (P,), columns (P,) and interpolated values (P, COLUMNS) of the covered pixels, and their leaders (P,).

    Pixels of one 2 x 2 block that show the same piece of surface share the light of their leader, as in multisampling.
    """
    height, width = face.shape
    count = 0
    for i in range(height):
        for j in range(width):
            if face[i, j] >= 0:
                count += 1
    rows, columns = np.empty(count, np.int32), np.empty(count, np.int32)
    leader, at = np.empty(count, np.int32), np.empty((count, COLUMNS), np.float32)
    p = 0
    for i in range(0, height, 2):
        for j in range(0, width, 2):
            first = -1
            for k in range(4):
                row, column = i + k // 2, j + k % 2
                f = face[row, column]
                if f < 0:
                    continue
                _mix(bary[row, column, 0], bary[row, column, 1], bary[row, column, 2], f, surface, at, p)
                rows[p], columns[p], leader[p] = row, column, p
                if first < 0:
                    first = p
                elif _alike(surface.material[f], surface.material[face[rows[first], columns[first]]], at, p, first):
                    leader[p] = first
                p += 1
    return rows, columns, at, leader


@compiled
def _mix(u: float, v: float, w: float, f: int, surface: Surface, at: Array, p: int) -> None:
    a, b, c = surface.faces[f, 0], surface.faces[f, 1], surface.faces[f, 2]
    for k in range(3):
        at[p, k] = u * surface.vertices[a, k] + v * surface.vertices[b, k] + w * surface.vertices[c, k]
        at[p, NX + k] = u * surface.values[a, k] + v * surface.values[b, k] + w * surface.values[c, k]
    for k in range(2):
        at[p, U + k] = u * surface.uv[f, 0, k] + v * surface.uv[f, 1, k] + w * surface.uv[f, 2, k]
    for k in range(8):
        at[p, GRAIN + k] = u * surface.values[a, 3 + k] + v * surface.values[b, 3 + k] + w * surface.values[c, 3 + k]
    length = 1.0 / max(np.sqrt(at[p, NX] ** 2 + at[p, NX + 1] ** 2 + at[p, NX + 2] ** 2), 1e-6)
    for k in range(3):
        at[p, NX + k] *= length


@compiled
def _alike(material: int, other: int, at: Array, p: int, q: int) -> bool:
    if material != other or material in (EYE_RIGHT, EYE_LEFT) or abs(at[p, X + 2] - at[q, X + 2]) > 0.003:
        return False
    agree = at[p, NX] * at[q, NX] + at[p, NX + 1] * at[q, NX + 1] + at[p, NX + 2] * at[q, NX + 2]
    return bool(agree > 0.95)


@compiled
def colour(at: Array, material: Indices, paint: Paint, eyes: Eyes, distance: float) -> tuple[Array, Array]:
    """Reflectance (P, 3) and answer to light (P, ANSWERS) of pixels with values (P, COLUMNS) and material (P,).

    distance: of the camera from the origin, on +z.
    """
    base, answer = np.empty((len(at), 3), np.float32), np.empty((len(at), ANSWERS), np.float32)
    for p in range(len(at)):
        for k in range(3):
            answer[p, k] = at[p, NX + k]
            answer[p, GLOSS + k] = at[p, NX + k]
            # Shadows are looked up above the surface, so that the mesh's corners do not show.
            answer[p, PLACE + k] = at[p, k] + 0.004 * at[p, NX + k]
        if material[p] == SKIN or material[p] == MOUTH:
            _skin(at, p, material[p] == MOUTH, paint, base, answer)
        elif material[p] == EYE_RIGHT or material[p] == EYE_LEFT:
            _eye(at, p, material[p] - EYE_RIGHT, eyes, distance, base, answer)
        elif material[p] == CLOTH:
            size = paint.cloth.shape[0]
            a, b = int((1.0 - at[p, U + 1]) * size) % size, int(at[p, U] * size) % size
            for c in range(3):
                base[p, c] = paint.cloth[a, b, c]
            _set(answer, p, 0.8, 0.03, 0.1, 0.1, 0.1)
        else:
            for c in range(3):
                base[p, c] = paint.frame[c]
            _set(answer, p, 0.28, 0.05, 0.0, 0.0, 0.0)
    return base, answer


@compiled
def _put(answer: Array, p: int, first: int, x: float, y: float, z: float) -> None:
    answer[p, first], answer[p, first + 1], answer[p, first + 2] = x, y, z


@compiled
def _set(answer: Array, p: int, rough: float, reflectance: float, red: float, green: float, blue: float) -> None:
    answer[p, GLOSS_ROUGH], answer[p, REFLECTANCE] = rough, reflectance
    answer[p, WRAP], answer[p, WRAP + 1], answer[p, WRAP + 2] = red, green, blue


@compiled
def _skin(at: Array, p: int, wet: bool, paint: Paint, base: Array, answer: Array) -> None:
    size = paint.grain.shape[0]
    a = int(at[p, GRAIN + 1] / _GRAIN_SIDE * size) % size
    b = int(at[p, GRAIN] / _GRAIN_SIDE * size) % size
    mottle = 1.0 if wet else 1.0 + paint.grain[a, b, 0]
    tint = at[p, TINT]
    for c in range(3):
        reflectance = texel(paint.skin, at[p, U], at[p, U + 1], c) * mottle
        base[p, c] = reflectance + tint * (paint.hair[c] - reflectance)
    if wet:
        _set(answer, p, 0.3, 0.04, 0.1, 0.05, 0.05)
        return
    _set(answer, p, at[p, ROUGH], 0.028, _SKIN_WRAP[0], _SKIN_WRAP[1], _SKIN_WRAP[2])
    gx = at[p, NX] + paint.relief * paint.grain[a, b, 1]
    gy = at[p, NX + 1] + paint.relief * paint.grain[a, b, 2]
    gz = at[p, NX + 2]
    length = 1.0 / np.sqrt(gx * gx + gy * gy + gz * gz)
    _put(answer, p, GLOSS, gx * length, gy * length, gz * length)
    for k in range(3):
        answer[p, k] = 0.6 * at[p, NX + k] + 0.4 * answer[p, GLOSS + k]


@compiled
def _eye(at: Array, p: int, side: int, eyes: Eyes, distance: float, base: Array, answer: Array) -> None:
    """The eyeball is coarse in the mesh: here it is the sphere that the sight line meets."""
    px, py, pz = at[p, 0], at[p, 1], at[p, 2]
    vx, vy, vz = -px, -py, distance - pz
    length = 1.0 / np.sqrt(vx * vx + vy * vy + vz * vz)
    vx, vy, vz = vx * length, vy * length, vz * length
    centre, gaze, r = eyes.centre[side], eyes.gaze[side], eyes.radius[side]
    nx, ny, nz = _sphere_hit(px, py, pz, vx, vy, vz, centre[0], centre[1], centre[2], r)
    _iris(eyes, nx, ny, nz, side, p, base)
    near = 1.0
    for k in range(eyes.lids.shape[1] - 1):
        near = min(near, _segment_distance(px, py, pz, eyes.lids[side, k], eyes.lids[side, k + 1]))
    shadow = 0.28 + 0.72 * smoothstep(0.0, 0.005, near)
    for c in range(3):
        base[p, c] *= shadow
    # The cornea bulges over the iris: a smaller sphere carries the reflections.
    forward = 0.5 * r
    cx, cy, cz = _sphere_hit(
        px, py, pz, vx, vy, vz, centre[0] + gaze[0] * forward, centre[1] + gaze[1] * forward,
        centre[2] + gaze[2] * forward, 0.58 * r,
    )  # fmt: skip
    edge = np.sqrt(1.0 - eyes.rim * eyes.rim)
    over = smoothstep(edge - 0.06, edge, nx * gaze[0] + ny * gaze[1] + nz * gaze[2])
    _put(answer, p, 0, nx, ny, nz)
    _put(answer, p, GLOSS, nx + over * (cx - nx), ny + over * (cy - ny), nz + over * (cz - nz))
    _put(answer, p, PLACE, px + 0.007 * nx, py + 0.007 * ny, pz + 0.007 * nz)
    _set(answer, p, 0.16, 0.05, 0.25, 0.25, 0.25)


@compiled
def _iris(eyes: Eyes, nx: float, ny: float, nz: float, side: int, p: int, base: Array) -> None:
    """Colour of the eyeball at normal n: sclera, limbal ring, streaked iris, pupil."""
    gaze, rim = eyes.gaze[side], eyes.rim
    cosine = nx * gaze[0] + ny * gaze[1] + nz * gaze[2]
    sine = np.sqrt(max(1.0 - cosine * cosine, 0.0)) if cosine > 0 else 1.0
    inside = 1.0 - smoothstep(rim - 0.035, rim + 0.02, sine)
    hole = 1.0 - smoothstep(eyes.pupil - 0.03, eyes.pupil + 0.03, sine)
    ring = smoothstep(rim - 0.14, rim - 0.02, sine)
    angle = np.arctan2(ny - cosine * gaze[1], nx - cosine * gaze[0])
    streak = 1.0 + 0.22 * np.sin(angle * 23.0 + 3.0 * np.sin(angle * 5.0)) + 0.12 * np.sin(angle * 41.0 + side)
    blend = smoothstep(eyes.pupil, rim, sine)
    red = smoothstep(0.55, 1.0, sine)
    for c in range(3):
        white = (0.62, 0.57, 0.55)[c] - (0.0, 0.11, 0.11)[c] * red
        iris = (eyes.iris[0, c] + blend * (eyes.iris[1, c] - eyes.iris[0, c])) * streak * (1.0 - 0.72 * ring)
        base[p, c] = white + inside * (iris * (1.0 - hole) + 0.004 - white)


@compiled
def texel(texture: Array, u: float, v: float, channel: int) -> float:
    """Bilinear sample with clamped edges."""
    height, width = texture.shape[0], texture.shape[1]
    x = min(max(u * width - 0.5, 0.0), width - 1.001)
    y = min(max((1.0 - v) * height - 0.5, 0.0), height - 1.001)
    j, i = int(x), int(y)
    fx, fy = x - j, y - i
    top = texture[i, j, channel] * (1 - fx) + texture[i, j + 1, channel] * fx
    bottom = texture[i + 1, j, channel] * (1 - fx) + texture[i + 1, j + 1, channel] * fx
    return float(top * (1 - fy) + bottom * fy)


@compiled
def smoothstep(low: float, high: float, x: float) -> float:
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@compiled
def _segment_distance(px: float, py: float, pz: float, a: Array, b: Array) -> float:
    dx, dy, dz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    qx, qy, qz = px - a[0], py - a[1], pz - a[2]
    t = min(max((qx * dx + qy * dy + qz * dz) / (dx * dx + dy * dy + dz * dz + 1e-12), 0.0), 1.0)
    ex, ey, ez = qx - t * dx, qy - t * dy, qz - t * dz
    return float(np.sqrt(ex * ex + ey * ey + ez * ez))


@compiled
def _sphere_hit(
    px: float, py: float, pz: float, vx: float, vy: float, vz: float, cx: float, cy: float, cz: float, radius: float
) -> tuple[float, float, float]:
    """Unit normal of a sphere where the sight line through p (view vector v) meets it; its rim where it misses."""
    ox, oy, oz = px - cx, py - cy, pz - cz
    along = ox * vx + oy * vy + oz * vz
    ox, oy, oz = ox - along * vx, oy - along * vy, oz - along * vz
    lift = np.sqrt(max(radius * radius - (ox * ox + oy * oy + oz * oz), 0.0))
    nx, ny, nz = ox + lift * vx, oy + lift * vy, oz + lift * vz
    length = 1.0 / max(np.sqrt(nx * nx + ny * ny + nz * nz), 1e-9)
    return nx * length, ny * length, nz * length
