"""Paint on photos and on their buffers."""

import torch
from torch.utils.data import Dataset

from drig.data.items import Item, unpacked
from drig.training.base.painting import BRIGHTEST, PaintedDataset

COUNT, SIZE = 12, 32


class Grey(Dataset[Item]):
    """A disc of a head before a wall, in even light."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Item:
        y, x = torch.meshgrid(*[torch.linspace(-1, 1, SIZE)] * 2, indexing="ij")
        head = (x.square() + y.square() < 0.6).expand(3, -1, -1)
        normal = torch.zeros(3, SIZE, SIZE, dtype=torch.int8)
        normal[2] = 127 * head[0]
        light = torch.zeros(9, 3)
        light[0] = 3.5  # shading of about 1
        colour = torch.full((3, SIZE, SIZE), 100, dtype=torch.uint8)
        return {"image": colour, "normal": normal, "albedo": (60 * head).to(torch.uint8), "light": light}


def painted(share: float, seed: int = 0) -> PaintedDataset:
    return PaintedDataset(Grey(), "cpu", [i % 3 > 0 for i in range(COUNT)], share=share, seed=seed, mirror=True)


def changed(batch: Item, name: str) -> list[bool]:
    plain = torch.stack([Grey()[0][name]] * len(batch[name]))
    return (batch[name] != plain).flatten(1).any(1).tolist()


def test_only_people_whose_skin_is_known_are_painted() -> None:
    indices = torch.arange(2 * COUNT)
    batch = painted(1.0).batch(indices)
    assert changed(batch, "image") == changed(batch, "albedo") == [i % COUNT % 3 > 0 for i in range(2 * COUNT)]
    assert not any(changed(painted(0.0).batch(indices), "image"))
    some = changed(painted(0.5).batch(indices), "image")
    assert 0 < sum(some) < 16


def test_paint_is_on_the_head_and_much_the_same_on_its_buffers() -> None:
    batch = painted(1.0).batch(torch.tensor([1, 2, 4, 5, 7, 8]))
    head = batch["normal"].any(1, keepdim=True).expand(-1, 3, -1, -1)
    assert (batch["image"][~head] == 100).all()
    assert (batch["albedo"][~head] == 0).all()
    photo = (batch["image"].float() / 100).log()
    shown = (batch["albedo"].float() / 60).clamp(min=1e-2).log()
    assert photo.max() <= BRIGHTEST
    assert photo[head].std() > 0.05
    together = torch.corrcoef(torch.stack([photo[head], shown[head]]))[0, 1]
    assert 0.7 < together < 0.999
    buffers = unpacked(batch)["buffers"]  # (N, 9, S, S): what is rendered is painted too
    assert torch.corrcoef(torch.stack([buffers[:, :3][head], buffers[:, 6:][head]]))[0, 1] > 0.99


def test_the_same_batch_is_painted_alike() -> None:
    indices = torch.tensor([4, 7, 1, 20])
    batches = [painted(1.0, seed).batch(indices) for seed in (3, 3, 4)]
    assert torch.equal(batches[0]["image"], batches[1]["image"])
    assert torch.equal(batches[0]["albedo"], batches[1]["albedo"])
    assert not torch.equal(batches[0]["image"], batches[2]["image"])
