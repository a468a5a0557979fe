"""Truncated singular value decompositions: the nearest matrices of low rank.

Shapes: R rank, C_in and C_out a layer's channels; a layer's window counts as inputs.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


@torch.no_grad()
def truncate(
    weights: Mapping[str, Tensor], *, rank: int | None = None, budget: int | None = None
) -> dict[str, tuple[Tensor, Tensor]]:
    """Weights (C_out, C_in, *window) as (down (R, C_in, *window), up (C_out, R)) with up down nearest to them.

    At most `rank` everywhere, or as many in each as pays most within `budget` numbers in all.
    """
    spectra = {name: _spectrum(weight) for name, weight in weights.items()}
    if budget is None:
        assert rank is not None
        ranks = {name: min(rank, len(weight), weight[0].numel()) for name, weight in weights.items()}
    else:
        ranks = _allot(weights, {name: squares for name, (squares, _) in spectra.items()}, budget)
    return {name: _project(weight, spectra[name][1][:, : ranks[name]]) for name, weight in weights.items()}


def _spectrum(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Squared singular values, largest first, and left singular vectors as columns, of a weight as a matrix.

    By the eigenvectors of W W^T in float64, which is small: windows are wide. Its rounding is far below float16's.
    """
    matrix = weight.flatten(1).double()  # (C_out, C_in K)
    squares, vectors = torch.linalg.eigh(matrix @ matrix.T)
    return squares.flip(0).clamp(min=0), vectors.flip(1)


def _project(weight: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """down, up with up down = V V^T W, V the (C_out, R) singular vectors that are kept.

    Both get a share of the singular values, so that neither's numbers are too small for float16.
    """
    down = vectors.T @ weight.flatten(1).double()  # (R, C_in K): right singular vectors times singular values
    share = down.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny).sqrt()  # (R,)
    down = (down / share[:, None]).view(-1, *weight.shape[1:])
    return down.float(), (vectors * share).float()


def _allot(weights: Mapping[str, Tensor], squares: Mapping[str, Tensor], budget: int) -> dict[str, int]:
    """Ranks by layer: singular values in order of their square for each number that keeping them costs."""
    costs = {name: len(weight) + weight[0].numel() for name, weight in weights.items()}
    offers = sorted(
        ((square / costs[name], name) for name, values in squares.items() for square in values.tolist() if square > 0),
        reverse=True,
    )
    ranks = dict.fromkeys(weights, 0)
    for _, name in offers:
        if costs[name] <= budget:
            budget -= costs[name]
            ranks[name] += 1
    return ranks
