"""The training loss (SPEC 3)."""

from torch import Tensor

from drig.diffusion.schedule import Schedule


def p2_loss(schedule: Schedule, eps: Tensor, eps_hat: Tensor, t: Tensor) -> Tensor:
    """Squared error of the predicted noise, weighted by 1 / (k + snr_t)^gamma with k = gamma = 1 (SPEC 3, "p2").

    With these values the weight is 1 - abar_t: nearly clean images, whose last details take most of the capacity
    and matter least, count little. eps, eps_hat (N, 3, H, W), t (N,) -> (N,) float32, the mean over an item's pixels.
    """
    weight = (1 - schedule.at(t)).float()  # (N,)
    return weight * (eps.float() - eps_hat.float()).square().mean(dim=(1, 2, 3))
