"""The numbers themselves are pinned: a change of them would change every run and synthetic person."""

import numpy as np
import torch

from drig.randomness import derive_seed, numpy_generator, torch_generator


def test_seeds_are_the_same_in_every_process_and_on_every_machine() -> None:
    assert derive_seed(0, "order", 3) == 6305755135785094614
    assert numpy_generator(0, "order", 3).permutation(6).tolist() == [4, 5, 3, 2, 1, 0]


def test_every_name_has_its_own_seed() -> None:
    names: list[tuple[int | str, ...]] = [(), (1,), ("1",), ("a", "b"), ("ab",), (1, 0), (0, 1)]
    seeds = {derive_seed(0, *name) for name in names} | {derive_seed(1)}
    assert len(seeds) == 8


def test_equal_names_give_equal_draws() -> None:
    first, second = (torch.randn(4, generator=torch_generator(7, "noise", 2)) for _ in range(2))
    assert torch.equal(first, second)
    assert np.array_equal(numpy_generator(7, "a").random(4), numpy_generator(7, "a").random(4))
    assert not np.array_equal(numpy_generator(7, "a").random(4), numpy_generator(7, "b").random(4))
