"""Faces left for right: twice the training data for what both sides have in common."""

from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

Item = dict[str, Tensor]
"""image (3, S, S) in [-1, 1] and buffers (9, S, S)."""


def with_mirror_images(items: Dataset[Item]) -> Dataset[Item]:
    """The items, and after them their mirror images."""
    return ConcatDataset([items, Mirrored(items)])


class Mirrored(Dataset[Item]):
    """Another data set's items with left and right exchanged; normals point the other way too."""

    def __init__(self, items: Dataset[Item]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Item:
        item = self.items[index]
        buffers = item["buffers"].flip(-1)
        buffers[3] *= -1
        return {"image": item["image"].flip(-1), "buffers": buffers}
