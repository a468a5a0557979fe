"""What a person costs as a delta over the base rig, and what it loses against a rig of their own.

    python benchmarks/deltas.py --folder runs/deltas --plot docs/deltas.png
    python benchmarks/deltas.py --folder runs/deltas --people 2 --sweep 5e-4 1e-3 2e-3 4e-3
    python benchmarks/deltas.py --folder runs/deltas --cost tiny rig64

Synthetic people that the base never saw, the tiny preset at 64 px, one core, the same samples in the same order for
all. Reconstructions are of photos that the training did not see; an edit takes another photo's light, expression or
pose and is compared with the photo that would have been taken so. Buffers are those of the true face codes. Without
--base a base rig is trained first, and the same command goes on where it stopped.
"""

import argparse
import copy
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from drig.data.photos import to_network, to_photo
from drig.data.synthetic import Person, Shot, SyntheticPortrait, render_portrait, sample_person, sample_shot
from drig.diffusion.deltas import Delta, attached, content_hash, load_delta, save_delta
from drig.diffusion.network import RIG_PRESETS, Rig
from drig.diffusion.samplers import ddim
from drig.diffusion.weights import load_weights
from drig.faces.buffers import render_buffers
from drig.faces.codes import EDIT_MODES
from drig.faces.open_head import OpenHead
from drig.metrics import psnr
from drig.randomness import torch_generator
from drig.training.config import TRAINING_PRESETS, TrainingConfig
from drig.training.loop import train
from drig.training.objective import Objective

RIG = RIG_PRESETS["tiny"]
POPULATION, SHOTS = 64, 6
"""People that the base learns from, and portraits of each."""
ALBUM, HELD_OUT = 16, 4
"""Portraits of a person that are trained on, and that are not."""
ALBUM_SEED = 1_000_003
RANKS = (2, 4, 8, 16)
FULL = replace(
    TRAINING_PRESETS["tiny-stage2"],
    p2_k=TRAINING_PRESETS["tiny-stage2-delta"].p2_k,  # the same loss for all
    checkpoint_every=TRAINING_PRESETS["tiny-stage2"].samples,
)
RATE = 3e-3
"""Learning rate of the deltas."""
STEPS = 6
"""Training steps for --cost; the fastest counts."""

Item = dict[str, Tensor]


@dataclass(frozen=True)
class Trial:
    """One image to be made, and what it should be."""

    kind: str
    """reconstruction, or the mode of an edit."""
    source: Tensor
    """(3, S, S): the photo that gives the global code."""
    buffers: Tensor
    """(9, S, S)"""
    truth: Tensor
    """(3, S, S)"""


@dataclass(frozen=True)
class Subject:
    """A person to personalise for."""

    name: str
    album: list[Item]
    trials: list[Trial]


@dataclass(frozen=True)
class Row:
    """One way to keep a person, measured on one person."""

    scores: dict[str, float]
    """dB by kind of trial."""
    bytes: int
    train_seconds: float
    load_seconds: float


def item(head: OpenHead, portrait: SyntheticPortrait) -> Item:
    return {
        "image": to_network(portrait.image),
        "buffers": render_buffers(head, portrait.codes, RIG.size).stacked()[0],
    }


def subject(head: OpenHead, index: int) -> Subject:
    """Person `index` of those that no base has seen."""
    person = sample_person(head, ALBUM_SEED, index)
    shots = [sample_shot(person, i) for i in range(ALBUM + HELD_OUT)]
    items = [item(head, render_portrait(head, person, shot, RIG.size)) for shot in shots]
    trials = [trial for i in range(ALBUM, len(shots)) for trial in _trials(head, person, shots, items, i)]
    return Subject(f"person_{index}", items[:ALBUM], trials)


def _trials(head: OpenHead, person: Person, shots: Sequence[Shot], items: Sequence[Item], source: int) -> list[Trial]:
    """A held-out photo's reconstruction, and its edits like one photo of the album."""
    image = items[source]["image"]
    trials = [Trial("reconstruction", image, items[source]["buffers"], image)]
    for mode in EDIT_MODES:
        edited = shots[source].with_attributes(shots[source - ALBUM], [mode])
        truth = item(head, render_portrait(head, person, edited, RIG.size))
        trials.append(Trial(mode, image, truth["buffers"], truth["image"]))
    return trials


def base_rig(head: OpenHead, folder: Path) -> Rig:
    """The base, trained as the quickstart's: `tiny-stage1` on synthetic people."""
    path = folder / "weights.safetensors"
    if not path.exists():
        people = (sample_person(head, 0, i) for i in range(POPULATION))
        items = [
            item(head, render_portrait(head, person, sample_shot(person, shot), RIG.size))
            for person in tqdm(people, "synthetic people", total=POPULATION)
            for shot in range(SHOTS)
        ]
        config = TRAINING_PRESETS["tiny-stage1"]
        with tqdm(total=config.total, desc="base rig", unit="sample") as bar:
            train(config, Rig.from_seed(RIG, 0), items, workdir=folder, on_progress=lambda n, _: bar.update(n - bar.n))
    return load_weights(path).rig


def personalise(base: Rig, person: Subject, config: TrainingConfig, folder: Path) -> tuple[Path, float]:
    """The weights or delta of one person, and the CPU seconds that training them took."""
    clock = folder / "seconds"
    start = time.process_time()
    result = train(config, copy.deepcopy(base), person.album, workdir=folder)
    assert result.weights is not None
    if not clock.exists():
        clock.write_text(str(time.process_time() - start))
    return result.weights, float(clock.read_text())


@torch.no_grad()
def scores(rig: Rig, trials: Sequence[Trial]) -> dict[str, float]:
    """Mean PSNR by kind, of 20 steps from the same noise for everybody."""
    source, buffers = torch.stack([t.source for t in trials]), torch.stack([t.buffers for t in trials])
    noise = torch.randn(source.shape, generator=torch_generator(0, "trials"))
    made = to_photo(ddim(rig, noise, buffers, rig.encode(source)))
    found: dict[str, list[float]] = {}
    for trial, image in zip(trials, made, strict=True):
        found.setdefault(trial.kind, []).append(psnr(image, to_photo(trial.truth)))
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def best_seconds(action: Callable[[], object], times: int = 5) -> float:
    found = []
    for _ in range(times):
        start = time.process_time()
        action()
        found.append(time.process_time() - start)
    return min(found)


class Bench:
    """One base, its people, and the ways to keep them."""

    def __init__(self, base: Rig, people: Sequence[Subject], folder: Path) -> None:
        self.base, self.people, self.folder = base, people, folder
        self.hash = content_hash(base.state_dict())

    def untrained(self) -> list[Row]:
        return [Row(scores(self.base, person.trials), 0, 0.0, 0.0) for person in self.people]

    def full(self) -> list[Row]:
        rows = []
        for person in tqdm(self.people, "full fine-tune"):
            path, seconds = self._full(person)
            found = scores(load_weights(path).rig, person.trials)
            rows.append(Row(found, path.stat().st_size, seconds, best_seconds(partial(load_weights, path))))
        return rows

    def _full(self, person: Subject) -> tuple[Path, float]:
        return personalise(self.base, person, FULL, self.folder / person.name / "full")

    def trained(self, rank: int, rate: float) -> list[Row]:
        rows = []
        for person in tqdm(self.people, f"delta of rank {rank}, learning rate {rate:g}"):
            config = replace(FULL, delta_rank=rank, learning_rate=rate)
            path, seconds = personalise(self.base, person, config, self.folder / person.name / f"{rank}_{rate:g}")
            rows.append(self._measure(person, path, seconds))
        return rows

    def compressed(self, rank: int) -> list[Row]:
        """The full fine-tune cut to a rank."""
        rows = []
        for person in self.people:
            path, seconds = self._full(person)
            file = self.folder / person.name / f"compressed_{rank}.safetensors"
            save_delta(file, Delta.between(self.base, load_weights(path).rig, rank))
            rows.append(self._measure(person, file, seconds))
        return rows

    def _measure(self, person: Subject, path: Path, seconds: float) -> Row:
        load = partial(load_delta, path, self.base, self.hash)
        with attached(self.base, load().delta):
            found = scores(self.base, person.trials)
        return Row(found, path.stat().st_size, seconds, best_seconds(load))


HEADER = (
    f"{'':34} {'recon':>6} {'light':>6} {'exp':>6} {'pose':>6} {'kB':>8} {'train s':>8} {'load ms':>8} {'loss dB':>8}"
)


def line(name: str, rows: Sequence[Row], reference: Sequence[Row]) -> str:
    """Means over the people; `loss`: of reconstructions, against the reference, and the worst person's in brackets."""
    values = [float(np.mean([row.scores[kind] for row in rows])) for kind in ("reconstruction", *EDIT_MODES)]
    size, seconds, load = (
        float(np.mean([getattr(row, field) for row in rows])) for field in ("bytes", "train_seconds", "load_seconds")
    )
    losses = [
        full.scores["reconstruction"] - row.scores["reconstruction"] for full, row in zip(reference, rows, strict=True)
    ]
    return (
        f"{name:34} {' '.join(f'{value:6.2f}' for value in values)} {size / 1e3:8.0f} {seconds:8.1f} {load * 1e3:8.1f} "
        f"{np.mean(losses):6.2f} ({max(losses):.2f})"
    )


def table(bench: Bench) -> dict[str, list[list[Row]]]:
    """Print every way to keep a person; rows by way and rank for the plot."""
    print(f"{len(bench.people)} people, {FULL.samples} samples each, PSNR in dB")
    print(HEADER)
    full = bench.full()
    print(line("base rig, nobody's", bench.untrained(), full))
    print(line("full fine-tune", full, full))
    found: dict[str, list[list[Row]]] = {"full fine-tune": [full]}
    ways: dict[str, Callable[[int], list[Row]]] = {
        "delta, trained": lambda rank: bench.trained(rank, RATE),
        "full, cut to rank": bench.compressed,
    }
    for way, measure in ways.items():
        found[way] = [measure(rank) for rank in RANKS]
        for rank, rows in zip(RANKS, found[way], strict=True):
            print(line(f"{way} {rank}", rows, full), flush=True)
    return found


def plot(found: dict[str, list[list[Row]]], sizes: Sequence[int], path: Path) -> None:
    """Held-out PSNR and edits over the bytes that the same rank takes of rig256."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    kinds = {"held-out reconstructions": ("reconstruction",), "edits": EDIT_MODES}
    for axis, (title, names) in zip(axes, kinds.items(), strict=True):
        for way, ranks in found.items():
            values = [float(np.mean([row.scores[kind] for row in rows for kind in names])) for rows in ranks]
            if way == "full fine-tune":
                axis.axhline(values[0], color="black", linestyle="--", label=way)
            else:
                axis.plot([size / 1e6 for size in sizes], values, marker="o", label=way)
        axis.set(title=title, xlabel="MB a person at the same rank of rig256", ylabel="PSNR, dB (tiny rig, 64 px)")
    axes[0].legend()
    figure.savefig(path, dpi=120)


def rig256_bytes() -> list[int]:
    """Size of a delta file of the 144.6 M-parameter rig at each rank: written and measured, not estimated."""
    rig, sizes = Rig(RIG_PRESETS["rig256"]), []
    with tempfile.TemporaryDirectory() as folder:
        for rank in RANKS:
            save_delta(Path(folder) / "delta", Delta.start(rig, rank, torch_generator(0, "delta")))
            sizes.append((Path(folder) / "delta").stat().st_size)
    return sizes


def cost(preset: str, rank: int | None) -> None:
    """Print seconds of a training step and the process's peak memory; in a process of its own."""
    torch.set_num_threads(1)
    rig = Rig(RIG_PRESETS[preset])
    delta = None if rank is None else Delta.start(rig, rank, torch_generator(0, "delta"))
    objective = Objective(rig, train_encoder=False, autocast=None, delta=delta).train()
    optimizer = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad], lr=1e-4, fused=True)
    batch, size = 4, rig.config.size
    image, buffers = torch.zeros(batch, 3, size, size), torch.rand(batch, 9, size, size)
    noise, timestep, code = torch.randn(image.shape), torch.full((batch,), 500), torch.zeros(batch, 64)

    def step() -> None:
        optimizer.zero_grad()
        objective(image, buffers, noise, timestep, code).mean().backward()
        optimizer.step()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with attached(rig, delta):
        seconds = best_seconds(step, STEPS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    name = "full fine-tune" if rank is None else f"delta of rank {rank}"
    print(f"{preset:8} {name:18} {seconds:7.2f} s/step of {batch}  {(peak - before) / 1e3:7.0f} MB over the loaded rig")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/deltas"), help="what is trained is kept here")
    parser.add_argument("--base", type=Path, help="weights of a base rig of the tiny preset; trained if not given")
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--plot", type=Path, help="PNG of quality over bytes")
    parser.add_argument("--sweep", type=float, nargs="+", help="try these learning rates instead, at rank 8")
    parser.add_argument("--cost", nargs="+", choices=list(RIG_PRESETS), help="time and memory of a step instead")
    arguments = parser.parse_args()
    if arguments.cost:
        for preset in arguments.cost:
            for rank in (None, 8):
                process = multiprocessing.get_context("spawn").Process(target=cost, args=(preset, rank))
                process.start()
                process.join()
        return
    torch.set_num_threads(1)
    head = OpenHead.load()
    base = load_weights(arguments.base).rig if arguments.base else base_rig(head, arguments.folder / "base")
    people = [subject(head, i) for i in tqdm(range(arguments.people), "people")]
    bench = Bench(base, people, arguments.folder)
    if arguments.sweep:
        full = bench.full()
        print(HEADER)
        print(line("full fine-tune", full, full))
        for rate in arguments.sweep:
            print(line(f"rank 8, learning rate {rate:g}", bench.trained(8, rate), full), flush=True)
        return
    sizes = rig256_bytes()
    found = table(bench)
    for rank, size in zip(RANKS, sizes, strict=True):
        print(f"rig256 (256 px, 144.6 M parameters) at rank {rank}: a file of {size:,} bytes")
    if arguments.plot:
        plot(found, sizes, arguments.plot)


if __name__ == "__main__":
    main()
