"""What may be wrong with a single photo: blur, a face of too few pixels, or one that is there already.

Legend: N photos, S = H = W portrait size.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from skimage.measure import blur_effect

from drig.faces import ibug
from drig.faces.portraits import Portrait

BLURRED = 0.61
"""Blur from which on a photo teaches softness. Shared photos have 0.38 to 0.57, a video's moving frames 0.60 to 0.65;
a Gaussian of 1.5 px takes sharp portraits of 256 px to 0.51 - 0.73, one of 3 px to 0.70 - 0.85."""
DUPLICATE = 0.04
"""Difference (RMS of RGB in 0..1, at 32 px) below which two portraits are one: copies saved smaller as JPEG differ by
0.016 at most, different photos of one person by 0.08 or more, frames half a second apart of a lively talk by 0.17."""
_THUMBNAIL = 32


def blur(portrait: Portrait) -> float:
    """0 sharp .. 1 blurred: how little blurring the inner face again changes it (Crete-Roffet et al. 2007)."""
    size = len(portrait.image)
    grey = portrait.image @ np.array([0.299, 0.587, 0.114]) / 255
    inner = (portrait.landmarks[ibug.CONTOUR.stop :] + 1) * size / 2  # from the brows to the lips
    left, top = np.clip(np.floor(inner.min(0)), 0, size - 16).astype(int)
    right, bottom = np.maximum(np.ceil(inner.max(0)).astype(int), (left + 16, top + 16))
    return float(blur_effect(grey[top:bottom, left:right]))  # type: ignore[no-untyped-call]


def duplicates(portraits: Sequence[Portrait]) -> list[int | None]:
    """For each portrait the earlier one that it repeats, if any."""
    small = [Image.fromarray(p.image).resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX) for p in portraits]
    thumbnails = np.stack([np.asarray(picture, np.float32).ravel() / 255 for picture in small])
    found: list[int | None] = []
    originals: list[int] = []
    for i, thumbnail in enumerate(thumbnails):
        apart = np.sqrt(((thumbnails[originals] - thumbnail) ** 2).mean(1))
        again = bool(len(apart)) and float(apart.min()) < DUPLICATE
        found.append(originals[int(apart.argmin())] if again else None)
        if not again:
            originals.append(i)
    return found
