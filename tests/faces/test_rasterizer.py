"""The compiled z-buffer: pixel centres, depth, edges, and agreement with PyTorch3D."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from drig.faces.rasterizer import Fragments, rasterize, rasterize_numba, rasterize_pytorch3d


def crumpled_sheet(seed: int, side: int = 15) -> tuple[Tensor, Tensor]:
    """A folded grid that covers itself and hangs over the image's border: (1, V, 3) and (2 (side - 1)^2, 3)."""
    generator = torch.Generator().manual_seed(seed)
    line = torch.linspace(-1.1, 1.1, side)
    points = torch.stack([*torch.meshgrid(line, line, indexing="xy"), torch.zeros(side, side)], -1).view(1, -1, 3)
    points = points + 0.25 * torch.randn(points.shape, generator=generator)
    i = torch.arange(side * side).view(side, side)
    a, b, c, d = i[:-1, :-1].flatten(), i[:-1, 1:].flatten(), i[1:, 1:].flatten(), i[1:, :-1].flatten()
    return points, torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])


def seen_points(fragments: Fragments, vertices: Tensor, faces: Tensor) -> Tensor:
    """The 3-D point at every pixel, NaN where there is none: (N, H, W, 3)."""
    corners = vertices[torch.arange(len(vertices))[:, None, None, None], faces[fragments.face]]
    points = (corners * fragments.bary[..., None]).sum(-2)
    return torch.where(fragments.face[..., None] >= 0, points, torch.nan)


def test_agrees_with_pytorch3d() -> None:
    sheets = [crumpled_sheet(seed) for seed in (0, 1)]
    vertices, faces = torch.cat([v for v, _ in sheets]), sheets[0][1]
    ours, theirs = rasterize_numba(vertices, faces, 64), rasterize_pytorch3d(vertices, faces, 64)
    assert 0.5 < (ours.face >= 0).float().mean() < 1
    assert (ours.face != theirs.face).float().mean() < 5e-4  # depth in PyTorch3D is a float32 near 10
    same = ours.face == theirs.face
    torch.testing.assert_close(ours.bary[same], theirs.bary[same], atol=2e-4, rtol=0)


def test_a_pixel_sees_the_point_at_its_centre() -> None:
    vertices, faces = crumpled_sheet(3)
    fragments = rasterize(vertices, faces, 32)
    x, y = seen_points(fragments, vertices, faces)[0, ..., :2].unbind(-1)
    centres = (2 * torch.arange(32) + 1) / 32 - 1
    seen = fragments.face[0] >= 0
    torch.testing.assert_close(x[seen], centres.expand(32, 32)[seen], atol=1e-5, rtol=0)
    torch.testing.assert_close(y[seen], centres[:, None].expand(32, 32)[seen], atol=1e-5, rtol=0)
    torch.testing.assert_close(fragments.bary.sum(-1)[0], seen.float())


def test_nearer_wins_from_both_sides_in_any_order() -> None:
    square = torch.tensor([[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]])
    near = torch.cat([0.4 * square, torch.full((4, 1), -0.5)], 1)
    far = torch.cat([square, torch.full((4, 1), 0.5)], 1)
    two = torch.tensor([[0, 1, 2], [0, 2, 3]])
    for turn in (two, two.flip(1)):
        ahead = rasterize(torch.cat([near, far])[None], torch.cat([turn, turn + 4]), 20).face[0]
        behind = rasterize(torch.cat([far, near])[None], torch.cat([turn, turn + 4]), 20).face[0]
        assert torch.equal(ahead == -1, behind == -1)
        assert torch.equal((ahead == 0) | (ahead == 1), (behind == 2) | (behind == 3))
        assert ahead[10, 10] < 2
        assert ahead[2, 10] >= 2
        assert ahead[0, 0] == -1


def test_shared_edges_through_pixel_centres_leave_no_hole() -> None:
    size = 8
    line = (2 * torch.arange(size) + 1) / size - 1  # vertices on the pixel centres
    points = torch.stack([*torch.meshgrid(line, line, indexing="xy"), torch.zeros(size, size)], -1).view(1, -1, 3)
    i = torch.arange(size * size).view(size, size)
    a, b, c, d = i[:-1, :-1].flatten(), i[:-1, 1:].flatten(), i[1:, 1:].flatten(), i[1:, :-1].flatten()
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])
    assert (rasterize(points, faces, size).face >= 0).all()


def test_faces_that_cannot_be_seen_draw_nothing() -> None:
    good = torch.tensor([[-0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [0.0, 0.5, 0.0]])
    line, outside = torch.tensor([[-0.5, 0.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]), good + 3
    not_finite = [good.clone() for _ in range(4)]
    not_finite[0][0, 0], not_finite[1][1, 1], not_finite[2][2, 0] = torch.nan, torch.inf, -torch.inf
    not_finite[3][:, 2] = torch.nan
    for corners in (line, outside, good[[0, 0, 1]], *not_finite):
        assert (rasterize(corners[None], torch.tensor([[0, 1, 2]]), 16).face == -1).all()
    huge = torch.tensor([[-1e6, -1e6, 0.0], [1e6, -1e6, 0.0], [0.0, 1e6, 0.0]])
    assert (rasterize(huge[None], torch.tensor([[0, 1, 2]]), 16).face == 0).all()


@pytest.mark.parametrize("rasterizer", [rasterize_numba, rasterize_pytorch3d])
def test_nothing_in_nothing_out(rasterizer: Callable[[Tensor, Tensor, int], Fragments]) -> None:
    vertices, faces = crumpled_sheet(0)
    none = rasterizer(vertices[:0], faces, 8)
    assert none.face.shape == (0, 8, 8)
    assert none.bary.shape == (0, 8, 8, 3)
    empty = rasterizer(vertices, faces[:0], 8)
    assert (empty.face == -1).all()
    assert not empty.bary.any()


def test_a_second_process_does_not_compile_again() -> None:
    rasterize(*crumpled_sheet(0), 8)
    code = (
        "import torch; from drig.faces import rasterizer as r;"
        "r.rasterize(torch.zeros(1, 3, 3), torch.tensor([[0, 1, 2]]), 4);"
        "stats = r._draw.stats; assert stats.cache_hits and not stats.cache_misses, stats"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu() -> None:
    vertices, faces = crumpled_sheet(4, side=60)
    ours, theirs = rasterize(vertices, faces, 256), rasterize(vertices.cuda(), faces.cuda(), 256)
    assert theirs.face.is_cuda
    assert (ours.face != theirs.face.cpu()).float().mean() < 5e-4
