"""Buffers against the released implementation's numbers, and their properties on simple heads."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from drig.faces.buffers import Buffers, centre_shift, render_buffers, sample_texture, vertex_normals
from drig.faces.camera import crop_affine, project
from drig.faces.codes import FaceCodes
from drig.faces.flame import FlameHead
from drig.faces.ibug import ffhq_centre
from drig.faces.rasterizer import rasterize
from tests import parity


@dataclass(frozen=True)
class Reference:
    head: FlameHead
    codes: FaceCodes
    images: dict[str, Tensor]


@pytest.fixture(scope="module")
def reference(shared: Path, flame: FlameHead) -> Reference:
    """The fixtures' head, whose texture codes choose among their three textures."""
    stored = parity.load(shared / "parity" / "flame_buffers.npz")
    textures = parity.rand("uv_albedo", 3, 3, 256, 256)
    codes = FaceCodes(
        tex=torch.eye(3),
        crop=crop_affine(stored["crop_to_image"], 64),
        **{name: stored[name] for name in ("shape", "exp", "pose", "cam", "light")},
    )
    head = replace(flame, albedo_mean=torch.zeros(3, 256, 256), albedo_basis=textures)
    return Reference(head, codes, stored)


def assert_matches(buffers: Buffers, reference: Reference, prefix: str, names: list[str]) -> None:
    """Parity's tolerance: at most 0.5% of the pixels differ by more than 1e-3."""
    for name in names:
        difference = (getattr(buffers, name) - reference.images[prefix + name]).abs().amax(1)
        assert (difference > 1e-3).float().mean() <= 0.005, name


def test_buffers_match_the_released_implementation(reference: Reference) -> None:
    buffers = render_buffers(reference.head, reference.codes, 64)
    assert_matches(buffers, reference, "", ["normal", "albedo", "rendered", "alpha"])
    assert buffers.stacked().shape == (3, 9, 64, 64)
    assert torch.equal(buffers.stacked()[:, 3:6], buffers.normal)


def test_a_pose_edit_keeps_the_ffhq_centre_as_the_released_one_does(reference: Reference) -> None:
    head, source = reference.head, reference.codes
    edited = source.replace(pose=torch.cat([source.pose[[1, 2, 0], :3], source.pose[:, 3:]], 1))
    shift = centre_shift(head, source, edited)
    posed = head.vertices(edited) + shift[:, None]
    torch.testing.assert_close(posed, reference.images["posed_verts"], atol=1e-6, rtol=0)
    assert_matches(render_buffers(head, edited, 64, shift=shift), reference, "posed_", ["normal", "rendered"])
    assert not centre_shift(head, source, source).any()


def test_every_buffer_is_zero_outside_the_head(reference: Reference) -> None:
    moved = reference.codes.replace(crop=reference.codes.crop + torch.tensor([[0.0, 0.0, 0.8], [0.0, 0.0, -0.6]]))
    partly = render_buffers(reference.head, moved, 48)
    assert 0 < partly.alpha.mean() < 0.5
    assert not (partly.stacked() * (1 - partly.alpha)).any()
    gone = render_buffers(reference.head, moved, 48, shift=torch.full((3, 3), 9.0))
    assert not gone.stacked().any()
    assert not gone.alpha.any()


def test_an_empty_batch_gives_empty_buffers(reference: Reference) -> None:
    assert render_buffers(reference.head, reference.codes[:0], 16).stacked().shape == (0, 9, 16, 16)


def test_projection_follows_the_camera_and_the_crop() -> None:
    codes = FaceCodes(
        **{name: torch.zeros(1, 2) for name in ("shape", "tex", "exp")},
        pose=torch.zeros(1, 6),
        cam=torch.tensor([[2.0, 0.1, -0.2]]),
        light=torch.zeros(1, 9, 3),
        crop=crop_affine(torch.tensor([[[0.5, 0.0, 8.0], [0.0, 0.5, 16.0], [0.0, 0.0, 1.0]]]), 128),
    )
    x, y, z = project(torch.tensor([[[0.2, 0.3, 0.4]]]), codes)[0, 0].tolist()
    crop_x, crop_y = (2 * 0.3 + 1) * 112, (-2 * 0.1 + 1) * 112  # pixels of the 224 px crop
    assert x == pytest.approx(2 * (0.5 * crop_x + 8) / 128 - 1, abs=1e-6)
    assert y == pytest.approx(2 * (0.5 * crop_y + 16) / 128 - 1, abs=1e-6)
    assert z == pytest.approx(-0.8)


def test_vertex_normals_are_weighted_by_area_and_differentiable() -> None:
    # A floor of twice the area of a wall, sharing an edge along x.
    points = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 0, -2], [0, 1, 0]]], requires_grad=True)
    faces = torch.tensor([[0, 1, 2], [0, 3, 1]])
    normals = vertex_normals(points, faces)
    both = torch.linalg.cross(points[0, 1], points[0, 2]) + torch.linalg.cross(points[0, 3], points[0, 1])
    torch.testing.assert_close(normals[0, 0], both / both.norm())
    torch.testing.assert_close(normals[0, 2], torch.tensor([0.0, 1.0, 0.0]))
    (gradient,) = torch.autograd.grad(normals.sum(), points)
    assert torch.isfinite(gradient).all()
    assert gradient.any()
    assert not vertex_normals(torch.zeros(1, 4, 3), faces).any()  # degenerate: zero, not NaN


def test_texture_rows_run_from_v_one_downwards() -> None:
    quad = torch.tensor([[[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]])  # image NDC: y down
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    uvs = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    texture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    image = sample_texture(rasterize(quad, faces, 16), uvs, faces, texture)
    torch.testing.assert_close(image, texture, atol=1e-5, rtol=0)


def test_ffhq_centre_is_the_same_in_numpy_and_torch() -> None:
    points = np.random.default_rng(0).normal(size=(2, 68, 3))
    np.testing.assert_allclose(ffhq_centre(points), ffhq_centre(torch.from_numpy(points)).numpy())
