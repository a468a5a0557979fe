from itertools import pairwise

import pytest
import torch

from drig.diffusion.loss import p2_loss
from drig.diffusion.schedule import Schedule
from drig.errors import DrigError


def test_alphas_bar_falls_from_almost_one_to_almost_zero() -> None:
    alphas_bar = Schedule().alphas_bar
    assert alphas_bar.dtype == torch.float64
    assert alphas_bar.shape == (1000,)
    assert float(alphas_bar[0]) == pytest.approx(1 - 1e-4)
    assert float(alphas_bar[-1]) == pytest.approx(4.04e-5, rel=1e-2)
    assert bool((alphas_bar.diff() < 0).all())


def test_q_sample_keeps_unit_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    image, noise = torch.randn(2, 4, 3, 64, 64, generator=generator)
    noised = Schedule().q_sample(image, torch.tensor([0, 300, 600, 999]), noise)
    torch.testing.assert_close(noised.var(dim=(1, 2, 3)), torch.ones(4), atol=0.05, rtol=0)
    torch.testing.assert_close(noised[0], image[0], atol=0.06, rtol=0)


@pytest.mark.parametrize(("count", "first", "last"), [(1, 0, 0), (20, 0, 950), (50, 0, 980), (1000, 0, 999)])
def test_ddim_timesteps(count: int, first: int, last: int) -> None:
    kept = Schedule().ddim_timesteps(count)
    assert (len(kept), kept[0], kept[-1]) == (count, first, last)
    assert len({b - a for a, b in pairwise(kept)}) <= 1


@pytest.mark.parametrize(
    ("count", "nearest"),
    [(37, "36 or 38"), (41, "40 or 42"), (45, "44 or 46"), (999, "500 or 1000"), (0, "1"), (-3, "1"), (1001, "1000")],
)
def test_a_count_without_a_stride_names_its_neighbours(count: int, nearest: str) -> None:
    with pytest.raises(DrigError, match=rf"{count} sampling steps.* Use {nearest}\.$"):
        Schedule().ddim_timesteps(count)


def test_p2_weight_is_one_over_one_plus_snr() -> None:
    schedule, t = Schedule(), torch.tensor([0, 500, 999])
    eps = torch.zeros(3, 3, 8, 8)
    alpha_bar = schedule.alphas_bar[t]
    expected = (4 / (1 + alpha_bar / (1 - alpha_bar))).float()
    torch.testing.assert_close(p2_loss(schedule, eps, eps + 2, t), expected)
