"""Light as second-order spherical harmonics (SPEC 5), their rotation, and lights made of a direction.

Light coefficients L are (..., 9, 3): SH index, then RGB. Normals are world space: x right, y up, z towards the viewer.
"""

from math import pi, sqrt

import torch
from torch import Tensor

SH_SCALE = (  # c_k of SPEC 5: the real SH constants times the bands' cosine-lobe factors as DECA has them
    [1 / sqrt(4 * pi)]
    + [(2 * pi / 3) * sqrt(3 / (4 * pi))] * 3
    + [(pi / 4) * 3 * sqrt(5 / (12 * pi))] * 3
    + [(pi / 4) * (3 / 2) * sqrt(5 / (12 * pi)), (pi / 4) * (1 / 2) * sqrt(5 / (4 * pi))]
)

# max(0, n.d) = 1/4 + (n.d)/2 + (5/16) P2(n.d) + ..., with P2 spread over Y(n) Y(d) (Ramamoorthi and Hanrahan 2001).
_CLAMPED_COSINE = [1 / 4] + [1 / 2] * 3 + [15 / 16] * 3 + [15 / 64, 5 / 64]


def sh_basis(normals: Tensor, dim: int = -1) -> Tensor:
    """c_k Y_k(n) of SPEC 5: normals with 3 entries along `dim` -> 9 entries there. Normals are taken as they are."""
    x, y, z = normals.unbind(dim)
    values = [torch.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1]
    return torch.stack([value * scale for value, scale in zip(values, SH_SCALE, strict=True)], dim)


def shade(normals: Tensor, light: Tensor) -> Tensor:
    """Shading sum_k L_k c_k Y_k(n): normals (..., P, 3), light (..., 9, 3) -> (..., P, 3), unclipped."""
    return sh_basis(normals) @ light


def shade_image(normal: Tensor, light: Tensor) -> Tensor:
    """`shade` for normal images: (N, 3, H, W) and (N, 9, 3) -> (N, 3, H, W)."""
    return torch.einsum("nkc,nkhw->nchw", light, sh_basis(normal, 1))


def sh_rotation(rotation: Tensor) -> Tensor:
    """M(R), (..., 3, 3) -> (..., 9, 9): shade(n, M L) = shade(R^T n, L) for every unit n, so M L is L turned by R.

    Band 1 turns as a vector. A band-2 function is n^T Q n with Q symmetric and traceless, which turns to R Q R^T;
    its coordinates in the basis are Frobenius products. (For normals that interpolation has shortened, 3 z^2 - 1 is
    not quadratic in n, and the identity holds to first order in 1 - |n|^2.)
    """
    r = rotation
    q = _band2_forms().to(r)  # (5, 3, 3)
    turned = torch.einsum("...ia,kab,...jb->...kij", r, q, r)
    matrix = r.new_zeros(*r.shape[:-2], 9, 9)
    matrix[..., 0, 0] = 1
    matrix[..., 1:4, 1:4] = r
    matrix[..., 4:, 4:] = torch.einsum("...kij,mij->...mk", turned, q) / q.square().sum((1, 2))[:, None]
    return matrix


def directional_light(direction: Tensor, colour: Tensor, ambient: float) -> Tensor:
    """Light (9, 3) that a distant lamp in `direction` (3, towards it, any length) with RGB `colour` (3) gives.

    The lamp's Lambertian shading max(0, n.d) colour in second-order SH, plus `ambient` from everywhere: a surface that
    faces the lamp is lit by about colour + ambient, one that faces away by about the ambient.
    """
    scale, cosine = torch.tensor([SH_SCALE, _CLAMPED_COSINE]).to(direction)
    light: Tensor = (cosine * sh_basis(direction / direction.norm()) / scale**2)[:, None] * colour  # (9, 3)
    light[0] += ambient / SH_SCALE[0]
    return light


def _band2_forms() -> Tensor:
    """Q_k, (5, 3, 3), of the basis' last five functions: xy, xz, yz, x^2 - y^2, 3 z^2 - |n|^2, times c_k."""
    q = torch.zeros(5, 3, 3)
    for k, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
        q[k, i, j] = q[k, j, i] = 0.5
    q[3] = torch.diag(torch.tensor([1.0, -1.0, 0.0]))
    q[4] = torch.diag(torch.tensor([-1.0, -1.0, 2.0]))
    return q * torch.tensor(SH_SCALE[4:])[:, None, None]
