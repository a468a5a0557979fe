"""One part of a base's training: on the people that are rendered so far, from fresh weights or from those before."""

import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch
from torch.utils.data import Subset
from tqdm import tqdm

from drig.both_ways import MIRRORED
from drig.data.store.reading import PackedDataset
from drig.diffusion.network import RIG_PRESETS, Rig
from drig.diffusion.weights import load_weights, save_weights
from drig.errors import DrigError
from drig.faces.likeness import FOLLOWS_SKIN
from drig.randomness import derive_seed
from drig.training.base.painting import PaintedDataset
from drig.training.base.people import RECORDS, shows_detail
from drig.training.config import TRAINING_PRESETS, TrainingConfig
from drig.training.loop import train

RIGS = MappingProxyType({64: RIG_PRESETS["small"], 128: RIG_PRESETS["small128"]})
TRAINING = MappingProxyType({"cpu": TRAINING_PRESETS["small-stage1"], "cuda": TRAINING_PRESETS["small-gpu"]})
"""By the kind of device."""
CURVE, BASE = "losses.jsonl", "base.safetensors"


def train_part(
    out: Path,
    store: Path,
    people: int,
    size: int,
    config: TrainingConfig,
    start: Path | None,
    device: str,
    painted: float = 0.0,
) -> Path:
    """Train on the first `people` of the store and write `out`/base.safetensors, in half precision; returns it.

    painted: share of the photos of people whose skin is known that are painted (`painting`).

    The losses go to `out`/losses.jsonl, a line a report. The same call goes on where it stopped.
    """
    faces = PackedDataset(store)
    count = min(people * RECORDS, len(faces))
    if count < people * RECORDS:
        raise DrigError(f"{store} holds {len(faces) // RECORDS:,} people, {people:,} are asked for: render more first")
    rig = Rig.from_seed(RIGS[size], derive_seed(config.seed, "rig")) if start is None else load_weights(start).rig
    if rig.config.size != size:
        raise DrigError(f"{start} is a rig of {rig.config.size} px, and --size is {size}")
    out.mkdir(parents=True, exist_ok=True)
    with tqdm(total=count, unit="face", desc="faces to the device") as bar:
        dataset = PaintedDataset(
            Subset(faces, range(count)),
            device,
            [shows_detail(key) for key in faces.store.keys()[:count]],
            share=painted,
            seed=config.seed,
            mirror=True,
            on_item=bar.update,
        )
    with tqdm(total=config.total, unit="sample", desc=out.name) as bar, (out / CURVE).open("a") as curve:

        def report(seen: int, metrics: dict[str, float]) -> None:
            bar.update(seen - bar.n)
            bar.set_postfix(loss=f"{metrics['loss']:.4f}")
            curve.write(json.dumps({"samples": seen, **metrics}) + "\n")
            curve.flush()

        result = train(config, rig.to(device), dataset, workdir=out, on_progress=report)
    assert result.weights is not None, "nothing asks the training to stop early"
    return _publish(result.weights, out / BASE, people)


def settings(
    samples: int, cooldown: int | None, *, fresh: bool, compiled: bool, seed: int, device: str
) -> TrainingConfig:
    """A part's budget; it cools down over the last `cooldown` samples, None = half of them."""
    usual = TRAINING["cpu" if device == "cpu" else "cuda"]
    cooldown = samples // 2 if cooldown is None else cooldown
    warmup = min(usual.warmup if fresh else usual.warmup // 2, samples - cooldown)
    return replace(usual, samples=samples, warmup=warmup, cooldown=cooldown, compile=compiled, seed=seed)


def _publish(weights: Path, base: Path, people: int) -> Path:
    """The weights for drig's users, with the names of the physical layer that they were trained with."""
    loaded = load_weights(weights)
    physical = {"head": "open", "estimator": "fit", FOLLOWS_SKIN: True}
    metadata = {**loaded.metadata, **physical, MIRRORED: True, "people": people}
    save_weights(base, loaded.rig, loaded.tensors, metadata, half=True)
    return base


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
