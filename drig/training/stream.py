"""The stream of training samples: position p in it means the same sample, timestep and noise in every run.

An item depends on (seed, p) alone, so neither an interruption nor the number of workers changes what is trained on.
Where the data set lies on the device, so are noise and timesteps drawn there, a whole batch at a time: other numbers,
and they depend on the batch's place and size too.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from drig.data.resident import ResidentDataset
from drig.randomness import numpy_generator, torch_generator
from drig.training.config import TrainingConfig

Item = dict[str, Any]


class SampleStream(Dataset[Item]):
    """`dataset` shuffled anew in every pass, each sample with a uniform timestep and its noise.

    stream[p] -> the dataset's item (`drig.data.items`), noise (3, H, W) standard normal, timestep in [0, steps), index
    of the sample in the dataset, and code_of, that of the photo whose global code it has: another one's in a share
    `borrowed` of the samples. Positions are endless.
    """

    def __init__(
        self, dataset: Dataset[dict[str, Tensor]], size: int, steps: int, seed: int, borrowed: float = 0.0
    ) -> None:
        self.dataset = dataset
        self.size = size
        self.steps = steps
        self.seed = seed
        self.borrowed = borrowed
        self._epoch, self._order = -1, np.arange(0)

    def __getitem__(self, position: int) -> Item:
        index = self.index(position)
        sample = self.dataset[index]
        generator = torch_generator(self.seed, "sample", position)
        timestep = int(torch.randint(self.steps, (), generator=generator))
        # PyTorch draws noise in a quarter of NumPy's time, which at 256 px was several times that of reading the face.
        noise = torch.randn(sample["image"].shape, generator=generator)
        code_of = self.code_of(position)
        return {**sample, "noise": noise, "timestep": timestep, "index": index, "code_of": code_of}

    def index(self, position: int) -> int:
        """Which sample of the data set is at a position."""
        epoch, place = divmod(position, self.size)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, numpy_generator(self.seed, "order", epoch).permutation(self.size)
        return int(self._order[place])

    def code_of(self, position: int) -> int:
        """Which sample's photo gives the global code at a position."""
        index = self.index(position)
        if not self.borrowed or self.size == 1:
            return index
        generator = numpy_generator(self.seed, "code", position)
        step = int(generator.integers(1, self.size))
        return (index + step) % self.size if generator.random() < self.borrowed else index

    def resident_batch(self, dataset: ResidentDataset, first: int, size: int, share: range) -> Item:
        """The items at `share` of the `size` positions from `first` on, as a batch on the data set's device."""
        generator = torch_generator(self.seed, "batch", first, device=dataset.device)
        timesteps = torch.randint(self.steps, (size,), generator=generator, device=dataset.device)
        shape = dataset.tensors["image"].shape[1:]
        noise = torch.randn(size, *shape, generator=generator, device=dataset.device)
        mine = slice(share.start, share.stop)
        index, code_of = (torch.tensor([of(first + place) for place in share]) for of in (self.index, self.code_of))
        batch = dataset.batch(index)
        return {**batch, "noise": noise[mine], "timestep": timesteps[mine], "index": index, "code_of": code_of}


def worker_batches(
    stream: SampleStream, config: TrainingConfig, start: int, *, rank: int, world_size: int, pin_memory: bool
) -> Iterable[Item]:
    """One worker's share of every batch from position `start` to the end of the budget."""
    share, firsts = config.share(rank, world_size), range(start, config.total, config.batch)
    if isinstance(stream.dataset, ResidentDataset):
        return _resident_batches(stream, stream.dataset, firsts, share)
    return DataLoader(
        stream,
        batch_sampler=([first + place for place in share] for first in firsts),
        num_workers=config.loader_workers,
        # An LMDB environment that this process has open cannot be opened again in a fork of it.
        multiprocessing_context="spawn" if config.loader_workers else None,
        pin_memory=pin_memory,
    )


def _resident_batches(stream: SampleStream, dataset: ResidentDataset, firsts: range, share: range) -> Iterator[Item]:
    for first in firsts:
        yield stream.resident_batch(dataset, first, firsts.step, share)
