from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from drig.data.items import Item, unpack, unpack_compiled, unpacked
from drig.data.mirroring import Mirrored


def faces(count: int = 3, size: int = 12) -> Item:
    """A packed batch that takes every value there is."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, 3, size, size)
    return {
        "image": torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),
        "normal": torch.randint(-127, 128, shape, generator=generator, dtype=torch.int8),
        "albedo": torch.randint(0, 128, shape, generator=generator, dtype=torch.uint8),
        "light": torch.randn(count, 9, 3, generator=generator),
    }


def test_both_ways_to_unpack_give_the_same() -> None:
    for size in (12, 13):
        batch = list(faces(size=size).values())
        torch.testing.assert_close(unpack_compiled(*batch), unpack(*batch), atol=2e-6, rtol=0)


def test_how_many_faces_are_unpacked_at_once_changes_no_bit() -> None:
    batch = faces()
    for name, tensor in unpacked(batch).items():
        single = [unpacked({name: tensor[i : i + 1] for name, tensor in batch.items()})[name] for i in range(3)]
        assert torch.equal(tensor, torch.cat(single))


@pytest.mark.parametrize("change", [lambda t: t.flip(-1), lambda t: t.transpose(2, 3)], ids=["flipped", "strided"])
def test_memory_may_be_laid_out_in_any_way(change: Any) -> None:
    batch = faces()
    moved = {name: tensor if name == "light" else change(tensor) for name, tensor in batch.items()}
    for name, tensor in unpacked(moved).items():
        assert torch.equal(tensor, change(unpacked(batch)[name]))


def test_what_is_not_packed_stays_as_it_is() -> None:
    noise = torch.randn(3, 3, 12, 12)
    batch = unpacked({**faces(), "noise": noise})
    assert batch.keys() == {"image", "buffers", "noise"}
    assert batch["noise"] is noise
    assert unpacked(batch) is batch


class Items(Dataset[Item]):
    """A batch, item by item."""

    def __init__(self, batch: Item) -> None:
        self.batch = batch

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: tensor[index] for name, tensor in self.batch.items()}


def test_a_packed_item_has_the_mirror_image_of_an_unpacked_one() -> None:
    packed = Items(faces())
    mirrored = Mirrored(packed)[1]
    expected = Mirrored(Items(unpacked(faces())))[1]
    found = unpacked({name: tensor[None] for name, tensor in mirrored.items()})
    torch.testing.assert_close({name: tensor[0] for name, tensor in found.items()}, expected, atol=1e-6, rtol=0)
    for name, tensor in Mirrored(Mirrored(packed))[1].items():
        assert torch.equal(tensor, packed[1][name])
    assert torch.equal(packed[1]["normal"], faces()["normal"][1])  # and is not touched
