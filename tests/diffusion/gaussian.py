"""A denoiser whose differential equation has a solution in closed form."""

from dataclasses import dataclass

from torch import Tensor

from drig.diffusion.schedule import Schedule

ALPHAS_BAR = Schedule().alphas_bar


@dataclass(frozen=True)
class Gaussian:
    """The best denoiser of images whose pixels are independent and normal: the noise it sees is linear in x_t."""

    mean: float
    deviation: float

    def denoise(self, x_t: Tensor, t: Tensor, buffers: Tensor, code: Tensor) -> Tensor:
        return self.noise(x_t, t)

    def noise(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha_bar = ALPHAS_BAR[t][:, None, None, None]
        variance = alpha_bar * self.deviation**2 + 1 - alpha_bar  # of x_t
        return ((1 - alpha_bar).sqrt() * (x_t - alpha_bar.sqrt() * self.mean) / variance).float()

    def solution(self, noise: Tensor) -> Tensor:
        """The image that it sees at t = 0 if x_t follows the equation exactly from x_999 = noise.

        On the way x_t - alpha mean grows and shrinks as its standard deviation does.
        """
        first, last = ALPHAS_BAR[-1], ALPHAS_BAR[0]
        variance_first, variance_last = (a * self.deviation**2 + 1 - a for a in (first, last))
        x = (noise - first.sqrt() * self.mean) * (variance_last / variance_first).sqrt()  # less alpha mean
        return (self.mean + last.sqrt() * self.deviation**2 / variance_last * x).float()
