from collections.abc import Callable
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


@pytest.mark.parametrize(("count", "last"), [(2, 500), (15, 938), (20, 950), (50, 980), (1000, 999)])
def test_ddim_timesteps_keep_a_stride_where_one_fits(count: int, last: int) -> None:
    kept = Schedule().ddim_timesteps(count)
    assert (len(kept), kept[0], kept[-1]) == (count, 0, last)
    assert len({b - a for a, b in pairwise(kept)}) == 1


def test_ddim_timesteps_are_spread_evenly_where_no_stride_fits() -> None:
    for count in (37, 41, 43, 45, 501, 999):
        kept = Schedule().ddim_timesteps(count)
        assert (len(kept), kept[0]) == (count, 0)
        assert len({b - a for a, b in pairwise([*kept, 1000])}) == 2  # the integers next to 1000 / count


def test_log_snr_timesteps_are_even_in_log_snr() -> None:
    kept = Schedule().log_snr_timesteps(10)
    log_snr = torch.logit(Schedule().alphas_bar[kept])
    assert (kept[0], kept[-1]) == (0, 999)
    torch.testing.assert_close(log_snr.diff()[1:], log_snr.diff()[1:].mean().expand(8), atol=0.2, rtol=0)


@pytest.mark.parametrize("rule", [Schedule.ddim_timesteps, Schedule.log_snr_timesteps])
def test_every_count_of_timesteps_can_be_had(rule: Callable[[Schedule, int], list[int]]) -> None:
    schedule = Schedule()
    assert rule(schedule, 1) == [999]  # where the start is pure noise
    for count in range(1, 1001):
        kept = rule(schedule, count)
        assert len(kept) == count
        assert kept == sorted(set(kept) & set(range(1000)))
    for count in (0, -3, 1001):
        with pytest.raises(DrigError, match=rf"{count} sampling steps: give 1 to 1000"):
            rule(schedule, count)


def test_p2_weight_is_one_over_one_plus_snr() -> None:
    schedule, t = Schedule(), torch.tensor([0, 500, 999])
    eps = torch.zeros(3, 3, 8, 8)
    alpha_bar = schedule.alphas_bar[t]
    expected = (4 / (1 + alpha_bar / (1 - alpha_bar))).float()
    torch.testing.assert_close(p2_loss(schedule, eps, eps + 2, t), expected)
