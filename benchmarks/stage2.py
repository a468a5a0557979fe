"""How long to personalise, and with what: quality on photos that the training did not see, over samples.

    python benchmarks/stage2.py [--runs runs] [--folder runs/stage2] [--plot docs/stage2.png] [--only "whole rig" ...]

Takes the base rig and the synthetic people's albums that `make quickstart` left. Each variant changes one thing of the
training of a whole rig or of a delta (presets `tiny-stage2`, `tiny-stage2-delta`) and goes on far beyond their budget;
at every point of the curve, held-out photos and as many of the training's are reconstructed. The same command goes on
where it stopped.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from drig.data.mirroring import with_mirror_images
from drig.data.photos import read_photo
from drig.diffusion.deltas import load_merged
from drig.diffusion.network import Rig
from drig.diffusion.samplers import ddim
from drig.diffusion.weights import load_weights
from drig.editing import Editor
from drig.personalization import AlbumDataset, album_dataset
from drig.randomness import torch_generator
from drig.training.config import TRAINING_PRESETS, TrainingConfig
from drig.training.loop import train
from drig.training.stream import SampleStream
from pipelines.identity_training import hold_out

HELD_OUT = 4
POINTS = (450, 900, 1_800, 3_600, 7_200)
"""Samples after which is measured."""
STEPS = 20
DELTA = TRAINING_PRESETS["tiny-stage2-delta"]
WHOLE = replace(TRAINING_PRESETS["tiny-stage2"], p2_k=0.0)
VARIANTS: dict[str, TrainingConfig] = {
    "whole rig": WHOLE,
    "half the learning rate": replace(WHOLE, learning_rate=WHOLE.learning_rate / 2),
    "twice the learning rate": replace(WHOLE, learning_rate=WHOLE.learning_rate * 2),
    "k = 1 (the preset)": replace(WHOLE, p2_k=1.0),
    "no averaging": replace(WHOLE, ema_half_life=None),
    "horizontal flips": WHOLE,
    "delta (the preset)": DELTA,
    "delta, half the learning rate": replace(DELTA, learning_rate=DELTA.learning_rate / 2),
    "delta, k = 1": replace(DELTA, p2_k=1.0),
    "delta, horizontal flips": DELTA,
    "delta, stratified timesteps": DELTA,
    "delta, more noise": DELTA,
    "delta, less noise": DELTA,
}
TIMESTEPS: dict[str, Callable[[float, int], float]] = {
    "delta, stratified timesteps": lambda share, place: (share + place) / DELTA.batch,  # all levels in each batch
    "delta, more noise": lambda share, _: share**0.5,
    "delta, less noise": lambda share, _: share**2,
}
"""Variant -> (uniform share, place in the batch) -> timestep, as a share of all."""

Item = dict[str, Tensor]


@dataclass(frozen=True)
class Person:
    """What is trained on, and what is not."""

    name: str
    album: Dataset[Item]
    held_out: Sequence[Item]


def people(runs: Path) -> list[Person]:
    editor, found = Editor.load(runs / "stage1" / "weights.safetensors"), []
    for folder in sorted((runs / "albums").glob("person_*")):
        faces = [editor.read(read_photo(file), aligned=True) for file in sorted(folder.glob("*.png"))]
        held = hold_out(len(faces), HELD_OUT)
        kept = [face for i, face in enumerate(faces) if i not in held]
        person, kept = editor.of_person(kept)
        held_out = AlbumDataset(person, [faces[i] for i in held])
        found.append(Person(folder.name, album_dataset(person, kept, mirror=False), held_out.items))
    return found


@torch.no_grad()
def psnr(rig: Rig, items: Sequence[Item]) -> float:
    """Mean over reconstructions of the items, dB."""
    images, buffers = (torch.stack([item[name] for item in items]) for name in ("image", "buffers"))
    noise = torch.randn(images.shape, generator=torch_generator(0, "stage2"))
    found = ddim(rig, noise, buffers, rig.encode(images), steps=STEPS)
    return float((-10 * ((found - images) / 2).square().mean((1, 2, 3)).log10()).mean())


def curve(base: Path, person: Person, variant: str, folder: Path) -> list[tuple[float, float]]:
    """PSNR of held-out and of trained photos at each of POINTS."""
    record = folder / "curve.json"
    values: list[tuple[float, float]] = json.loads(record.read_text()) if record.exists() else []
    album = with_mirror_images(person.album) if "flips" in variant else person.album
    seen = [person.album[i] for i in range(HELD_OUT)]
    for samples in POINTS[len(values) :]:
        config = replace(VARIANTS[variant], samples=samples, checkpoint_every=samples, log_every=samples)
        with timesteps(TIMESTEPS.get(variant)):
            result = train(config, load_weights(base).rig, album, workdir=folder)
        assert result.weights is not None
        rig = load_merged(result.weights, base).rig
        values.append((psnr(rig, person.held_out), psnr(rig, seen)))
        record.write_text(json.dumps(values))
    return values


@contextmanager
def timesteps(draw: Callable[[float, int], float] | None) -> Iterator[None]:
    """Training within the block draws its timesteps so. None = as always, uniformly."""
    usual = SampleStream.__getitem__

    def drawn(stream: SampleStream, position: int) -> dict[str, Any]:
        assert draw is not None
        share = draw(np.random.default_rng((position, 77)).random(), position % DELTA.batch)
        return {**usual(stream, position), "timestep": min(int(share * stream.steps), stream.steps - 1)}

    with patch.object(SampleStream, "__getitem__", drawn if draw else usual):
        yield


def draw(curves: dict[str, np.ndarray], path: Path) -> None:
    """Curves (points, 2): of held-out photos, and of trained ones."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for i, (axes, title) in enumerate(zip(panels, ("held-out photos", "photos that were trained on"), strict=True)):
        for variant, values in curves.items():
            axes.semilogx(POINTS, values[:, i], marker="o", label=variant)
        axes.set_xticks(POINTS, [f"{samples:,}" for samples in POINTS])
        axes.minorticks_off()
        axes.set(xlabel="samples", ylabel="PSNR of reconstructions, dB", title=title)
        axes.grid(alpha=0.3)
    panels[1].legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of a finished quickstart")
    parser.add_argument("--folder", type=Path, default=Path("runs/stage2"), help="for the trainings")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="variants")
    parser.add_argument("--plot", type=Path, help="PNG to draw")
    options = parser.parse_args()
    base = options.runs / "stage1" / "weights.safetensors"
    if not base.exists():
        parser.error(f"there is no {base}: run `make quickstart` first, or give its folder with --runs")
    everybody, curves = people(options.runs), {}
    print(f"{'held out (trained on), dB':<30}" + "".join(f"{samples:>16,}" for samples in POINTS))
    for variant in options.only:
        trained = [
            curve(base, person, variant, options.folder / variant.replace(" ", "_") / person.name)
            for person in tqdm(everybody, desc=variant, unit="person", leave=False)
        ]
        curves[variant] = np.mean(trained, 0)  # (points, 2)
        print(f"{variant:<30}" + "".join(f"{f'{a:.2f} ({b:.2f})':>16}" for a, b in curves[variant]), flush=True)
    if options.plot:
        draw(curves, options.plot)


if __name__ == "__main__":
    main()
