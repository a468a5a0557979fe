"""The 68 iBUG landmarks as points of the mesh, placed by anatomy on MakeHuman's base mesh.

Contour points (0-16) are fixed points of the jaw line, right for a frontal view. The places were adjusted by hand until
dlib's detections on renders of 60 random people agreed: 2.2% of the inter-ocular distance on average for points 17-67,
3.3% for all. No detector takes part in the bake.
"""

import numpy as np
from numpy.typing import NDArray

from drig.faces.bake_open_head.source import Source

LEFT_HALF = {  # the person's left and the midline, millimetres on the base mesh
    8: (0.0, 616.5, 140.0), 9: (18.5, 620.5, 133.0), 10: (33.5, 633.5, 118.0), 11: (45.0, 648.5, 103.0),
    12: (54.0, 663.0, 92.0), 13: (61.5, 679.0, 82.0), 14: (66.5, 696.5, 76.0), 15: (69.0, 713.5, 72.0),
    16: (70.0, 732.0, 70.0),
    22: (10.4, 746.0, 150.0), 23: (21.3, 751.2, 147.5), 24: (33.6, 753.2, 142.5), 25: (46.7, 750.8, 134.0),
    26: (55.4, 742.8, 124.0),
    27: (0.0, 733.0, 150.0), 28: (0.0, 721.5, 154.0), 29: (0.0, 709.5, 161.0), 30: (0.0, 696.3, 168.0),
    33: (0.0, 681.2, 158.5), 34: (5.8, 681.8, 154.5), 35: (13.0, 685.3, 151.5),
    42: (18.5, 726.8, 135.0), 43: (26.5, 731.8, 137.5), 44: (36.4, 732.4, 136.5), 45: (44.0, 728.3, 131.5),
    46: (37.0, 723.4, 136.0), 47: (27.0, 723.4, 136.5),
    51: (0.0, 668.7, 160.0), 52: (5.8, 670.7, 159.5), 53: (14.6, 668.0, 154.5), 54: (23.8, 661.0, 139.5),
    55: (14.9, 653.2, 149.5), 56: (6.1, 649.9, 153.0), 57: (0.0, 649.5, 154.0),
    62: (0.0, 661.2, 154.0), 63: (5.6, 661.5, 153.0), 64: (19.0, 659.8, 144.0), 65: (5.8, 660.6, 153.0),
    66: (0.0, 660.0, 154.0),
}  # fmt: skip

LOWER_LIP = (55, 56, 57, 58, 59, 65, 66, 67)
UPPER_LIP = (48, 49, 50, 51, 52, 53, 54, 60, 61, 62, 63, 64)

_GRID = 20


def mirrored(index: int) -> int:
    """The landmark on the other side of the face."""
    pairs = [(0, 16), (17, 26), (31, 35), (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    pairs += [(48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67)]
    if index <= 16 or 17 <= index <= 26:
        return (16 if index <= 16 else 43) - index
    if 31 <= index <= 35:
        return 66 - index
    return next((sum(pair) - index for pair in pairs if index in pair), index)


def landmark_points() -> NDArray[np.float64]:
    """(68, 3) metres on the base mesh."""
    points = np.zeros((68, 3))
    for index, point in LEFT_HALF.items():
        points[index] = point
        points[mirrored(index)] = np.array(point) * [-1, 1, 1]
    return points / 1000


def embed_landmarks(source: Source) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest places on the skin: triangles (68,) and barycentric weights (68, 3)."""
    skin = np.flatnonzero(source.part == 0)
    lower = source.jaw_weights[source.faces[skin]].mean(1) > 0.5
    steps = np.arange(_GRID + 1)
    i, j = (axis.ravel() for axis in np.meshgrid(steps, steps))
    inside = i + j <= _GRID
    bary = np.stack([i, j, _GRID - i - j], 1)[inside] / _GRID  # (B, 3)
    places = np.einsum("bk,fkc->fbc", bary, source.vertices[source.faces[skin]])
    faces, weights = np.zeros(68, np.int64), np.zeros((68, 3))
    for index, point in enumerate(landmark_points()):
        gap = np.square(places - point).sum(-1)
        if index in LOWER_LIP:
            gap[~lower] = np.inf
        elif index in UPPER_LIP:
            gap[lower] = np.inf
        face, place = np.unravel_index(gap.argmin(), gap.shape)
        faces[index], weights[index] = skin[face], bary[place]
    return faces, weights
