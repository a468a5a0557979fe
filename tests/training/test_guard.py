import torch
from torch import nn

from drig.training.guard import FiniteGuard


def test_from_the_first_gradient_that_is_not_finite_nothing_changes() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], lr=0.1, fused=True)
    guard, seen = FiniteGuard(optimizer, torch.device("cpu")), []
    for step, gradient in enumerate([1.0, 1.0, float("inf"), 1.0, float("nan")]):
        weight.grad = torch.full((3,), gradient)
        guard.see(torch.tensor(float(step)), weight.grad.norm())
        optimizer.step()
        seen.append((guard.skipped, round(weight[0].item(), 3)))
    assert seen == [(0, 0.9), (0, 0.8), (1, 0.8), (2, 0.8), (3, 0.8)]
    assert guard.failure == (2.0, float("inf"))
