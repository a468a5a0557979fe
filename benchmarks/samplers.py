"""How many steps a sampler needs: portraits sampled from the same noise, against solutions of 250 steps.

    python benchmarks/samplers.py --weights runs/stage1/weights.safetensors --plot docs/samplers.png

The portraits show synthetic people whom no preset trains on. The first table is the mean PSNR to what DDIM reaches in
250 steps, the second that to the photos, which blurred pictures of few steps come nearer to. Without --weights the
tiny rig is trained for a minute first.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from tiny_preset import Faces, Run, load_faces, variants
from torch import Tensor
from tqdm import tqdm

from drig.data.synthetic import render_portrait, sample_person, sample_shot
from drig.diffusion.network import Rig
from drig.diffusion.samplers import SAMPLERS, Sampler, ddim
from drig.diffusion.schedule import Schedule
from drig.diffusion.weights import load_weights
from drig.faces.buffers import render_buffers
from drig.faces.open_head import OpenHead
from drig.randomness import torch_generator

STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 25, 50)
SOLVED = 250
"""Steps of the solutions that all are measured against."""
GOAL = 20
"""Steps of DDIM, the paper's, whose distance to the solution the others should reach sooner."""
HELD_OUT = 1
"""Seed of the people; the presets train on those of seed 0."""


def uniform(schedule: Schedule, count: int) -> list[int]:
    return _whole(np.linspace(0, schedule.steps - 1, count) if count > 1 else np.array([schedule.steps - 1]))


def trailing(schedule: Schedule, count: int) -> list[int]:
    """From T - 1 in even steps to T / count - 1 (Lin et al. 2024)."""
    return _whole(schedule.steps * np.arange(1, count + 1) / count - 1)


def quadratic(schedule: Schedule, count: int) -> list[int]:
    """Song et al. 2021, appendix D.2."""
    return _whole(np.array(uniform(schedule, count)) ** 2 / (schedule.steps - 1))


def karras(schedule: Schedule, count: int) -> list[int]:
    """Even in (sigma / alpha)^(1/7) (Karras et al. 2022, equation 5)."""
    root = (1 / schedule.alphas_bar - 1).numpy() ** (1 / 14)  # (T,) rising
    even = np.linspace(root[0], root[-1], count) if count > 1 else root[-1:]
    return _whole(np.interp(even, root, np.arange(schedule.steps)))


def _whole(timesteps: np.ndarray) -> list[int]:
    """Rounded; those that fall on one timestep move apart upwards."""
    order = np.arange(len(timesteps))
    return [int(t) for t in np.maximum.accumulate(np.rint(timesteps) - order) + order]


def rows() -> dict[str, Sampler]:
    """What is compared: the samplers as they are, first, and with other timesteps."""
    log_snr, unipc = Schedule.log_snr_timesteps, SAMPLERS["unipc"]
    spacings = {"quadratic": quadratic, "Karras": karras, "uniform": uniform, "trailing": trailing}
    return (
        dict(SAMPLERS)
        | {"ddim, log-SNR": replace(ddim, timesteps=log_snr), "ddim, trailing": replace(ddim, timesteps=trailing)}
        | {f"unipc, {name}": replace(unipc, timesteps=spacing) for name, spacing in spacings.items()}
    )


def held_out(size: int, count: int) -> Faces:
    """One portrait of each of `count` people."""
    head, images, buffers = OpenHead.load(), [], []
    for index in range(count):
        person = sample_person(head, HELD_OUT, index)
        portrait = render_portrait(head, person, sample_shot(person, 0), size)
        images.append(torch.from_numpy(portrait.image).permute(2, 0, 1).float() / 127.5 - 1)
        buffers.append(render_buffers(head, portrait.codes, size).stacked()[0])
    return Faces(torch.stack(images), torch.stack(buffers))


def trained(seconds: float) -> Rig:
    """The tiny rig after `seconds` of CPU time."""
    run = Run(variants()["tiny"], load_faces(None, 64, 60))
    run.train(seconds)
    return run.ema.rig


def psnr(images: Tensor, others: Tensor) -> float:
    """Mean of the images' PSNR, dB."""
    return float((10 * torch.log10(4 / (images - others).square().mean(dim=(1, 2, 3)))).mean())


def measure(rig: Rig, faces: Faces) -> tuple[dict[str, list[float]], dict[str, list[float]], float]:
    """For each row: PSNR to the solution and to the photo, by STEPS; and of one solution to another, DPM-Solver++'s."""
    noise = torch.randn(faces.images.shape, generator=torch_generator(0, "noise"))
    with torch.no_grad():
        code = rig.encode(faces.images)

    def sample(sampler: Sampler, steps: int) -> Tensor:
        return sampler(rig, noise, faces.buffers, code, steps=steps)

    solution, other = sample(ddim, SOLVED), sample(SAMPLERS["dpmpp"], SOLVED)
    agreement = psnr(solution, other)
    print(f"ddim and dpmpp after {SOLVED} steps: {agreement:.1f} dB to each other; to the photos ", end="")
    print(f"{psnr(solution, faces.images):.2f} and {psnr(other, faces.images):.2f} dB")
    to_solution, to_photo = {}, {}
    for name, sampler in tqdm(rows().items(), "samplers"):
        made = [sample(sampler, steps) for steps in STEPS]
        to_solution[name] = [psnr(images, solution) for images in made]
        to_photo[name] = [psnr(images, faces.images) for images in made]
    return to_solution, to_photo, agreement


def calls(name: str, steps: int) -> int:
    """How often a sampler calls the network."""
    return 2 * steps - 1 if name == "heun" else steps


def print_table(title: str, table: Mapping[str, list[float]]) -> None:
    print(f"\n{title:<24}" + "".join(f"{steps:>6}" for steps in STEPS))
    for name, values in table.items():
        print(f"{name:<24}" + "".join(f"{value:6.1f}" for value in values))


def draw(
    to_solution: Mapping[str, list[float]], to_photo: Mapping[str, list[float]], agreement: float, path: Path
) -> None:
    """The samplers as they are, and DDIM with the others' timesteps, over calls of the network."""
    figure = Figure(figsize=(10, 4.2), dpi=120, layout="constrained")
    styles = {"ddim": "C7-", "ddim, log-SNR": "C7--", "dpmpp": "C0-", "unipc": "C3-", "heun": "C2-"}
    tables = {"to DDIM's solution of 250 steps": to_solution, "to the photo": to_photo}
    panels = figure.subplots(1, 2)
    for axes, (title, table) in zip(panels, tables.items(), strict=True):
        for name, style in styles.items():
            points = [(calls(name, steps), value) for steps, value in zip(STEPS, table[name], strict=True)]
            axes.plot(*np.transpose(points), style, marker="o", markersize=3.5, label=name)
        axes.set(xscale="log", xlim=(0.9, 55), xlabel="calls of the network", ylabel="PSNR, dB", title=title)
        axes.set_xticks((1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50), (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50))
        axes.minorticks_off()
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    goal = to_solution["ddim"][STEPS.index(GOAL)]
    for level, text in ((goal, f"DDIM, {GOAL} steps"), (agreement, f"two solutions of {SOLVED} steps")):
        panels[0].axhline(level, color="0.35", linewidth=0.8, linestyle=":")
        panels[0].annotate(f"{text}: {level:.1f} dB", (0.95, level), va="bottom", fontsize=8, color="0.35")
    panels[1].legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="a trained rig; without it, one is trained")
    parser.add_argument("--seconds", type=float, default=60, help="CPU time of that training")
    parser.add_argument("--portraits", type=int, default=12, help="how many to sample")
    parser.add_argument("--plot", type=Path, help="write a picture of the tables here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rig = load_weights(options.weights).rig if options.weights else trained(options.seconds)
    faces = held_out(rig.config.size, options.portraits)
    to_solution, to_photo, agreement = measure(rig.eval(), faces)
    print_table("PSNR to the solution", to_solution)
    print_table("PSNR to the photo", to_photo)
    goal = to_solution["ddim"][STEPS.index(GOAL)]
    print(f"\ncalls of the network to come as near to the solution as DDIM in {GOAL} steps, {goal:.1f} dB:")
    for name, values in to_solution.items():
        enough = [calls(name, steps) for steps, value in zip(STEPS, values, strict=True) if value >= goal]
        print(f"  {name:<22}{min(enough, default=f'more than {calls(name, STEPS[-1])}')}")
    if options.plot:
        draw(to_solution, to_photo, agreement, options.plot)


if __name__ == "__main__":
    main()
