import pytest
import torch
from torch import Tensor

from drig.diffusion.samplers import ddim
from drig.diffusion.schedule import Schedule
from drig.errors import DrigError


class Oracle:
    """Knows the image, so it knows the noise exactly."""

    def __init__(self, image: Tensor) -> None:
        self.image = image
        self.timesteps: list[int] = []

    def denoise(self, x_t: Tensor, t: Tensor, buffers: Tensor, code: Tensor) -> Tensor:
        self.timesteps.append(int(t[0]))
        alpha_bar = Schedule().at(t)[:, None, None, None]
        return ((x_t - alpha_bar.sqrt() * self.image) / (1 - alpha_bar).sqrt()).to(torch.bfloat16)


def inputs(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    noise = torch.randn(2, 3, 16, 16, generator=generator)
    return noise, torch.zeros(2, 9, 16, 16), torch.zeros(2, 64)


def test_ddim_reaches_the_image_that_the_denoiser_knows() -> None:
    generator = torch.Generator().manual_seed(0)
    oracle = Oracle(torch.rand(2, 3, 16, 16, generator=generator) * 1.8 - 0.9)
    images = ddim(oracle, *inputs(generator), steps=20)
    assert images.dtype == torch.float32  # also where the network ran in bfloat16
    torch.testing.assert_close(images, oracle.image, atol=1e-3, rtol=0)
    assert oracle.timesteps == list(range(950, -1, -50))


def test_images_stay_in_range() -> None:
    images = ddim(Oracle(torch.full((2, 3, 16, 16), 5.0)), *inputs(torch.Generator().manual_seed(0)), steps=5)
    torch.testing.assert_close(images, torch.ones_like(images))


def test_callback_sees_every_step_and_its_guess() -> None:
    generator = torch.Generator().manual_seed(0)
    oracle, seen = Oracle(torch.zeros(2, 3, 16, 16)), list[tuple[int, int]]()

    def callback(step: int, total: int, x0: Tensor) -> None:
        seen.append((step, total))
        torch.testing.assert_close(x0, oracle.image, atol=0.6, rtol=0)

    ddim(oracle, *inputs(generator), steps=4, callback=callback)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_count_without_a_stride_is_refused_before_any_step() -> None:
    oracle = Oracle(torch.zeros(2, 3, 16, 16))
    with pytest.raises(DrigError, match="36 or 38"):
        ddim(oracle, *inputs(torch.Generator().manual_seed(0)), steps=37)
    assert oracle.timesteps == []
