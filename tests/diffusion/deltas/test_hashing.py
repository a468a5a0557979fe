import torch
from torch import Tensor

from drig.diffusion.deltas import content_hash

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(7)}


def test_it_never_changes() -> None:
    """Deltas name their bases by it: another algorithm would orphan all of them."""
    assert content_hash(TENSORS) == "e0eb08effc2fdab1a2b1178f70be5a04640bf1b28fa64e3b9f85f2400d8829ef"


def test_the_order_and_the_layout_in_memory_do_not_matter() -> None:
    again: dict[str, Tensor] = {"a": torch.tensor(7), "b": torch.arange(6.0).view(2, 3).T.contiguous().T}
    assert content_hash(again) == content_hash(TENSORS)


def test_names_numbers_types_and_shapes_do() -> None:
    others: list[dict[str, Tensor]] = [
        {"b": TENSORS["b"], "c": TENSORS["a"]},
        TENSORS | {"b": TENSORS["b"] + torch.eye(2, 3) * 1e-6},
        TENSORS | {"a": torch.tensor(7, dtype=torch.uint64)},
        TENSORS | {"b": TENSORS["b"].view(3, 2)},
        TENSORS | {"c": torch.zeros(0)},
    ]
    assert len({content_hash(tensors) for tensors in [TENSORS, *others]}) == 1 + len(others)
