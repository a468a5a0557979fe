"""What differs from photo to photo of an album, and what does not: pose, expression, light, surroundings.

Training tells a person from a moment only by what changes: under one light, its shadows become part of the face
(SPEC 9). Measured with the `fit` estimator, 10 photos each of three synthetic people, and on shared photos:

|                                   | light        | pose, degrees | expression  | alike surroundings |
|-----------------------------------|--------------|---------------|-------------|--------------------|
| synthetic, everything differs     | 0.12 - 0.21  | 15 - 20       | 0.25 - 0.62 | 0.17               |
| the same, one light               | 0.008 - 0.018|               |             |                    |
| the same, one pose                |              | 0.9 - 1.3     |             |                    |
| the same, one expression          |              |               | 0.09 - 0.15 |                    |
| 8 posed photos of as many events  | 0.09         | 7             | 0.51        | 0.25               |
| 10 s of a talk on a stage         | 0.13         | 15            | 0.56        | 0.91               |

The video's light is one lamp: what varies is the estimate, which sees hands and microphones. Its surroundings tell.

Legend: N photos, P directions.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from drig.faces.codes import FaceCodes
from drig.faces.controls import head_angles
from drig.faces.fit_light_prior import sphere
from drig.faces.lighting import shade

Array = NDArray[np.float64]

SAME_PLACE = 0.08
"""Difference of surroundings (RMS of RGB in 0..1) within which two photos are of one place. The video has a
median of 0.055 and at most 0.10; photos of different events have a median of 0.24 and at least 0.07."""
_FRONT = 0.3  # cosine to the camera from which on a face's shading says something of the light
_MARGIN = 0.14  # of the portrait's side: beside the head, above the shoulders
_HIGH = 0.43
_GAZE = "eyeLook"
_ENOUGH = 8  # photos from which on the head's turns can be told from the light's


def shading(codes: FaceCodes) -> Array:
    """(N, P) brightness of a white ball in each photo's light, seen from the camera, divided by its mean.

    Exposure and white balance drop out: neither is another light.
    """
    directions = sphere(400)
    brightness = shade(directions[directions[:, 2] > _FRONT], codes.light.cpu()).mean(2).numpy().astype(np.float64)
    return np.asarray(brightness / np.maximum(brightness.mean(1, keepdims=True), 1e-6))


def light_spread(codes: FaceCodes) -> float:
    """Standard deviation of `shading` from photo to photo, RMS over directions: 0 for one light.

    What goes with the head's yaw and pitch is taken out first where there are enough photos: an estimator takes some
    of the face's colours for light, and these turn with the head (0.07 without this for a synthetic person in one
    light, 0.018 with it).
    """
    balls = shading(codes)
    turns = [np.ones((len(balls), 1))] + [head_angles(codes)[:, :2]] * (len(balls) >= _ENOUGH)
    explained = np.hstack(turns)  # (N, 1 or 3)
    rest = balls - explained @ np.linalg.lstsq(explained, balls, rcond=None)[0]
    freedom = max(1, len(balls) - explained.shape[1])
    return float(np.sqrt((rest**2).sum() / freedom / balls.shape[1]))


def pose_spread(codes: FaceCodes) -> float:
    """Standard deviation of yaw and pitch together, degrees."""
    return _spread(head_angles(codes)[:, :2])


def expression_spread(codes: FaceCodes, names: Sequence[str]) -> float:
    """Standard deviation of the expression codes together: 1 is about one whole facial action.

    Gaze is left out (names: of the codes, where they have any): it is no expression, and half guessed from the pose.
    """
    counted = [not name.startswith(_GAZE) for name in names] or slice(None)
    return _spread(codes.exp.cpu().numpy()[:, counted])


def surroundings(images: NDArray[np.uint8]) -> Array:
    """(N, S, S, 3) portraits -> (N, 9) mean colours, in 0..1, of their left, right and upper margins."""
    size = images.shape[1]
    margin, high = round(_MARGIN * size), round(_HIGH * size)
    upper = images[:, :high].astype(np.float64) / 255
    parts = (upper[:, :, :margin], upper[:, :, -margin:], upper[:, : margin // 2])
    return np.concatenate([part.mean((1, 2)) for part in parts], axis=1)


def places(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(N, S, S, 3) portraits -> (N,) which of them show the same surroundings: 0 those of most photos, and so on."""
    if len(images) < 2:
        return np.zeros(len(images), np.int64)
    seen = surroundings(images) / surroundings(images).shape[1] ** 0.5  # Euclidean distances become RMS
    return by_size(fcluster(linkage(seen, "average"), SAME_PLACE, "distance"))


def by_size(groups: NDArray[np.integer]) -> NDArray[np.int64]:
    """Group numbers (N,) renamed: 0 for the largest, 1 for the next; of equal ones that of the earlier photo first."""
    _, first, inverse, counts = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(counts), np.int64)
    rank[np.lexsort((first, -counts))] = np.arange(len(counts))
    return rank[inverse]


def _spread(values: NDArray[np.floating]) -> float:
    """Total standard deviation of rows, (N, D)."""
    return float(np.sqrt(values.var(0, ddof=1).sum())) if len(values) > 1 else 0.0
