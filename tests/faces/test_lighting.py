"""Spherical-harmonics light: SPEC 5's constants, exact rotation, and lamps."""

import torch
from pytorch3d.transforms import random_rotations
from torch import Tensor

from drig.faces.lighting import directional_light, sh_basis, sh_rotation, shade, shade_image


def unit_normals(count: int) -> Tensor:
    normals = torch.randn(count, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.nn.functional.normalize(normals)


def test_basis_has_the_constants_of_the_spec() -> None:
    up = sh_basis(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    expected = torch.tensor([0.28209479, 0, 0, 1.02332671, 0, 0, 0, 0, 0.49541592], dtype=torch.float64)
    torch.testing.assert_close(up, expected, atol=1e-7, rtol=0)
    diagonal = sh_basis(torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64) / 2**0.5)
    torch.testing.assert_close(diagonal[4].item(), 0.42904277, atol=1e-7, rtol=0)  # (pi/4) 3 sqrt(5/(12 pi)) / 2


def test_rotated_light_shades_as_the_light_does_counter_rotated_normals() -> None:
    torch.manual_seed(0)
    rotation = random_rotations(4, dtype=torch.float64)
    light = torch.randn(4, 9, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    n = unit_normals(500).expand(4, 500, 3)
    turned = shade(n, sh_rotation(rotation) @ light)
    torch.testing.assert_close(turned, shade(n @ rotation, light), atol=1e-6, rtol=0)  # rows of n @ R are R^T n
    composed = sh_rotation(rotation[0]) @ sh_rotation(rotation[1])
    torch.testing.assert_close(composed, sh_rotation(rotation[0] @ rotation[1]), atol=1e-6, rtol=0)


def test_a_lamp_lights_the_side_that_faces_it() -> None:
    direction = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64)
    colour = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
    light = directional_light(direction, colour, ambient=0.2)
    normals = unit_normals(2000)
    lambert = 0.2 + (normals @ direction / 3).clamp(min=0)[:, None] * colour
    assert (shade(normals, light) - lambert).abs().max() < 0.11  # what the first three bands of a clamped cosine lack
    assert (shade(normals, light) - lambert).mean(0).abs().max() < 0.01
    facing = shade(direction[None] / 3, light)[0]
    torch.testing.assert_close(facing, 0.2 + 1.0625 * colour, atol=1e-6, rtol=0)


def test_images_shade_as_their_pixels() -> None:
    normal = unit_normals(2 * 4 * 5).reshape(2, 4, 5, 3)
    light = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    image = shade_image(normal.permute(0, 3, 1, 2), light)
    torch.testing.assert_close(image.permute(0, 2, 3, 1), shade(normal.flatten(1, 2), light).reshape(2, 4, 5, 3))
