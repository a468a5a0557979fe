"""What the paper and the benchmarks measure, on the pictures that users see: (H, W, 3) uint8 RGB.

Published numbers of this field are measured on 8-bit files, so floats in [-1, 1] go through
`drig.data.photos.to_photo` first: there is one convention, and rounding is part of it.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.spatial import ConvexHull
from skimage.metrics import structural_similarity

Picture = NDArray[np.uint8]  # (H, W, 3)
Mask = NDArray[np.bool_]  # (H, W), True where a pixel counts


def psnr(picture: Picture, reference: Picture, mask: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB, peak 255, over all channels of the masked pixels; inf where they are equal."""
    _check(picture, reference, mask)
    error = (picture.astype(np.float64) - reference) ** 2  # (H, W, 3)
    mean = float(error.mean() if mask is None else error[mask].mean())
    return float("inf") if mean == 0.0 else 10.0 * float(np.log10(255.0**2 / mean))


def ssim(picture: Picture, reference: Picture, mask: Mask | None = None) -> float:
    """Structural similarity of Wang et al. 2004: Gaussian window of sigma 1.5, K1 0.01, K2 0.03, mean over RGB.

    With a mask, the mean of the similarity map over the masked pixels; windows still look 5 pixels beyond it.
    """
    _check(picture, reference, mask)
    mean, similarity = structural_similarity(  # type: ignore[no-untyped-call]
        picture,
        reference,
        channel_axis=2,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return float(mean if mask is None else similarity[mask].mean())


def face_region(landmarks: NDArray[np.floating], size: int) -> Mask:
    """(size, size): the convex hull of landmarks (68, 2) in image NDC."""
    corners = landmarks[ConvexHull(landmarks).vertices]
    region = Image.new("1", (size, size))
    ImageDraw.Draw(region).polygon([tuple(point) for point in ((corners + 1) * size - 1) / 2], fill=1)
    return np.asarray(region)


def _check(picture: Picture, reference: Picture, mask: Mask | None) -> None:
    for name, array in (("picture", picture), ("reference", reference)):
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
            raise ValueError(f"{name} is {array.dtype} {array.shape}; give uint8 (H, W, 3), see photos.to_photo.")
    if picture.shape != reference.shape:
        raise ValueError(f"picture is {picture.shape}, reference is {reference.shape}; give both at one size.")
    if mask is not None and (mask.dtype != np.bool_ or mask.shape != picture.shape[:2] or not mask.any()):
        raise ValueError(f"mask is {mask.dtype} {mask.shape}; give bool {picture.shape[:2]} with at least one True.")
