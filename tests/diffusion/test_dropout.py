import torch
from torch import nn

from drig.diffusion.dropout import SampleDropout, seed_dropout


def dropped(seeds: list[int], layers: int = 1) -> torch.Tensor:
    """What each of `layers` makes of ones, (layers, N, 4, 50, 50)."""
    network = nn.ModuleList(SampleDropout(0.2) for _ in range(layers))
    seed_dropout(network, seeds)
    return torch.stack([layer(torch.ones(len(seeds), 4, 50, 50)) for layer in network])


def test_a_share_is_dropped_and_the_rest_scaled_up() -> None:
    values = dropped([1, 2])
    assert set(values.unique().tolist()) == {0.0, 1.25}
    assert abs(values.mean() - 1) < 0.02


def test_a_mask_belongs_to_the_sample_whatever_the_batch() -> None:
    together = dropped([7, 8, 9], layers=2)
    assert torch.equal(together, torch.cat([dropped([seed], layers=2) for seed in (7, 8, 9)], dim=1))
    masks = together.flatten(0, 1)
    assert all(not torch.equal(masks[i], masks[j]) for i in range(6) for j in range(i))


def test_the_gradient_is_that_of_what_stays() -> None:
    layer, x = SampleDropout(0.5), torch.randn(2, 3, 4, 4, requires_grad=True)
    seed_dropout(layer, [1, 2])
    out = layer(x)
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, (out != 0) * 2.0)


def test_nothing_is_dropped_in_evaluation() -> None:
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(SampleDropout(0.5).eval()(x), x)
