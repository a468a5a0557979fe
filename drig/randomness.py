"""Seeds and generators named by what they are for: (seed, "noise", position) gives the same numbers in every process.

The seed is a hash, so that neighbouring names share nothing and no purpose needs a reserved range of numbers; unlike
Python's `hash` it has no per-process salt.
"""

import hashlib
import json

import numpy as np
import torch


def derive_seed(seed: int, *names: int | str) -> int:
    """A 63-bit seed for one purpose of a run: `derive_seed(run_seed, "dropout", position)`."""
    digest = hashlib.blake2b(json.dumps([seed, *names]).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def numpy_generator(seed: int, *names: int | str) -> np.random.Generator:
    """A NumPy generator (Philox, whose stream is the same on every machine) for one purpose of a run."""
    return np.random.Generator(np.random.Philox(derive_seed(seed, *names)))


def torch_generator(seed: int, *names: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A PyTorch generator on `device` for one purpose of a run."""
    return torch.Generator(device).manual_seed(derive_seed(seed, *names))
