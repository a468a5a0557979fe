"""Why the `tiny` rig is what it is: variants of it trained for the same CPU time on one core, side by side.

    python benchmarks/tiny_preset.py --seconds 120 --only tiny "paper's noise prediction"
    python benchmarks/tiny_preset.py --store runs/quickstart/buffers --sheet variants.png

Every variant gets the same CPU seconds, in turns of a few seconds, so that what else the machine does meanwhile slows
all alike; compare the rows of one table, not the tables of two machines. Without --store it renders synthetic people.
The people (or, in a store, the portraits) that are measured on are never trained on.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torchvision.utils import save_image
from tqdm import tqdm

from drig.data.store import StoreDataset
from drig.data.synthetic import render_portrait, sample_person, sample_shot
from drig.diffusion.loss import p2_loss
from drig.diffusion.network import RIG_PRESETS, Rig, RigConfig
from drig.diffusion.samplers import ddim
from drig.errors import DrigError
from drig.faces.buffers import render_buffers
from drig.faces.open_head import OpenHead
from drig.randomness import torch_generator
from drig.training.config import TRAINING_PRESETS, TrainingConfig
from drig.training.ema import Ema
from drig.training.objective import Objective

SHOTS = 5
"""Photos of each synthetic person."""
TURN = 5.0
"""CPU seconds that a variant trains before it is the next one's turn."""
SAMPLED = 24
"""Held-out portraits that are sampled for the PSNR."""


@dataclass(frozen=True)
class Faces:
    """Portraits and what the network is told about them."""

    images: Tensor
    """(N, 3, S, S) in [-1, 1]."""
    buffers: Tensor
    """(N, 9, S, S)"""

    def __getitem__(self, index: Tensor | slice) -> "Faces":
        return Faces(self.images[index], self.buffers[index])


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    rig: RigConfig
    training: TrainingConfig


def variants() -> dict[str, Variant]:
    """The preset, and what it would be with one thing changed."""
    tiny, training = RIG_PRESETS["tiny"], TRAINING_PRESETS["tiny-stage1"]
    half_resolution = replace(tiny, patch=2, base_channels=32, channel_mult=(1, 1, 2))
    full_resolution = replace(tiny, patch=1, base_channels=32, channel_mult=(1, 1, 1, 2))
    return {
        "tiny": Variant(tiny, training),
        "paper's noise prediction": Variant(replace(tiny, prediction="noise"), replace(training, p2_k=1.0)),
        "paper's loss weight, k = 1": Variant(tiny, replace(training, p2_k=1.0)),
        "half resolution, patch 2": Variant(half_resolution, training),
        "full resolution, patch 1": Variant(full_resolution, training),
        "twice as wide at 8 x 8": Variant(replace(tiny, channel_mult=(1, 2)), training),
        "ResNet-18 encoder": Variant(replace(tiny, encoder_blocks=(2, 2, 2, 2), encoder_width=64), training),
        "half the batch": Variant(tiny, replace(training, batch=training.batch // 2)),
        "twice the learning rate": Variant(tiny, replace(training, learning_rate=2 * training.learning_rate)),
        "half the learning rate": Variant(tiny, replace(training, learning_rate=training.learning_rate / 2)),
    }


class Run:
    """One variant in training."""

    def __init__(self, variant: Variant, faces: Faces) -> None:
        self.variant, self.faces = variant, faces
        self.rig = Rig.from_seed(variant.rig, 0)
        self.objective = Objective(self.rig, train_encoder=True, autocast=None, p2_k=variant.training.p2_k).train()
        self.optimizer = torch.optim.Adam(self.rig.parameters(), lr=variant.training.learning_rate, fused=True)
        self.ema = Ema(self.rig, variant.training.ema_half_life or variant.training.batch, train_encoder=True)
        self.seconds, self.samples = 0.0, 0

    def train(self, seconds: float) -> None:
        """Go on until `seconds` of CPU time have been spent in all."""
        while self.seconds < seconds:
            start = time.process_time()
            self._step()
            self.seconds += time.process_time() - start

    def _step(self) -> None:
        training, generator = self.variant.training, torch_generator(0, "batch", self.samples)
        chosen = self.faces[torch.randint(len(self.faces.images), (training.batch,), generator=generator)]
        timestep = torch.randint(self.objective.schedule.steps, (training.batch,), generator=generator)
        noise = torch.randn(chosen.images.shape, generator=generator)
        for group in self.optimizer.param_groups:
            group["lr"] = training.learning_rate * min(1.0, (self.samples + training.batch) / (training.warmup or 1))
        self.optimizer.zero_grad()
        self.objective(chosen.images, chosen.buffers, noise, timestep).mean().backward()
        torch.nn.utils.clip_grad_norm_(self.rig.parameters(), training.gradient_clip or math.inf)
        self.optimizer.step()
        self.samples += training.batch
        self.ema.update(training.batch, self.samples)

    @torch.no_grad()
    def held_out(self, faces: Faces) -> tuple[float, float, Tensor]:
        """The averaged weights on unseen faces: p2 loss (k = 1), PSNR of DDIM-20 reconstructions in dB, and these."""
        rig, schedule = self.ema.average, self.objective.schedule
        generator = torch_generator(0, "held out")
        timestep = torch.linspace(0, schedule.steps - 1, len(faces.images)).long()
        noise = torch.randn(faces.images.shape, generator=generator)
        predicted = rig(schedule.q_sample(faces.images, timestep, noise), timestep, faces.buffers, faces.images)
        few = faces[torch.linspace(0, len(faces.images) - 1, min(SAMPLED, len(faces.images))).long()]
        start = torch.randn(few.images.shape, generator=generator)
        images = ddim(rig, start, few.buffers, rig.encode(few.images))
        psnr = 10 * torch.log10(4 / (images - few.images).square().mean(dim=(1, 2, 3)))
        return float(p2_loss(schedule, noise, predicted, timestep).mean()), float(psnr.mean()), images


def megaflops(config: RigConfig) -> float:
    """Millions of multiplications and additions of one forward pass for one item, encoder included."""
    rig = Rig(config).eval()
    image, buffers = torch.zeros(1, 3, config.size, config.size), torch.zeros(1, 9, config.size, config.size)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        rig(image, torch.zeros(1, dtype=torch.int64), buffers, image)
    return float(counter.get_total_flops()) / 1e6


def training_speed(config: RigConfig, faces: Faces, batch: int, autocast: torch.dtype | None) -> float:
    """Forward and backward passes, samples per CPU second: the best of three."""
    objective = Objective(Rig.from_seed(config, 0), train_encoder=True, autocast=autocast).train()
    part, timestep = faces[torch.arange(batch) % len(faces.images)], torch.full((batch,), 500)

    def step() -> None:
        objective(part.images, part.buffers, torch.zeros_like(part.images), timestep).mean().backward()

    return batch / min(_cpu_seconds(step) for _ in range(3))


def _cpu_seconds(action: Callable[[], None]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def synthetic_faces(size: int, people: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Portraits (3, S, S) in [-1, 1] and their true buffers (9, S, S), person by person."""
    head = OpenHead.load()
    for index in tqdm(range(people), "synthetic people"):
        person = sample_person(head, 0, index)
        for shot in range(SHOTS):
            portrait = render_portrait(head, person, sample_shot(person, shot), size)
            image = torch.from_numpy(portrait.image).permute(2, 0, 1).float() / 127.5 - 1
            yield image, render_buffers(head, portrait.codes, size).stacked()[0]


def load_faces(store: Path | None, size: int, people: int) -> Faces:
    """All faces, in memory: those of a buffer store, or of synthetic people."""
    if store:
        dataset = StoreDataset(store)
        items = [(dataset[i]["image"], dataset[i]["buffers"]) for i in range(len(dataset))]
        if items[0][0].shape[-1] != size:
            raise DrigError(f"{store} holds portraits of {items[0][0].shape[-1]} px; give a store of {size} px.")
    else:
        items = list(synthetic_faces(size, people))
    return Faces(torch.stack([image for image, _ in items]), torch.stack([buffers for _, buffers in items]))


def compare(chosen: dict[str, Variant], faces: Faces, seconds: float, sheet: Path | None) -> None:
    """Train all variants in turns on the first five sixths, measure them on the rest, print the table."""
    split = len(faces.images) * 5 // 6 // SHOTS * SHOTS  # whole people
    seen, unseen = faces[slice(0, split)], faces[slice(split, None)]
    runs = {name: Run(variant, seen) for name, variant in chosen.items()}
    with tqdm(total=len(runs) * seconds, desc="CPU seconds", unit="s") as bar:
        for turn in count(1):
            for run in runs.values():
                run.train(min(turn * TURN, seconds))
            bar.update(sum(run.seconds for run in runs.values()) - bar.n)
            if turn * TURN >= seconds:
                break
    print(f"{len(seen.images)} portraits trained on, {len(unseen.images)} held out, {seconds:.0f} CPU s each, one core")
    print(
        f"{'variant':28} {'M par':>6} {'MFLOP':>6} {'fp32/s':>7} {'bf16/s':>7} {'samples':>8} {'loss':>7} {'PSNR':>6}"
    )
    rows = [unseen.images, 2 * unseen.buffers[:, :3] - 1]
    for name, run in runs.items():
        loss, psnr, images = run.held_out(unseen)
        rows.append(images)
        config = run.variant.rig
        fp32 = training_speed(config, seen, run.variant.training.batch, None)
        bf16 = training_speed(config, seen, 2, torch.bfloat16)
        parameters = sum(p.numel() for p in run.rig.parameters()) / 1e6
        print(
            f"{name:28} {parameters:6.2f} {megaflops(config):6.0f} {fp32:7.1f} {bf16:7.1f} {run.samples:8,} "
            f"{loss:7.4f} {psnr:6.2f}",
            flush=True,
        )
    if sheet:
        few = torch.linspace(0, len(unseen.images) - 1, min(SAMPLED, len(unseen.images))).long()
        pictures = torch.cat([rows[0][few], rows[1][few], *rows[2:]])
        save_image((pictures.clamp(-1, 1) + 1) / 2, sheet, nrow=len(few))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="buffer store of 64 px portraits; without it, synthetic people")
    parser.add_argument("--people", type=int, default=60, help=f"synthetic people, {SHOTS} portraits each")
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds for each variant")
    parser.add_argument("--only", nargs="+", choices=list(variants()), help="variants to compare; all if not given")
    parser.add_argument("--sheet", type=Path, help="PNG: held-out portraits, their rendered buffers, then each variant")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = {name: variant for name, variant in variants().items() if name in (arguments.only or variants())}
    faces = load_faces(arguments.store, RIG_PRESETS["tiny"].size, arguments.people)
    compare(chosen, faces, arguments.seconds, arguments.sheet)


if __name__ == "__main__":
    main()
