"""Why colours shift after personalisation: mean colour errors of reconstructions, one suspect at a time.

    python benchmarks/colour.py [--runs runs]

Takes what `make quickstart` left: each synthetic person's rig, the photos that it was trained on, and those that were
held out. Every photo is reconstructed with its own buffers and code; over the skin and over the background, the mean
error of each channel is taken, in % of the range. Suspects: the schedule, whose end is not pure noise (so the image's
share is put into the start noise, or the noise's own mean taken out), too few steps, and the encoder's BatchNorm in
training mode, as the released code leaves it in stage 2.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from drig.data.photos import read_photo, to_network
from drig.diffusion.deltas import load_merged
from drig.diffusion.network import Rig
from drig.diffusion.samplers import ddim
from drig.diffusion.schedule import Schedule
from drig.diffusion.weights import load_weights
from drig.editing import Editor
from drig.randomness import torch_generator

TRAINED_ON = 6
"""Photos of each person's training that are reconstructed."""
STEPS = 20
SKIN = 0.25
"""Least albedo: hair and eyes are darker."""


@dataclass(frozen=True)
class Photos:
    """Photos of one person: images (N, 3, S, S) and buffers (N, 9, S, S)."""

    images: Tensor
    buffers: Tensor

    @property
    def areas(self) -> dict[str, Tensor]:
        """(N, 1, S, S) weights."""
        face = self.buffers[:, 3:6].square().sum(1, keepdim=True).clamp(max=1)
        return {"skin": face * (self.buffers[:, 6:].mean(1, keepdim=True) > SKIN), "background": 1 - face}


def read(editor: Editor, files: list[Path]) -> Photos:
    faces = [editor.read(read_photo(file), aligned=True) for file in files]
    images = torch.stack([to_network(face.portrait.image) for face in faces])
    return Photos(images, torch.cat([editor.buffers(face.codes).stacked() for face in faces]))


def people(runs: Path) -> Iterator[tuple[Rig, dict[str, Photos]]]:
    """Each synthetic person's rig, and their photos by whether it was trained on them."""
    for folder in sorted((runs / "people").glob("person_*")):
        weights, base = folder / "weights.safetensors", runs / "stage1" / "weights.safetensors"
        editor = Editor.load(weights, base=base)
        report = json.loads((folder / "result.json").read_text())["album"]
        trained = set(report["used"]) - set(report["held_out"])
        album = sorted((runs / "albums" / folder.name).glob("*.png"))
        kinds = {
            "held out": [file for file in album if file.name not in trained],
            "trained on": [file for file in album if file.name in trained][:TRAINED_ON],
        }
        yield load_merged(weights, base).rig, {kind: read(editor, files) for kind, files in kinds.items()}


@torch.no_grad()
def reconstructions(base: Rig, rig: Rig, photos: Photos) -> Iterator[tuple[str, Tensor]]:
    """What each suspect changes, and the images (N, 3, S, S) that come of it."""
    noise = torch.randn(photos.images.shape, generator=torch_generator(0, "colour"))
    code, last = rig.encode(photos.images), Schedule().alphas_bar[Schedule().ddim_timesteps(STEPS)[-1]]
    yield "stage 1 alone", ddim(base, noise, photos.buffers, base.encode(photos.images), steps=STEPS)
    yield "personalised", ddim(rig, noise, photos.buffers, code, steps=STEPS)
    share = last.sqrt().float() * photos.images + (1 - last).sqrt().float() * noise
    yield "the image's share in the noise", ddim(rig, share, photos.buffers, code, steps=STEPS)
    centred = noise - noise.mean((2, 3), keepdim=True)
    yield "noise without a mean", ddim(rig, centred, photos.buffers, code, steps=STEPS)
    yield "5 steps", ddim(rig, noise, photos.buffers, code, steps=5)
    yield "250 steps", ddim(rig, noise, photos.buffers, code, steps=250)
    statistics = {name: value.clone() for name, value in rig.encoder.named_buffers()}
    rig.encoder.train()
    drifted = rig.encode(photos.images)
    rig.encoder.load_state_dict(statistics, strict=False)
    rig.encoder.eval()
    yield "BatchNorm in training mode", ddim(rig, noise, photos.buffers, drifted, steps=STEPS)


def measure(photos: Photos, found: Tensor) -> list[float]:
    """Mean colour error over skin and background, %, and PSNR."""
    error = (found - photos.images) / 2  # (N, 3, S, S) of the range
    values = []
    for area in photos.areas.values():
        mean = (error * area).sum((2, 3)) / area.sum((2, 3)).clamp(min=1)  # (N, 3)
        values.append(100 * mean.abs().mean().item())
    psnr = -10 * error.square().mean((1, 2, 3)).log10()
    return [*values, psnr.mean().item()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of a finished quickstart")
    options = parser.parse_args()
    file = options.runs / "stage1" / "weights.safetensors"
    if not file.exists():
        parser.error(f"there is no {file}: run `make quickstart` first, or give its folder with --runs")
    base = load_weights(file).rig
    rows: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for rig, kinds in tqdm(list(people(options.runs)), unit="person"):
        for kind, photos in kinds.items():
            for label, found in reconstructions(base, rig, photos):
                rows[kind, label].append(measure(photos, found))
    print(f"{'photos':<12}{'':<32}{'skin %':>8}{'background %':>14}{'PSNR dB':>9}")
    for (kind, label), values in rows.items():
        skin, background, psnr = torch.tensor(values).mean(0).tolist()
        print(f"{kind:<12}{label:<32}{skin:8.1f}{background:14.1f}{psnr:9.2f}")


if __name__ == "__main__":
    main()
