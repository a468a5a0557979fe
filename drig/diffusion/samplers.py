"""From noise to an image: the samplers. They know no network, only something that denoises.

A denoiser defines an ordinary differential equation whose solution, from pure noise at the noisiest timestep down to
none, is the image; a sampler is a way to solve it in few steps. All are deterministic: the same noise, buffers and
code give the same image.

Shapes: N batch, H W pixels, Z width of the global code. Images are in [-1, 1].
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from drig.diffusion.schedule import Schedule
from drig.errors import DrigError


class Denoiser(Protocol):
    """What a sampler needs of a rig."""

    def denoise(self, x_t: Tensor, t: Tensor, buffers: Tensor, code: Tensor) -> Tensor:
        """x_t (N, 3, H, W), t (N,), buffers (N, 9, H, W), code (N, Z) -> the noise in x_t (N, 3, H, W)."""
        ...


@dataclass(frozen=True)
class Level:
    """What x_t = alpha image + sigma noise is made of at one timestep."""

    t: int
    alpha: float
    sigma: float

    @property
    def log_snr(self) -> float:
        """Half the logarithm of the signal-to-noise ratio, lambda in Lu et al. and Zhao et al."""
        return math.log(self.alpha / self.sigma)


Predict = Callable[[Tensor, Level], Tensor]
"""x_t (N, 3, H, W) at a level -> the image that the denoiser sees in it, clipped to [-1, 1]."""
Solver = Callable[[Predict, Tensor, Sequence[Level]], Iterator[Tensor]]
"""Start noise (N, 3, H, W) and levels, noisiest first -> the image predicted at each; the last one is the result."""


def _towards(image: Tensor, x: Tensor, here: Level, there: Level) -> Tensor:
    """x at `here` -> x at the cleaner level `there`, exactly, if `image` were what all levels between predict.

    It is DDIM's step; the solvers of higher order differ in nothing but the image that they aim at.
    """
    noise = (x - here.alpha * image) / here.sigma
    return there.alpha * image + there.sigma * noise


def _ddim(predict: Predict, x: Tensor, levels: Sequence[Level]) -> Iterator[Tensor]:
    """DDIM without added noise (Song et al. 2021, eta 0; SPEC 3): aims at the image predicted last."""
    for here, there in pairwise(levels):
        image = predict(x, here)
        yield image
        x = _towards(image, x, here, there)
    yield predict(x, levels[-1])


def _dpm_solver(predict: Predict, x: Tensor, levels: Sequence[Level]) -> Iterator[Tensor]:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): extrapolates the last two predictions to the middle of a step."""
    before: tuple[Tensor, Level] | None = None
    for here, there in pairwise(levels):
        image = predict(x, here)
        yield image
        x = _towards(_extrapolated(image, here, there, before), x, here, there)
        before = image, here
    yield predict(x, levels[-1])


def _extrapolated(image: Tensor, here: Level, there: Level, before: tuple[Tensor, Level] | None) -> Tensor:
    """The prediction to expect halfway, in log-SNR, between two levels."""
    if before is None:
        return image
    earlier, level = before
    return image + (there.log_snr - here.log_snr) / (2 * (here.log_snr - level.log_snr)) * (image - earlier)


def _unipc(predict: Predict, x: Tensor, levels: Sequence[Level]) -> Iterator[Tensor]:
    """UniPC of order 2 with B(h) = e^h - 1 (Zhao et al. 2023): DPM-Solver++(2M), each step of which is taken again.

    The prediction at a step's end tells how its middle really was: the step is mended before the next one, at no
    further call of the network.
    """
    start, trail = x, list[tuple[Tensor, Level]]()  # where the last step began; the predictions before this one
    for here, there in pairwise(levels):
        image = predict(x, here)
        yield image
        if trail:
            x = _towards(_interpolated([*trail, (image, here)]), start, trail[-1][1], here)
        start = x
        x = _towards(_extrapolated(image, here, there, trail[-1] if trail else None), x, here, there)
        trail = [*trail[-1:], (image, here)]
    yield predict(x, levels[-1])


def _interpolated(trail: Sequence[tuple[Tensor, Level]]) -> Tensor:
    """What to aim at between the last two of two or three levels, given the predictions at all of them.

    It is the mean, weighted as `_towards` weighs images on the way, of the parabola through three predictions.
    """
    (image, here), (ahead, there) = trail[-2:]
    if len(trail) == 2:
        return (image + ahead) / 2
    earlier, before = trail[0]
    h, h_before = there.log_snr - here.log_snr, here.log_snr - before.log_snr
    first = h / -math.expm1(-h) - 1  # the moments of log-SNR - here's: density e^u for u from 0 to h
    second = h * h / -math.expm1(-h) - 2 * first
    of_ahead = (second + h_before * first) / (h * (h + h_before))
    of_earlier = (second - h * first) / (h_before * (h + h_before))
    return image + of_ahead * (ahead - image) + of_earlier * (earlier - image)


def _heun(predict: Predict, x: Tensor, levels: Sequence[Level]) -> Iterator[Tensor]:
    """Heun's method as Karras et al. 2022 use it (algorithm 1): two calls of the network for each step but the last.

    It follows the mean of the noise at a step's start and of that at the end to which this start's would lead.
    """
    for here, there in pairwise(levels):
        image = predict(x, here)
        yield image
        end = _towards(image, x, here, there)
        noise = (x - here.alpha * image) / here.sigma
        noise_ahead = (end - there.alpha * predict(end, there)) / there.sigma
        less = there.sigma / there.alpha - here.sigma / here.alpha
        x = there.alpha * (x / here.alpha + less * (noise + noise_ahead) / 2)
    yield predict(x, levels[-1])


@dataclass(frozen=True)
class Sampler:
    """A solver, and the timesteps that it steps through."""

    solver: Solver
    timesteps: Callable[[Schedule, int], list[int]]
    """Schedule and number of steps -> that many timesteps, ascending."""

    @torch.no_grad()
    def __call__(
        self,
        rig: Denoiser,
        noise: Tensor,
        buffers: Tensor,
        code: Tensor,
        *,
        steps: int = 20,
        schedule: Schedule | None = None,
        callback: Callable[[int, int, Tensor], None] | None = None,
    ) -> Tensor:
        """noise (N, 3, H, W), buffers (N, 9, H, W), code (N, Z) -> images (N, 3, H, W) float32 in [-1, 1].

        What is returned is the last prediction of the image: no noise can be left in it.
        `callback(step, total, x0)` is called after each step, step counting from 1, with the guess at the image.
        Dropout and precision are the caller's: put the rig in eval mode, and wrap the call in autocast where that pays.
        Raises DrigError for steps that the schedule does not have, and where the rig predicts numbers that are not
        finite.
        """
        schedule = schedule or Schedule()
        levels = _levels(schedule, self.timesteps(schedule, steps))
        finite: dict[int, Tensor] = {}

        def predict(x: Tensor, level: Level) -> Tensor:
            t = torch.full((len(x),), level.t, dtype=torch.int64, device=x.device)
            eps = rig.denoise(x, t, buffers, code).float()
            image = (x - level.sigma * eps) / level.alpha
            finite[level.t] = image.isfinite().all()
            return image.clamp(-1, 1)

        image = noise
        for step, image in enumerate(self.solver(predict, noise.float(), levels), start=1):
            if callback is not None:
                callback(step, steps, image)
        _require_finite(finite, levels)
        return image


def _levels(schedule: Schedule, timesteps: Sequence[int]) -> list[Level]:
    """The levels of ascending timesteps, noisiest first."""
    alphas_bar = schedule.alphas_bar[list(timesteps)].tolist()
    return [Level(t, a**0.5, (1 - a) ** 0.5) for t, a in zip(reversed(timesteps), reversed(alphas_bar), strict=True)]


def _require_finite(finite: dict[int, Tensor], levels: Sequence[Level]) -> None:
    """Looks at the flags of all steps at once: a look at each step would make a GPU wait for the CPU every time."""
    flags = torch.stack([finite[level.t] for level in levels]).tolist()
    if not all(flags):
        step = flags.index(False) + 1
        raise DrigError(
            f"step {step} of {len(levels)} (t = {levels[step - 1].t}): the rig predicted numbers that are not finite. "
            "Look for them in its weights, its buffers and its code, or sample in float32."
        )


ddim = Sampler(_ddim, Schedule.ddim_timesteps)
"""The released implementation's sampler."""

SAMPLERS = MappingProxyType(
    {
        "ddim": ddim,
        "dpmpp": Sampler(_dpm_solver, Schedule.log_snr_timesteps),
        "unipc": Sampler(_unipc, Schedule.log_snr_timesteps),
        "heun": Sampler(_heun, Schedule.log_snr_timesteps),
    }
)
"""Samplers by name. `heun` calls the network twice a step (but in the last), the others once.

`unipc` is the one to choose for few steps: with 6 the tiny rig is as near to the exact solution as with 20 of `ddim`,
with 10 as near as two solvers of 250 steps are to each other (benchmarks/samplers.py, also for other timesteps).
"""


def find_sampler(name: str) -> Sampler:
    """The sampler of that name. Raises DrigError for an unknown one."""
    if name not in SAMPLERS:
        raise DrigError(f"sampler {name!r} is unknown; choose one of: {', '.join(SAMPLERS)}")
    return SAMPLERS[name]
