"""The stream of training samples: position p in it means the same sample, timestep and noise in every run.

An item depends on (seed, p) alone, so neither an interruption nor the number of workers changes what is trained on.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from drig.randomness import numpy_generator, torch_generator
from drig.training.config import TrainingConfig

Item = dict[str, Any]


class SampleStream(Dataset[Item]):
    """`dataset` shuffled anew in every pass, each sample with a uniform timestep and its noise.

    stream[p] -> the dataset's item (`drig.data.items`), noise (3, H, W) standard normal, timestep in [0, steps), index
    of the sample in the dataset. Positions are endless.
    """

    def __init__(self, dataset: Dataset[dict[str, Tensor]], size: int, steps: int, seed: int) -> None:
        self.dataset = dataset
        self.size = size
        self.steps = steps
        self.seed = seed
        self._epoch, self._order = -1, np.arange(0)

    def __getitem__(self, position: int) -> Item:
        epoch, place = divmod(position, self.size)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, numpy_generator(self.seed, "order", epoch).permutation(self.size)
        index = int(self._order[place])
        sample = self.dataset[index]
        generator = torch_generator(self.seed, "sample", position)
        timestep = int(torch.randint(self.steps, (), generator=generator))
        # PyTorch draws noise in a quarter of NumPy's time, which at 256 px was several times that of reading the face.
        noise = torch.randn(sample["image"].shape, generator=generator)
        return {**sample, "noise": noise, "timestep": timestep, "index": index}


def worker_batches(
    stream: SampleStream, config: TrainingConfig, start: int, *, rank: int, world_size: int, pin_memory: bool
) -> DataLoader[Item]:
    """One worker's share of every batch from position `start` to the end of the budget."""
    share = config.share(rank, world_size)
    return DataLoader(
        stream,
        batch_sampler=([first + place for place in share] for first in range(start, config.total, config.batch)),
        num_workers=config.loader_workers,
        # An LMDB environment that this process has open cannot be opened again in a fork of it.
        multiprocessing_context="spawn" if config.loader_workers else None,
        pin_memory=pin_memory,
    )
