"""The training loss (SPEC 3)."""

from torch import Tensor

from drig.diffusion.schedule import Schedule


def p2_loss(
    schedule: Schedule, eps: Tensor, eps_hat: Tensor, t: Tensor, *, k: float = 1.0, pixels: Tensor | None = None
) -> Tensor:
    """Squared error of the predicted noise, weighted by 1 / (k + snr_t)^gamma with gamma = 1 (SPEC 3, "p2").

    With k = 1, the paper's, the weight is 1 - abar_t: nearly clean images, whose last details take most of the capacity
    and matter least, count little. With k = 0 it is the squared error of the image that the noise stands for, alike at
    all timesteps. eps, eps_hat (N, 3, H, W), t (N,) -> (N,) float32, the mean over an item's pixels; weighted by
    `pixels` (N, 1, H, W) in [0, 1] where these are given.
    """
    alpha_bar = schedule.at(t)
    weight = ((1 - alpha_bar) / (k * (1 - alpha_bar) + alpha_bar)).float()  # (N,)
    error = (eps.float() - eps_hat.float()).square()  # (N, 3, H, W)
    if pixels is None:
        return weight * error.mean(dim=(1, 2, 3))
    total = (error.mean(dim=1, keepdim=True) * pixels).sum(dim=(1, 2, 3))
    return weight * total / pixels.sum(dim=(1, 2, 3)).clamp(min=1)
