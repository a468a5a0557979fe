"""An edited portrait back in the photo that it was cut from: the inverse of the alignment, with a feathered seam.

Only the head goes back, with a margin for hair: a portrait's background is the network's, and the photo has its own.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt

from drig.data.photos import Photo
from drig.faces.portraits import Portrait

FEATHER = 0.12
"""Width of the seam, of the portrait's side: over it the photo fades into the edit. No colour is changed elsewhere."""


HAIR = 0.1
"""Margin around the head model, which is bald, in portrait sides; over as much again the edit fades into the photo."""


def pasted(photo: Photo, portrait: Portrait, edited: Photo, head: NDArray[np.bool_]) -> Photo:
    """`paste_back` for a portrait that knows where in the photo it came from."""
    assert portrait.to_portrait is not None
    return paste_back(photo, edited, portrait.to_portrait, len(portrait.image), head)


def paste_back(
    photo: Photo,
    edited: Photo,
    to_portrait: NDArray[np.float64],
    portrait_size: int,
    head: NDArray[np.bool_] | None = None,
) -> Photo:
    """The photo (H, W, 3) uint8 with the edited portrait (S, S, 3) where the portrait was.

    Args:
        to_portrait: (2, 3) affine, pixel (x, y, 1) of the photo -> pixel of the portrait that was edited.
        portrait_size: side of that portrait, which the edit may be smaller or larger than.
        head: (R, R) where the head is, or was before the edit, at any size. None = all of the portrait goes back.
    """
    to_edited = _rescaled(to_portrait, portrait_size, len(edited))
    edited, to_edited = _without_detail_to_lose(edited, to_edited)
    left, top, right, bottom = _covered(to_edited, len(edited), photo.shape)
    if left >= right or top >= bottom:
        return photo.copy()
    # Pillow's own affine counts from pixel edges, and from the corner of what it draws.
    linear, origin = to_edited[:, :2], to_edited[:, 2] + to_edited[:, :2] @ (left - 0.5, top - 0.5) + 0.5
    numbers = np.concatenate([linear, origin[:, None]], 1).flatten().tolist()
    size = (right - left, bottom - top)
    drawn = Image.fromarray(edited).transform(size, Image.Transform.AFFINE, numbers, Image.Resampling.BICUBIC)
    weight = _seam(to_edited, len(edited), left, top, size)  # (h, w)
    if head is not None:
        shares = Image.fromarray(_near(head)).resize((len(edited), len(edited)), Image.Resampling.BILINEAR)
        weight *= np.asarray(shares.transform(size, Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR))
    result = photo.copy()
    under = result[top:bottom, left:right].astype(np.float32)
    result[top:bottom, left:right] = np.rint(
        under + weight[..., None] * (np.asarray(drawn, np.float32) - under)
    ).astype(np.uint8)
    return result


def _rescaled(to_portrait: NDArray[np.float64], size: int, new_size: int) -> NDArray[np.float64]:
    """The affine to the same picture at another size; pixel centres are whole numbers in both."""
    scale = new_size / size
    moved = to_portrait * scale
    moved[:, 2] += scale / 2 - 0.5
    return moved


def _without_detail_to_lose(edited: Photo, to_edited: NDArray[np.float64]) -> tuple[Photo, NDArray[np.float64]]:
    """The edit at the photo's own detail: where its pixels are smaller, taking every other one would show as noise."""
    pixels = float(np.sqrt(abs(np.linalg.det(to_edited[:, :2]))))  # of the edit, in a pixel's width of the photo
    if pixels <= 1:
        return edited, to_edited
    size = max(1, round(len(edited) / pixels))
    smaller = np.asarray(Image.fromarray(edited).resize((size, size), Image.Resampling.LANCZOS))
    return smaller, _rescaled(to_edited, len(edited), size)


def _covered(to_edited: NDArray[np.float64], size: int, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """left, top, right, bottom of the part of the photo that the edit lies over."""
    square = np.array([[0, 0], [size, 0], [size, size], [0, size]]) - 0.5
    corners = np.linalg.solve(to_edited[:, :2], (square - to_edited[:, 2]).T)  # (2, 4)
    low = np.maximum(np.floor(corners.min(1)), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(1)) + 1, shape[1::-1]).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _seam(
    to_edited: NDArray[np.float64], size: int, left: int, top: int, drawn: tuple[int, int]
) -> NDArray[np.float32]:
    """(h, w) share of the edit in each pixel: 0 on its edge and outside, 1 from FEATHER inside, smooth between."""
    x, y = np.arange(drawn[0]) + left, (np.arange(drawn[1]) + top)[:, None]
    depth = np.full((drawn[1], drawn[0]), np.inf)
    for a, b, c in to_edited:
        place = (a * x + b * y + c + 0.5) / size  # 0 to 1 over the edit
        depth = np.minimum(depth, np.minimum(place, 1 - place))
    return _smooth(depth / FEATHER)


def _near(head: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(R, R) share of the edit: 1 on the head and as near as hair, 0 beyond, smooth between."""
    away = distance_transform_edt(~head) / len(head)
    return _smooth(2 - away / HAIR)


def _smooth(ramp: NDArray[np.float64]) -> NDArray[np.float32]:
    """0 below 0, 1 above 1, without a corner."""
    ramp = np.clip(ramp, 0, 1)
    return (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)
