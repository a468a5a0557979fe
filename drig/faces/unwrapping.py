"""What an album shows of a skin beyond the head's albedo: brows, lips, moles, a beard, also glasses.

Each photo is unwrapped into the layout of the head's texture, divided by what the codes render there, and the photos'
quotients are averaged (in logarithms) over those that see a texel: a factor on the albedo, the person's *detail*. What
one photo sees and the others do not, a cast shadow, gloss or a hand, counts little.
Beyond the paper, whose coarse albedo leaves all of it to the network; for estimators whose codes explain a photo's
colours, as `fit` does.

Legend: N photos, V vertices, T texture size, D side of the photos in pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from drig.faces.buffers import interpolate, vertex_normals
from drig.faces.camera import project
from drig.faces.codes import FaceCodes
from drig.faces.head import HeadModel
from drig.faces.lighting import shade_image
from drig.faces.rasterizer import Fragments, rasterize

DARKEST = 0.03
"""Colours below it, of 1, are noise: quotients of them are not told apart."""
FURTHEST = 2.0
"""Logarithm of the most that a quotient is: beyond is something else than skin."""
DOUBT = 0.1
"""Weight of the head's own albedo, beside 1 for a photo that sees a texel from the front."""
DISAGREEING = 0.6
"""Logarithm of a quotient over the other photos' at which a texel of a photo counts a quarter."""
BEHIND = 0.02
"""Image NDC by which what is hidden lies behind what hides it, at least."""
_DEPTH_SIZE = 256  # pixels of the picture that tells what is hidden


@dataclass(frozen=True, eq=False)
class Unwrapped:
    """N photos in the layout of the texture."""

    quotient: Tensor
    """(N, 3, T, T) logarithm of photo / rendering."""
    weight: Tensor
    """(N, 1, T, T) how well a photo sees a texel: the cosine to the viewer, 0 where it is hidden."""

    def detail(self) -> Tensor:
        """(1, 3, T, T) factor on the albedo by all photos, 1 where none sees anything."""
        return _factor(self.quotient, self.weight)

    def detail_of_others(self) -> Tensor:
        """(N, 3, T, T) for each photo the factor by the others: as it will be for a photo that is not in the album."""
        others = ~torch.eye(len(self.weight), dtype=torch.bool)
        return torch.cat([_factor(self.quotient[rest], self.weight[rest]) for rest in others])


def _factor(quotient: Tensor, weight: Tensor) -> Tensor:
    """(1, 3, T, T), rounded to half precision, in which it is kept."""
    weight = weight * _agreement(quotient, weight)
    mean = (quotient * weight).sum(0, keepdim=True) / (weight.sum(0, keepdim=True) + DOUBT)
    return mean.exp().half().float()


def _agreement(quotient: Tensor, weight: Tensor) -> Tensor:
    """(N, 1, T, T) in (0, 1], Geman and McClure's weight: 1 where a photo is as the others, or is the only one."""
    weighted = quotient * weight
    others = weight.sum(0) - weight
    apart = (weighted.sum(0) - weighted - quotient * others) / (others + DOUBT)
    return (1 + (apart / DISAGREEING).square().mean(1, keepdim=True)) ** -2


@torch.no_grad()
def unwrap(head: HeadModel, codes: FaceCodes, photos: NDArray[np.uint8]) -> Unwrapped:
    """Portraits (N, D, D, 3) and what was estimated of them."""
    vertices = head.vertices(codes)
    albedo = head.albedo(codes)  # (N, 3, T, T)
    points, texels = project(vertices, codes), _texels(head, albedo.shape[-1], len(albedo))
    seen = interpolate(texels, head.faces, points)  # (N, 3, T, T) image NDC
    normal = interpolate(texels, head.faces, vertex_normals(vertices, head.faces))
    rendered = albedo * shade_image(normal, codes.light)
    pictures = torch.tensor(photos, device=points.device).permute(0, 3, 1, 2) / 255
    colours = _at(pictures, seen, "bilinear")
    quotient = (colours.clamp(min=DARKEST) / rendered.clamp(min=DARKEST)).log().clamp(-FURTHEST, FURTHEST)
    visible = (texels.face >= 0)[:, None] & (seen[:, 2:] < _at(_depth(head, points), seen, "nearest") + BEHIND)
    visible &= (seen[:, :2].abs() < 1).all(1, keepdim=True)
    return Unwrapped(quotient, normal[:, 2:].clamp(min=0) * visible)


def _texels(head: HeadModel, size: int, count: int) -> Fragments:
    """What the texels of `count` equal heads are on: faces and weights, as of a picture's pixels."""
    corners = torch.stack([2 * head.uvs[:, 0] - 1, 1 - 2 * head.uvs[:, 1], torch.zeros_like(head.uvs[:, 0])], -1)
    found = rasterize(corners[None], head.uv_faces, size)
    return Fragments(found.face.expand(count, -1, -1), found.bary.expand(count, -1, -1, -1))


def _depth(head: HeadModel, points: Tensor) -> Tensor:
    """(N, 1, P, P) image NDC of the surface that is seen; far behind where there is none."""
    fragments = rasterize(points, head.faces, _DEPTH_SIZE)
    depth = interpolate(fragments, head.faces, points[..., 2:])
    return depth.where((fragments.face >= 0)[:, None], depth.new_tensor(torch.inf))


def _at(pictures: Tensor, places: Tensor, mode: str) -> Tensor:
    """Pictures (N, C, D, D) at places (N, 3, T, T) in image NDC -> (N, C, T, T)."""
    grid = places[:, :2].permute(0, 2, 3, 1)
    return functional.grid_sample(pictures, grid, mode=mode, padding_mode="border", align_corners=False)
