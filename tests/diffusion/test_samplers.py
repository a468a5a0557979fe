import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from drig.diffusion.samplers import SAMPLERS, Sampler, find_sampler
from drig.diffusion.schedule import Schedule
from drig.errors import DrigError
from tests import parity
from tests.diffusion.gaussian import ALPHAS_BAR, Gaussian

NOTHING = torch.zeros(2, 9, 8, 8), torch.zeros(2, 64)
"""Buffers and a code for denoisers that look at neither."""


class Oracle:
    """Knows the image, so it knows the noise exactly."""

    def __init__(self, image: Tensor, dtype: torch.dtype = torch.float32) -> None:
        self.image, self.dtype = image, dtype
        self.timesteps: list[int] = []

    def denoise(self, x_t: Tensor, t: Tensor, buffers: Tensor, code: Tensor) -> Tensor:
        self.timesteps.append(int(t[0]))
        alpha_bar = ALPHAS_BAR[t][:, None, None, None]
        return ((x_t - alpha_bar.sqrt() * self.image) / (1 - alpha_bar).sqrt()).to(self.dtype)


def start(seed: int = 0) -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=SAMPLERS)
def sampler(request: pytest.FixtureRequest) -> Sampler:
    return SAMPLERS[request.param]


@pytest.mark.parametrize("steps", range(1, 51))
def test_a_denoiser_that_knows_the_image_leads_to_it(sampler: Sampler, steps: int) -> None:
    oracle = Oracle(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 1.8 - 0.9)
    torch.testing.assert_close(sampler(oracle, start(), *NOTHING, steps=steps), oracle.image, atol=1e-3, rtol=0)
    assert len(set(oracle.timesteps)) == steps
    assert oracle.timesteps == sorted(oracle.timesteps, reverse=True)


def test_images_are_float32_where_the_network_ran_in_bfloat16(sampler: Sampler) -> None:
    oracle = Oracle(torch.full((2, 3, 8, 8), 0.5), torch.bfloat16)
    images = sampler(oracle, start(), *NOTHING)
    assert images.dtype == torch.float32
    torch.testing.assert_close(images, oracle.image, atol=1e-3, rtol=0)


def test_images_stay_in_range(sampler: Sampler) -> None:
    images = sampler(Oracle(torch.full((2, 3, 8, 8), 5.0)), start(), *NOTHING, steps=5)
    torch.testing.assert_close(images, torch.ones_like(images))


def test_ddim_steps_as_the_released_one() -> None:
    oracle = Oracle(torch.zeros(2, 3, 8, 8))
    SAMPLERS["ddim"](oracle, start(), *NOTHING)
    assert oracle.timesteps == list(range(950, -1, -50))


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("dpmpp", 2), ("unipc", 2), ("heun", 2)])
def test_a_solver_nears_the_exact_solution_with_its_order(name: str, order: int) -> None:
    """Four times the steps leave a quarter of the error of a method of first order, 1/16 of one of second order."""
    sampler = replace(SAMPLERS[name], timesteps=Schedule.log_snr_timesteps)
    gaussian = Gaussian(0.3, 0.1)  # far from -1 and 1: nothing is clipped
    few, many = (
        (sampler(gaussian, start(), *NOTHING, steps=steps) - gaussian.solution(start())).square().mean().sqrt().item()
        for steps in (20, 80)
    )
    assert few < 0.015 / order**2
    assert math.log(few / many, 4) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("steps", [4, 10, 25])
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_library_diffusers_makes_the_same_images(name: str, steps: int) -> None:
    """Its numbers, of many pixels that are clipped (bake_diffusers.py)."""
    theirs = parity.load(Path(__file__).with_name("diffusers.npz"))
    timesteps: list[int] = theirs[f"{name}{steps}_timesteps"].tolist()
    ours = replace(SAMPLERS[name], timesteps=lambda schedule, count: timesteps)
    images = ours(Gaussian(0.3, 0.6), theirs["noise"], *NOTHING, steps=steps)
    torch.testing.assert_close(images, theirs[f"{name}{steps}"], atol=2e-4, rtol=0)


def test_the_same_noise_gives_the_same_image(sampler: Sampler) -> None:
    one, again, other = (sampler(Gaussian(0.0, 0.5), start(seed), *NOTHING, steps=6) for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_callback_sees_every_step_and_the_last_guess_is_the_image(sampler: Sampler, steps: int) -> None:
    seen = list[tuple[int, int, Tensor]]()
    images = sampler(Gaussian(0.0, 0.5), start(), *NOTHING, steps=steps, callback=lambda *step: seen.append(step))
    assert [(step, total) for step, total, _ in seen] == [(i + 1, steps) for i in range(steps)]
    assert torch.equal(seen[-1][2], images)
    assert len({x0.sum().item() for _, _, x0 in seen}) == steps


@pytest.mark.parametrize("steps", [0, -3, 1001])
def test_a_count_that_the_schedule_does_not_have_is_refused_before_any_step(sampler: Sampler, steps: int) -> None:
    oracle = Oracle(torch.zeros(2, 3, 8, 8))
    with pytest.raises(DrigError, match=rf"^{steps} sampling steps: give 1 to 1000"):
        sampler(oracle, start(), *NOTHING, steps=steps)
    assert oracle.timesteps == []


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("step", [1, 4, 6])
def test_numbers_that_are_not_finite_are_an_error_that_names_the_step(
    sampler: Sampler, step: int, broken: float
) -> None:
    bad_t = sampler.timesteps(Schedule(), 6)[-step]

    class Broken(Gaussian):
        def denoise(self, x_t: Tensor, t: Tensor, buffers: Tensor, code: Tensor) -> Tensor:
            eps = super().denoise(x_t, t, buffers, code)
            eps[1, 2, 3, 4] = broken if int(t[0]) == bad_t else eps[1, 2, 3, 4]
            return eps

    with pytest.raises(DrigError, match=rf"^step {step} of 6 \(t = {bad_t}\): .*not finite"):
        sampler(Broken(0.0, 0.5), start(), *NOTHING, steps=6)


def test_samplers_are_found_by_name() -> None:
    assert all(find_sampler(name) is SAMPLERS[name] for name in SAMPLERS)
    with pytest.raises(DrigError, match="sampler 'euler' is unknown; choose one of: ddim, dpmpp, unipc, heun"):
        find_sampler("euler")
