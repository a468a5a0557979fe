"""A data set that lies in the memory of the device that trains on it: no loaders, no copies, no waiting."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import Dataset

from drig.data.items import Item
from drig.data.mirroring import mirror_image
from drig.errors import DrigError

ROOM = 0.7
"""Share of a GPU's free memory that a data set may take; the rest is for the training."""


class ResidentDataset(Dataset[Item]):
    """Items of a map-style data set, best packed ones (`drig.data.items`), as one tensor for each of their entries.

    A packed face of S pixels takes 9 S S bytes: 70,000 of 256 px 41 GB, of 128 px 10 GB. With `mirror` their mirror
    images come after them, made when they are asked for.

    Raises DrigError where they would take more than ROOM of a GPU's free memory.
    """

    def __init__(
        self,
        items: Dataset[Item],
        device: torch.device | str,
        *,
        mirror: bool = False,
        on_item: Callable[[], object] | None = None,
    ) -> None:
        self.device, self.mirror = torch.device(device), mirror
        self.count = len(items)  # type: ignore[arg-type]
        first = items[0]
        _require_room(self.count * sum(tensor.nbytes for tensor in first.values()), self.device)
        self.tensors = {
            name: torch.empty(self.count, *tensor.shape, dtype=tensor.dtype, device=self.device)
            for name, tensor in first.items()
        }
        for i in range(self.count):
            for name, tensor in items[i].items():
                self.tensors[name][i] = tensor
            if on_item:
                on_item()

    def __len__(self) -> int:
        return self.count * (1 + self.mirror)

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        item = {name: tensor[index % self.count] for name, tensor in self.tensors.items()}
        return mirror_image(item) if index >= self.count else item

    def batch(self, indices: Tensor) -> Item:
        """The items at indices (N,) as a batch on the device."""
        indices = indices.to(self.device)
        batch = {name: tensor[indices % self.count] for name, tensor in self.tensors.items()}
        if not self.mirror:
            return batch
        mirrored, other = indices >= self.count, mirror_image(batch)
        return {
            name: torch.where(mirrored.view(-1, *[1] * (tensor.ndim - 1)), other[name], tensor)
            for name, tensor in batch.items()
        }


def _require_room(size: int, device: torch.device) -> None:
    if device.type != "cuda":
        return
    free, _ = torch.cuda.mem_get_info(device)
    if size > ROOM * free:
        raise DrigError(
            f"the data set takes {size / 1e9:.1f} GB of the GPU's memory, which has {free / 1e9:.1f} GB free, and the "
            "training needs room too. Train without --resident: loaders then read the store from the disk."
        )
