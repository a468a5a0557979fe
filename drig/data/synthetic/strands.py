"""Strands, which hair, brows, lashes and beards are made of, and how they are painted.

A set of strands is a table of points, S strands with K points each. They are drawn as thin ribbons with soft edges, the
nearest first, in front of a picture of the solid surfaces.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from drig.data.synthetic.arrays import Array, Indices, Mask, compiled

_DEPTH_BINS = 4096


@dataclass(frozen=True, eq=False)
class Strands:
    """S strands of K points each, in metres."""

    points: Array
    """(S, K, 3)."""
    width: Array
    """(S, K) metres."""
    colour: Array
    """(S, K, 3) linear RGB reflectance."""
    opacity: Array
    """(S, K) in [0, 1]."""
    leader: Indices
    """(S,) the strand in whose lock each lies: a lock shares the light of its surroundings."""

    def __len__(self) -> int:
        return len(self.points)

    @classmethod
    def of(cls, points: Array, width: Array, colour: Array, opacity: Array, leader: Indices) -> Self:
        """Strands from arrays of any precision and layout that spread to their shapes."""
        fields = (np.broadcast_to(a, points.shape[:2]) for a in (width, opacity))
        width, opacity = (np.ascontiguousarray(a, np.float32) for a in fields)
        colour = np.ascontiguousarray(np.broadcast_to(colour, points.shape), np.float32)
        return cls(np.ascontiguousarray(points, np.float32), width, colour, opacity, leader)

    def moved(self, points: Array) -> Self:
        """The same strands with their points elsewhere."""
        return replace(self, points=np.ascontiguousarray(points, np.float32))


def only(strands: Strands, wanted: Mask) -> Strands:
    """The wanted strands (S,), and the leaders that they need."""
    kept = np.flatnonzero(wanted | np.isin(np.arange(len(strands)), strands.leader[wanted]))
    place = np.zeros(len(strands), np.int64)
    place[kept] = np.arange(len(kept))
    arrays = (getattr(strands, name)[kept] for name in ("points", "width", "colour", "opacity"))
    return Strands(*arrays, place[strands.leader[kept]])  # type: ignore[call-arg]


def join(first: Strands, second: Strands) -> Strands:
    """Two sets with the same number of points a strand, as one."""

    def both(name: str) -> Array:
        return np.concatenate([getattr(first, name), getattr(second, name)])

    leader = np.concatenate([first.leader, second.leader + len(first)])
    return Strands(both("points"), both("width"), both("colour"), both("opacity"), leader)


@compiled
def _near_to_far(depth: Array) -> Indices:
    """Order of the segments by increasing depth: a counting sort, ten times faster than a comparison sort."""
    low, high = np.inf, -np.inf
    for i in range(len(depth)):
        low, high = min(low, depth[i]), max(high, depth[i])
    scale = (_DEPTH_BINS - 1) / max(high - low, 1e-9)
    counts = np.zeros(_DEPTH_BINS + 1, np.int64)
    key = np.empty(len(depth), np.int32)
    for i in range(len(depth)):
        key[i] = int((depth[i] - low) * scale)
        counts[key[i] + 1] += 1
    for b in range(_DEPTH_BINS):
        counts[b + 1] += counts[b]
    order = np.empty(len(depth), np.int32)
    for i in range(len(depth)):
        order[counts[key[i]]] = i
        counts[key[i]] += 1
    return order


@compiled
def _hidden(depth: Array, x: float, y: float, z: float) -> bool:
    """Whether a point is more than half a centimetre behind a surface."""
    column, row = int(x + 0.5), int(y + 0.5)
    return bool(0 <= row < depth.shape[0] and 0 <= column < depth.shape[1] and z > depth[row, column] + 0.005)


@compiled
def paint_strands(
    paint: Array, clear: Array, depth: Array, pixels: Array, width: Array, colour: Array, opacity: Array
) -> None:
    """Lays strands over one another, the nearest first: adds to paint (H, W, 3) and takes from clear (H, W), in place.

    paint is premultiplied linear RGB; clear is the share of what lies behind that still shows, 1 at first. depth (H, W)
    of the solid surfaces, which hide what is farther. pixels (S, K, 3): x, y in pixels (centres on whole numbers) and
    depth; width (S, K) in pixels; colour (S, K, 3); opacity (S, K).
    """
    strands, count = width.shape
    height, breadth = depth.shape
    middle = np.empty(strands * (count - 1), np.float32)
    for s in range(strands):
        for k in range(count - 1):
            middle[s * (count - 1) + k] = 0.5 * (pixels[s, k, 2] + pixels[s, k + 1, 2])
    for segment in _near_to_far(middle):
        s, k = segment // (count - 1), segment % (count - 1)
        x0, y0, z0 = pixels[s, k, 0], pixels[s, k, 1], pixels[s, k, 2]
        x1, y1, z1 = pixels[s, k + 1, 0], pixels[s, k + 1, 1], pixels[s, k + 1, 2]
        if max(x0, x1) < 0 or max(y0, y1) < 0 or min(x0, x1) > breadth - 1 or min(y0, y1) > height - 1:
            continue
        if _hidden(depth, x0, y0, z0) and _hidden(depth, x1, y1, z1):
            continue
        dx, dy = x1 - x0, y1 - y0
        steep = abs(dy) > abs(dx)
        if steep:
            x0, y0, x1, y1, dx, dy = y0, x0, y1, x1, dy, dx
        if abs(dx) < 1e-6:
            continue
        slope = dy / dx
        # A ribbon is thicker along the axis across which it is cut.
        stretch = np.sqrt(1.0 + slope * slope)
        # Half open, so that consecutive segments share no column.
        first = max(int(np.ceil(min(x0, x1))), 0)
        last = min(int(np.ceil(max(x0, x1))), height if steep else breadth)
        rows = breadth if steep else height
        red = 0.5 * (colour[s, k, 0] + colour[s, k + 1, 0])
        green = 0.5 * (colour[s, k, 1] + colour[s, k + 1, 1])
        blue = 0.5 * (colour[s, k, 2] + colour[s, k + 1, 2])
        for i in range(first, last):
            t = (i - x0) / dx
            y, z = y0 + t * dy, z0 + t * (z1 - z0)
            half = 0.5 * max((width[s, k] + t * (width[s, k + 1] - width[s, k])) * stretch, 1e-3)
            for j in range(max(int(np.floor(y - half + 0.5)), 0), min(int(np.floor(y + half + 0.5)) + 1, rows)):
                covered = min(y + half, j + 0.5) - max(y - half, j - 0.5)
                row, column = (i, j) if steep else (j, i)
                remaining = clear[row, column]
                if covered > 0.0 and remaining > 0.01 and z < depth[row, column]:
                    alpha = covered * (opacity[s, k] + t * (opacity[s, k + 1] - opacity[s, k])) * remaining
                    paint[row, column, 0] += alpha * red
                    paint[row, column, 1] += alpha * green
                    paint[row, column, 2] += alpha * blue
                    clear[row, column] = remaining - alpha
