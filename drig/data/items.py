"""Training items: faces as the network takes them, or packed as a buffer store keeps them, for the device to unpack.

Loaders read, collate, pin and copy a packed face with a fifth of the bytes, and what its 8-bit planes mean is computed
where the network runs, a batch at a time.

Legend: N batch, S side in pixels, P = S S.
"""

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from drig.data.records import STEPS, Floats
from drig.faces.lighting import SH_SCALE, shade_image

Item = dict[str, Tensor]
"""As the network takes it: `image` (3, S, S) in [-1, 1] and `buffers` (9, S, S), rendered, normal, albedo (SPEC 2).

Packed, instead: `image` (3, S, S) uint8; `normal` (3, S, S) int8 and `albedo` (3, S, S) uint8, both in steps of 1/127;
`light` (9, 3), spherical harmonics x RGB. All else is float32.
"""

_PACKED = ("image", "normal", "albedo", "light")


def unpacked(batch: Item) -> Item:
    """A batch of items as the network takes them; one that is not packed comes back as it is. Other entries stay."""
    if "light" not in batch:
        return batch
    function = unpack_compiled if batch["image"].device.type == "cpu" else unpack
    image, buffers = function(*(batch[name] for name in _PACKED))
    return {
        **{name: tensor for name, tensor in batch.items() if name not in _PACKED},
        "image": image,
        "buffers": buffers,
    }


def unpack(image: Tensor, normal: Tensor, albedo: Tensor, light: Tensor) -> tuple[Tensor, Tensor]:
    """Packed faces (N, 3, S, S) and their lights (N, 9, 3) -> image (N, 3, S, S) and buffers (N, 9, S, S)."""
    normal, albedo = normal / float(STEPS), albedo / float(STEPS)
    return image / 127.5 - 1, torch.cat([albedo * shade_image(normal, light), normal, albedo], 1)


def unpack_compiled(image: Tensor, normal: Tensor, albedo: Tensor, light: Tensor) -> tuple[Tensor, Tensor]:
    """`unpack` on a CPU, several times as fast: each number is written once and read from the cache."""
    n, _, height, width = image.shape
    unpacked_image, buffers = torch.empty(n, 3, height, width), torch.empty(n, 9, height, width)
    flat = [tensor.flatten(2).numpy() for tensor in (image, normal, albedo, unpacked_image, buffers)]
    scaled = (light * torch.tensor(SH_SCALE)[:, None]).numpy()
    _unpack(flat[0], flat[1], flat[2], flat[3], flat[4], scaled)
    return unpacked_image, buffers


@njit(cache=True, nogil=True)
def _unpack(
    image: NDArray[np.uint8],  # (N, 3, P)
    normal: NDArray[np.int8],  # (N, 3, P)
    albedo: NDArray[np.uint8],  # (N, 3, P)
    unpacked_image: Floats,  # (N, 3, P)
    buffers: Floats,  # (N, 9, P)
    light: Floats,  # (N, 9, 3), each harmonic times its constant
) -> None:
    one, three = np.float32(1), np.float32(3)
    for n in range(len(image)):
        for c in range(3):
            for i in range(image.shape[2]):
                unpacked_image[n, c, i] = np.float32(image[n, c, i]) / np.float32(127.5) - one
            for i in range(image.shape[2]):
                buffers[n, 3 + c, i] = np.float32(normal[n, c, i]) / STEPS
            for i in range(image.shape[2]):
                buffers[n, 6 + c, i] = np.float32(albedo[n, c, i]) / STEPS
        xs, ys, zs = buffers[n, 3], buffers[n, 4], buffers[n, 5]
        for c in range(3):
            rendered, colour = buffers[n, c], buffers[n, 6 + c]
            l0, lx, ly, lz, lxy, lxz, lyz, lxx, lzz = light[n, :, c]
            for i in range(image.shape[2]):
                x, y, z = xs[i], ys[i], zs[i]
                shading = l0 + x * (lx + lxy * y + lxz * z) + y * (ly + lyz * z) + z * lz
                shading += lxx * (x * x - y * y) + lzz * (three * z * z - one)
                rendered[i] = colour[i] * shading
