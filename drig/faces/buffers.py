"""Physical buffers: what a coarse head looks like, pixel by pixel (SPEC 5), and the shift that keeps it there (SPEC 6).

Legend: N batch, V vertices, F faces, U texture coordinates, T texture size, H = W = size, P covered pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from drig.faces.camera import project
from drig.faces.codes import FaceCodes
from drig.faces.head import HeadModel
from drig.faces.ibug import ffhq_centre
from drig.faces.lighting import shade_image
from drig.faces.rasterizer import Fragments, rasterize


@dataclass(frozen=True, eq=False)
class Buffers:
    """Pixel-aligned images of the coarse head, float32, zero where alpha is."""

    rendered: Tensor
    """(N, 3, H, W) albedo x shading, unclipped."""
    normal: Tensor
    """(N, 3, H, W) world-space normals in [-1, 1], not renormalised after interpolation."""
    albedo: Tensor
    """(N, 3, H, W) in [0, 1]."""
    alpha: Tensor
    """(N, 1, H, W) 1 where the head covers the pixel's centre, else 0."""

    def stacked(self) -> Tensor:
        """(N, 9, H, W) rendered, normal, albedo: the network's condition (SPEC 2)."""
        return torch.cat([self.rendered, self.normal, self.albedo], 1)


def render_buffers(
    head: HeadModel, codes: FaceCodes, size: int, *, shift: Tensor | None = None, detail: Tensor | None = None
) -> Buffers:
    """The head that `codes` describe as size x size buffers.

    shift: (N, 3) moves it in the world before projection. detail: (N or 1, 3, T, T) factor on its albedo.
    """
    vertices = head.vertices(codes)
    if shift is not None:
        vertices = vertices + shift[:, None]
    normals = vertex_normals(vertices, head.faces)
    fragments = rasterize(project(vertices, codes), head.faces, size)
    normal = interpolate(fragments, head.faces, normals)
    texture = head.albedo(codes)
    if detail is not None:
        texture = (texture * detail).clamp(0, 1)
    albedo = sample_texture(fragments, head.uvs, head.uv_faces, texture)
    return compose(normal, albedo, (fragments.face >= 0)[:, None].float(), codes.light)


def render_edited(
    head: HeadModel, source: FaceCodes, edited: FaceCodes, size: int, *, detail: Tensor | None = None
) -> Buffers:
    """The buffers of edited codes, the head held on the source's FFHQ centre. detail: as of `render_buffers`."""
    return render_buffers(head, edited, size, shift=centre_shift(head, source, edited), detail=detail)


def compose(normal: Tensor, albedo: Tensor, alpha: Tensor, light: Tensor) -> Buffers:
    """The buffers, of which `rendered` = albedo x shading is derived: images (N, 3 or 1, H, W), light (N, 9, 3)."""
    return Buffers(rendered=albedo * shade_image(normal, light), normal=normal, albedo=albedo, alpha=alpha)


def centre_shift(head: HeadModel, source: FaceCodes, edited: FaceCodes) -> Tensor:
    """(N, 3) world-space shift that puts the edited head's FFHQ centre where the source's was (SPEC 6)."""
    before = ffhq_centre(head.landmarks(source, head.vertices(source)))
    after = ffhq_centre(head.landmarks(edited, head.vertices(edited)))
    return torch.sub(before, after)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit vertex normals (N, V, 3): the sum of the adjacent faces' normals, weighted by area. Differentiable."""
    a, b, c = vertices[:, faces].unbind(2)
    face_normals = torch.linalg.cross(b - a, c - a)  # (N, F, 3), length twice the area
    corners = face_normals.repeat_interleave(3, 1)  # (N, 3 F, 3)
    return functional.normalize(torch.zeros_like(vertices).index_add(1, faces.flatten(), corners), dim=-1, eps=1e-12)


def interpolate(fragments: Fragments, faces: Tensor, attributes: Tensor) -> Tensor:
    """Attributes of vertices (N, V, C) or (V, C) by barycentric weights -> (N, C, H, W), zero where no face is."""
    n, h, w = fragments.face.shape
    face = fragments.face.flatten()
    pixels = (face >= 0).nonzero()[:, 0]  # (P,)
    corners = faces[face[pixels]]  # (P, 3)
    if attributes.ndim == 3:
        corners = corners + (pixels // (h * w) * attributes.shape[1])[:, None]
    values = attributes.flatten(0, -2)[corners]  # (P, 3, C)
    weights = fragments.bary.flatten(0, 2)[pixels]  # (P, 3)
    image = attributes.new_zeros(len(face), attributes.shape[-1])
    image[pixels] = (weights[:, None] @ values)[:, 0]
    return image.view(n, h, w, image.shape[1]).permute(0, 3, 1, 2).contiguous()


def sample_texture(fragments: Fragments, uvs: Tensor, uv_faces: Tensor, texture: Tensor) -> Tensor:
    """UV texture (N, C, T, T), coordinates (U, 2) and their faces (F, 3) -> (N, C, H, W), zero where no face is.

    Bilinear, align_corners=False, at grid (2u - 1, 1 - 2v): v = 1 is the texture's top row (SPEC 4).
    """
    uv = interpolate(fragments, uv_faces, uvs)  # (N, 2, H, W)
    grid = torch.stack([2 * uv[:, 0] - 1, 1 - 2 * uv[:, 1]], -1)
    colours = functional.grid_sample(texture, grid, mode="bilinear", align_corners=False)
    return colours * (fragments.face >= 0)[:, None]
