"""How fast the diffusion core is against the same work done plainly (`benchmarks/plain.py`), and against the floor.

    python benchmarks/diffusion.py [--rig rig256] [--batch 2] [--rounds 2] [--device cpu] [--compile] [--json FILE]

Ours and the plain one take turns with the same weights, each turn in a process of its own: memory and the allocator's
settings are then each one's own. The ratio of their best times is what counts. The floor is the plain work by the rate
of this machine's largest matrix product: multiplications of direct convolution, which Winograd's algorithm and deltas
can fall below. Stage 1 trains everything, stage 2 the UNet of one person or a delta over it; the edit is DDIM with 20
steps, and a second line says what the same quality costs with UniPC (benchmarks/samplers.py). The last line is what
makes a running editor a person's.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import plain
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from drig.diffusion.deltas import Delta, attached, save_delta
from drig.diffusion.network import RIG_PRESETS, Rig
from drig.diffusion.precision import autocast_dtype
from drig.diffusion.samplers import SAMPLERS, ddim
from drig.editing import Editor
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head
from drig.memory import reuse_freed_memory
from drig.training.objective import Objective

STEPS, UNIPC_STEPS = 20, 6
RANK = 8
Step = Callable[[], object]
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Options:
    rig: str
    batch: int
    """Samples of a training step."""
    rounds: int
    """Turns that each side takes."""
    device: str
    compile: bool


@dataclass(frozen=True)
class Turn:
    """What a process measured."""

    seconds: float
    """Best of its calls."""
    peak: float
    """Most memory in use, GB: the device's on a GPU, the process's on a CPU."""
    flops: int
    """Of matrix products and convolutions. 0 = not counted."""


def inputs(size: int, batch: int, device: torch.device) -> Batch:
    generator = torch.Generator().manual_seed(0)

    def uniform(channels: int) -> Tensor:
        return (torch.rand(batch, channels, size, size, generator=generator) * 2 - 1).to(device)

    noise = torch.randn(batch, 3, size, size, generator=generator).to(device)
    timestep = torch.randint(0, 1000, (batch,), generator=generator).to(device)
    return {"image": uniform(3), "buffers": uniform(9), "noise": noise, "timestep": timestep}


@contextmanager
def our_step(rig: Rig, batch: Batch, options: Options, *, stage: int, rank: int | None = None) -> Iterator[Step]:
    """As `drig.training.loop` takes one."""
    device = batch["image"].device
    delta = Delta.start(rig, rank, torch.Generator().manual_seed(0)) if rank else None
    autocast = autocast_dtype("auto", device)
    objective = Objective(rig, train_encoder=stage == 1, autocast=autocast, delta=delta).train()
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=1e-5, fused=True)
    if stage == 2:
        with torch.no_grad():
            batch = batch | {"code": rig.encode(batch["image"])}
    if options.compile:
        objective.compile()

    def step() -> None:
        optimiser.zero_grad()
        objective(**batch).mean().backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()

    with attached(rig, delta):
        yield step


@contextmanager
def plain_step(rig: Rig, batch: Batch, options: Options, *, stage: int, rank: int | None = None) -> Iterator[Step]:
    """The plain method has no deltas: a person's are all the weights, whatever the rank."""
    rig.train().requires_grad_(True)
    rig.encoder.requires_grad_(stage == 1).train(stage == 1)
    model, optimiser, cuda = plain.PlainRig(rig), plain.optimiser(rig, 1e-5), batch["image"].is_cuda
    scaler = torch.amp.GradScaler(enabled=cuda)

    def step() -> float:
        optimiser.zero_grad()
        with torch.autocast("cuda", torch.float16) if cuda else nullcontext():
            loss = model.losses(**batch).mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(rig.parameters(), 1.0, foreach=False)
        scaler.step(optimiser)
        scaler.update()
        return loss.item()

    yield step


@contextmanager
def our_edit(rig: Rig, batch: Batch, options: Options, *, unipc_steps: int | None = None) -> Iterator[Step]:
    """As `drig.editing` samples, one image."""
    rig.eval()
    noise, buffers, photo = (batch[name][:1] for name in ("noise", "buffers", "image"))
    dtype, device = autocast_dtype("auto", photo.device), photo.device
    solve = partial(SAMPLERS["unipc"], steps=unipc_steps) if unipc_steps else partial(ddim, steps=STEPS)

    @torch.no_grad()
    def edit() -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            return solve(rig, noise, buffers, rig.encode(photo))

    yield edit


@contextmanager
def plain_edit(rig: Rig, batch: Batch, options: Options, *, unipc_steps: int | None = None) -> Iterator[Step]:
    """One image, DDIM whatever ours takes."""
    rig.eval()
    noise, buffers, photo = (batch[name][:1] for name in ("noise", "buffers", "image"))
    model = plain.PlainRig(rig)

    @torch.no_grad()
    def edit() -> Tensor:
        with torch.autocast("cuda", torch.float16) if photo.is_cuda else nullcontext():
            return plain.ddim(model, noise, buffers, model.encode(photo), STEPS)

    yield edit


ROWS = {
    "stage 1, a sample": (our_step, plain_step, {"stage": 1}),
    "stage 2, a sample": (our_step, plain_step, {"stage": 2}),
    f"stage 2, delta of rank {RANK}": (our_step, plain_step, {"stage": 2, "rank": RANK}),
    f"edit, DDIM-{STEPS}": (our_edit, plain_edit, {}),
    f"edit, UniPC-{UNIPC_STEPS}": (our_edit, plain_edit, {"unipc_steps": UNIPC_STEPS}),
}


def take_turn(row: str, ours: bool, options: Options, count: bool) -> Turn:
    """In a process of its own: a call to warm up, then the best of two."""
    mine, plainly, what = ROWS[row]
    device = torch.device(options.device)
    rig = Rig.from_seed(RIG_PRESETS[options.rig], 0).to(device)
    if ours and device.type == "cpu":
        reuse_freed_memory()
    with (mine if ours else plainly)(rig, inputs(rig.config.size, options.batch, device), options, **what) as step:
        seconds = best_seconds(step, 2, device)
        peak = peak_memory(device)
        with FlopCounterMode(display=False) if count else nullcontext() as counter:
            if counter:
                step()
    return Turn(seconds, peak, int(counter.get_total_flops()) if counter else 0)


def compare(row: str, options: Options) -> dict[str, float]:
    found: dict[bool, list[Turn]] = {True: [], False: []}
    for round_ in range(options.rounds):
        for ours in (True, False):
            # A new pool: a process that has measured leaves its allocator's state to nobody.
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                count = round_ == 0 and not ours
                found[ours].append(pool.submit(take_turn, row, ours, options, count).result())
    samples = options.batch if row.startswith("stage") else 1
    ours, plainly = (min(turn.seconds for turn in found[which]) / samples for which in (True, False))
    return {
        "ours_s": ours,
        "plain_s": plainly,
        "ratio": plainly / ours,
        "ours_peak_GB": found[True][0].peak,
        "plain_peak_GB": found[False][0].peak,
        "plain_TFLOP": found[False][0].flops / samples / 1e12,
    }


def best_seconds(step: Step, calls: int, device: torch.device) -> float:
    """Of the best of `calls`, after one that does not count."""
    best = float("inf")
    for call in range(calls + 1):
        _wait(device)
        start = time.perf_counter()
        step()
        _wait(device)
        if call:
            best = min(best, time.perf_counter() - start)
    return best


def peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def matrix_rate(device: torch.device) -> float:
    """Floating-point operations a second of a large matrix product, in the type that training multiplies in."""
    side = 8192 if device.type == "cuda" else 2048
    a = torch.randn(side, side, device=device, dtype=autocast_dtype("auto", device) or torch.float32)
    return 2 * side**3 / best_seconds(lambda: a @ a, 10, device)


def identity_load(options: Options) -> dict[str, float]:
    """Seconds from a delta's file to an editor of that person, whose base is in memory; the file's MB."""
    rig, head = Rig.from_seed(RIG_PRESETS[options.rig], 0), load_head("open")
    base = Editor(rig, head, load_estimator("fit", head), device=options.device)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "person.safetensors"
        save_delta(file, Delta.start(base.rig, RANK, torch.Generator().manual_seed(0)))
        seconds = best_seconds(lambda: base.personalised(file), 5, torch.device(options.device))
        return {"seconds": seconds, "MB": file.stat().st_size / 1e6}


def machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    noise_rigs = [name for name, config in RIG_PRESETS.items() if config.prediction == "noise"]
    parser.add_argument("--rig", default="rig256", choices=noise_rigs, help="preset")
    parser.add_argument("--batch", type=int, default=2, help="samples of a step; at least 2, for the BatchNorm")
    parser.add_argument("--rounds", type=int, default=2, help="turns that each side takes")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="compile our training steps, as training.compile does")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    arguments = vars(parser.parse_args())
    file: Path | None = arguments.pop("json")
    options = Options(**arguments)
    device = torch.device(options.device)
    rate = matrix_rate(device)
    result = {"options": asdict(options), "machine": machine(device), "torch": torch.__version__,
              "date": datetime.now(UTC).date().isoformat(), "matrix_FLOP_s": rate, "rows": {}}  # fmt: skip
    print(f"{options.rig} on {result['machine']}, matrix products {rate / 1e9:,.0f} GFLOP/s")
    print(f"{'':<28}{'ours':>9}{'plain':>9}{'ratio':>8}{'floor':>9}{'ours':>9}{'plain':>9}")
    for name in ROWS:
        row = result["rows"][name] = compare(name, options)
        row["floor_s"] = row["plain_TFLOP"] * 1e12 / rate
        print(
            f"{name:<28}{row['ours_s']:8.3f}s{row['plain_s']:8.3f}s{row['ratio']:7.2f}x{row['floor_s']:8.3f}s"
            f"{row['ours_peak_GB']:6.1f} GB{row['plain_peak_GB']:6.1f} GB",
            flush=True,
        )
        if file:
            file.write_text(json.dumps(result, indent=2) + "\n")
    load = result["identity_load"] = identity_load(options)
    print(f"a person's delta, {load['MB']:.1f} MB, into a running editor: {load['seconds'] * 1000:.0f} ms")
    if file:
        file.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
