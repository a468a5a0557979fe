"""Faces left for right: twice the training data for what both sides have in common."""

import torch
from torch.utils.data import ConcatDataset, Dataset

from drig.data.items import Item

# A mirror reverses what is odd in x: the spherical harmonics x, x y and x z of the light, and the normals' x.
_LIGHT = torch.tensor([1.0, -1, 1, 1, -1, -1, 1, 1, 1])[:, None]


def with_mirror_images(items: Dataset[Item]) -> Dataset[Item]:
    """The items, and after them their mirror images."""
    return ConcatDataset([items, Mirrored(items)])


class Mirrored(Dataset[Item]):
    """Another data set's items, packed or not, with left and right exchanged; normals point the other way too."""

    def __init__(self, items: Dataset[Item]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Item:
        return mirror_image(self.items[index])


def mirror_image(item: Item) -> Item:
    """An item, or a batch of items, packed or not, with left and right exchanged."""
    mirrored = {name: planes if name == "light" else planes.flip(-1) for name, planes in item.items()}
    if "light" in item:
        mirrored["normal"][..., 0, :, :] *= -1
        mirrored["light"] = item["light"] * _LIGHT.to(item["light"].device)
    else:
        mirrored["buffers"][..., 3, :, :] *= -1
    return mirrored
