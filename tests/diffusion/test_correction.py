"""What a rig that predicts corrections starts from and is shown."""

import torch
from torch import Tensor

from drig.diffusion.correction import inner_face, visible_correction


def half_a_head() -> Tensor:
    """(1, 9, 64, 64): white skin that faces the camera on the left half, background on the right."""
    buffers = torch.zeros(1, 9, 64, 64)
    buffers[:, :3, :, :32] = 1.0
    buffers[:, 5, :, :32] = 1.0
    return buffers


def test_the_face_fades_towards_its_outline_and_not_at_the_edge_of_the_picture() -> None:
    face = inner_face(half_a_head())
    assert face.shape == (1, 3, 64, 64)
    row = face[0, 0, 0]
    assert row[:24].eq(1).all()
    assert row[32:].eq(0).all()
    fading = row[24:33]
    assert (fading.diff() <= 0).all()
    assert -fading.diff().min() < 0.2


def test_little_of_the_noisy_image_is_shown_where_it_is_nearly_all_noise() -> None:
    face, noise = torch.zeros(1, 3, 8, 8), torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    clean, noisy = torch.tensor([[[[1.0]]]]), torch.tensor([[[[1e-4]]]])
    torch.testing.assert_close(visible_correction(noise, face, clean), noise)
    assert visible_correction(noise, face, noisy).std() < 0.1 * noise.std()
