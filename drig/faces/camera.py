"""The weak-perspective camera: world -> camera NDC -> image NDC (SPEC 5)."""

import torch
from torch import Tensor

from drig.faces.codes import FaceCodes

CROP_SIZE = 224
"""Side in pixels of the crop that DECA's camera looks at."""


def project(points: Tensor, codes: FaceCodes) -> Tensor:
    """World points (N, P, 3), x right, y up, z towards the viewer -> image NDC (N, P, 3), y down, smaller z nearer.

    p = scale (v.xy + t), z = scale v.z, then y and z negated, then the crop's affine on x and y.
    """
    scale, shift = codes.cam[:, None, :1], codes.cam[:, None, 1:]
    camera = torch.cat([points[..., :2] + shift, points[..., 2:]], -1) * (scale * points.new_tensor([1, -1, -1]))
    linear, origin = codes.crop[:, :, :2], codes.crop[:, None, :, 2]
    return torch.cat([camera[..., :2] @ linear.mT + origin, camera[..., 2:]], -1)


def crop_affine(crop_to_image: Tensor, size: int) -> Tensor:
    """`FaceCodes.crop` of a crop: (N, 3, 3) crop pixels -> image pixels (column vectors) at image `size` -> (N, 2, 3).

    crop pixel = (NDC + 1) 112, image NDC = 2 pixel / size - 1: no half-pixel shift.
    """
    half = CROP_SIZE / 2
    linear = crop_to_image[:, :2, :2] * half
    origin = linear.sum(-1) + crop_to_image[:, :2, 2]
    return torch.cat([linear * 2 / size, origin[..., None] * 2 / size - 1], -1)
