"""Which triangle each pixel sees: vertices in image NDC and faces -> face index and barycentrics (SPEC 5).

Two rasterisers give the same answers: a compiled z-buffer on CPUs, PyTorch3D on CUDA. Both look along +z (a smaller z
is nearer), cull nothing, and take the sample at the pixel's centre. (They differ where a centre lies exactly on an
edge, which PyTorch3D draws for neither face.) Nothing here is differentiable.

Legend: N batch, V vertices, F faces, H = W = size pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

_DEGENERATE = 1e-8  # twice the area in NDC, below which a face is not drawn: PyTorch3D's epsilon
_EDGE = 1e-9  # A pixel centre on an edge that two faces share belongs to one of them, however the weights are rounded.


@dataclass(frozen=True, eq=False)
class Fragments:
    """What each pixel sees."""

    face: Tensor
    """(N, H, W) int64 index of the visible face, -1 where there is none."""
    bary: Tensor
    """(N, H, W, 3) float32 weights of its corners, which sum to 1; 0 where there is none."""


def rasterize(vertices: Tensor, faces: Tensor, size: int) -> Fragments:
    """(N, V, 3) float vertices, x right, y down, z into the scene, and (F, 3) faces -> Fragments at size x size.

    x and y in [-1, 1] are inside the image; pixel (row i, column j) is sampled at x = (2j + 1) / size - 1,
    y = (2i + 1) / size - 1. Runs where the vertices are.
    """
    return (rasterize_pytorch3d if vertices.is_cuda else rasterize_numba)(vertices, faces, size)


def rasterize_numba(vertices: Tensor, faces: Tensor, size: int) -> Fragments:
    """`rasterize` on one CPU core; the compiled code is cached beside the package and releases the GIL."""
    points = vertices.detach().to("cpu", torch.float32).contiguous().numpy()
    corners = faces.to("cpu", torch.int64).contiguous().numpy()
    n = len(points)
    face = np.full((n, size, size), -1, np.int64)
    bary = np.zeros((n, size, size, 3), np.float32)
    for i in range(n):
        _draw(points[i], corners, np.full((size, size), np.inf), face[i], bary[i])
    return Fragments(torch.from_numpy(face), torch.from_numpy(bary))


def rasterize_pytorch3d(vertices: Tensor, faces: Tensor, size: int) -> Fragments:
    """`rasterize` by PyTorch3D, on CUDA; it also runs on CPUs, about a thousand times slower than `rasterize_numba`."""
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.structures import Meshes

    n, f = len(vertices), len(faces)
    if not n or not f:
        face = torch.full((n, size, size), -1, dtype=torch.int64, device=vertices.device)
        return Fragments(face, face.new_zeros(*face.shape, 3, dtype=torch.float32))
    # PyTorch3D has x left and y up, and drops what lies behind z = 0.
    flipped = vertices.detach().float() * vertices.new_tensor([-1, -1, 1]).float()
    flipped = flipped + vertices.new_tensor([0, 0, 10]).float()
    meshes = Meshes(flipped, faces.to(vertices.device).expand(n, -1, -1))
    found, _, bary, _ = rasterize_meshes(
        meshes, image_size=size, blur_radius=0.0, faces_per_pixel=1, perspective_correct=False
    )
    found, bary = found[..., 0], bary[..., 0, :]
    seen = found >= 0
    # Its weights are divided by area + 1e-8, and so sum to a little less than 1 on small faces.
    bary = torch.where(seen[..., None], bary / bary.sum(-1, keepdim=True), 0.0)
    first = torch.arange(n, device=found.device)[:, None, None] * f
    return Fragments(torch.where(seen, found - first, -1), bary)


@njit(cache=True, nogil=True, error_model="numpy")
def _draw(
    points: NDArray[np.float32],
    corners: NDArray[np.int64],
    depth: NDArray[np.float64],
    face: NDArray[np.int64],
    bary: NDArray[np.float32],
) -> None:
    """Draws one mesh into depth and face (H, W), bary (H, W, 3). Barycentrics are affine in the pixel's position."""
    size = depth.shape[0]
    half = size / 2.0
    for f in range(corners.shape[0]):
        a, b, c = corners[f, 0], corners[f, 1], corners[f, 2]
        # In pixels, with pixel centres on whole numbers.
        ax, ay = (points[a, 0] + 1.0) * half - 0.5, (points[a, 1] + 1.0) * half - 0.5
        bx, by = (points[b, 0] + 1.0) * half - 0.5, (points[b, 1] + 1.0) * half - 0.5
        cx, cy = (points[c, 0] + 1.0) * half - 0.5, (points[c, 1] + 1.0) * half - 0.5
        left, right = max(np.ceil(min(ax, bx, cx)), 0.0), min(np.floor(max(ax, bx, cx)), size - 1.0)
        top, bottom = max(np.ceil(min(ay, by, cy)), 0.0), min(np.floor(max(ay, by, cy)), size - 1.0)
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        # Written so that a NaN or infinite corner fails the test too, before anything becomes an integer.
        if not (left <= right and top <= bottom and _DEGENERATE * half * half < abs(area) < np.inf):
            continue
        az, bz, cz = float(points[a, 2]), float(points[b, 2]), float(points[c, 2])
        u_dx, v_dx = (by - cy) / area, (cy - ay) / area
        for i in range(int(top), int(bottom) + 1):
            u_row = (bx * (cy - i) - cx * (by - i)) / area
            v_row = (cx * (ay - i) - ax * (cy - i)) / area
            for j in range(int(left), int(right) + 1):
                u, v = u_row + u_dx * j, v_row + v_dx * j
                w = 1.0 - u - v
                if u >= -_EDGE and v >= -_EDGE and w >= -_EDGE:
                    z = u * az + v * bz + w * cz
                    if z < depth[i, j]:
                        depth[i, j] = z
                        face[i, j] = f
                        bary[i, j, 0], bary[i, j, 1], bary[i, j, 2] = u, v, w
