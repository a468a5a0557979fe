"""The 68 iBUG landmarks as points of the mesh, placed by anatomy on MakeHuman's base mesh.

Contour points (0-16) are fixed points of the jaw line, right for a frontal view. The places were compared with dlib's
detections on renders of the head (docs of `drig.faces.landmarks`); no detector takes part in the bake.
"""

import numpy as np
from numpy.typing import NDArray

from drig.faces.bake_open_head.source import Source

LEFT_HALF = {  # the person's left and the midline, millimetres on the base mesh
    8: (0.0, 617.5, 141.0), 9: (16.5, 620.0, 134.0), 10: (31.0, 630.0, 119.0), 11: (44.0, 643.5, 104.0),
    12: (53.5, 659.0, 92.0), 13: (61.0, 676.0, 82.0), 14: (66.0, 694.0, 76.0), 15: (69.0, 713.0, 72.0),
    16: (70.0, 731.0, 70.0),
    22: (11.0, 746.0, 150.0), 23: (21.0, 751.3, 147.5), 24: (32.5, 754.0, 142.5), 25: (45.0, 752.0, 134.0),
    26: (54.5, 745.0, 124.0),
    27: (0.0, 730.0, 150.0), 28: (0.0, 718.0, 154.0), 29: (0.0, 706.5, 161.0), 30: (0.0, 694.5, 168.0),
    33: (0.0, 682.0, 158.5), 34: (6.6, 683.3, 154.5), 35: (12.3, 685.3, 151.5),
    42: (20.0, 727.0, 135.0), 43: (26.5, 732.0, 137.5), 44: (36.0, 732.7, 136.5), 45: (43.7, 728.4, 131.5),
    46: (37.0, 724.6, 136.0), 47: (27.0, 724.6, 136.5),
    51: (0.0, 667.8, 160.0), 52: (5.5, 669.4, 159.5), 53: (14.0, 666.0, 154.5), 54: (23.8, 661.2, 139.5),
    55: (14.8, 652.3, 149.5), 56: (6.6, 649.5, 153.0), 57: (0.0, 648.8, 154.0),
    62: (0.0, 661.0, 154.0), 63: (6.5, 661.2, 153.0), 64: (20.0, 661.0, 144.0), 65: (6.5, 660.4, 153.0),
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
