"""Prediction for small rigs: not the noise, but the correction that makes the rendered face the photo.

A correction is far simpler than noise: a small UNet that sees patches of pixels learns it far sooner, and what the
buffer shows sharply stays sharp. The noise follows from it, so that loss and samplers see no difference.

Shapes: N batch, H W pixels. Images are in [-1, 1].
"""

import torch.nn.functional as F
from torch import Tensor

DEVIATION = 2.0
"""Standard deviation of what is taken for signal in corrections. That of single pixels is 0.4; neighbours agree, so
that an area is still told through more noise than a pixel is."""
_WINDOWS = ((1, 7), (7, 1))  # pixels; a row, then a column: far quicker than both at once


def covered(buffers: Tensor) -> Tensor:
    """Where buffers (N, 9, H, W) show the head: 1 there, 0 beside it, (N, 1, H, W). It is the length of the normals."""
    normal = buffers[:, 3:6]
    return normal.square().sum(dim=1, keepdim=True).sqrt()  # torch's `norm` is 80 times slower


def inner_face(buffers: Tensor) -> Tensor:
    """The rendered buffer, faded to grey towards the head's outline: (N, 9, H, W) -> (N, 3, H, W).

    Photos have hair, or another background, where the buffer has its outline, and a network that sees patches cannot
    take back a line of pixels.
    """
    rendered = buffers[:, :3]
    outside = 1 - covered(buffers)  # (N, 1, H, W)
    for window in _WINDOWS:
        outside = F.max_pool2d(outside, window, 1, (window[0] // 2, window[1] // 2))
    for window in _WINDOWS:
        outside = F.avg_pool2d(outside, window, 1, (window[0] // 2, window[1] // 2), count_include_pad=False)
    return (1 - outside).clamp(0, 1) * (2 * rendered - 1)


def visible_correction(x_t: Tensor, face: Tensor, alpha_bar: Tensor) -> Tensor:
    """What x_t (N, 3, H, W) says of the correction to `face`, the less of it the more is noise (Wiener's filter)."""
    share = alpha_bar.sqrt() * DEVIATION**2 / (1 - alpha_bar + alpha_bar * DEVIATION**2)  # (N, 1, 1, 1) float64
    return share.float() * (x_t - alpha_bar.sqrt().float() * face)


def noise_around(image: Tensor, x_t: Tensor, alpha_bar: Tensor) -> Tensor:
    """The noise in x_t if `image` (N, 3, H, W) is the photo."""
    return (x_t - alpha_bar.sqrt().float() * image) / (1 - alpha_bar).sqrt().float()
