"""How fast the diffusion core is against the same work done plainly (`benchmarks/plain.py`), and against the floor.

    python benchmarks/diffusion.py [--rig rig256] [--batch 2] [--rounds 2] [--device cpu] [--compile] [--json FILE]
    python benchmarks/diffusion.py --profile [--rig rig256] ...

Ours and the plain one take turns with the same weights, each turn in a process of its own: memory and the allocator's
settings are then each one's own. The ratio of their best times is what counts. The floor is the plain work by the rate
of this machine's largest matrix product: multiplications of direct convolution, which Winograd's algorithm and deltas
can fall below. Stage 1 trains everything, stage 2 the UNet of one person or a delta over it; the edit is DDIM with 20
steps, and a second line says what the same quality costs with UniPC (benchmarks/samplers.py). The last line is what
makes a running editor a person's. --profile says instead where our stage-1 step spends its time.
"""

import argparse
import json
import multiprocessing
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
from drig.diffusion.samplers import SAMPLERS
from drig.editing import Editor
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head
from drig.memory import peak_memory, reuse_freed_memory
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
def our_step(
    rig: Rig, batch: Batch, options: Options, *, stage: int, rank: int | None = None, recompute: bool = False
) -> Iterator[Step]:
    """As `drig.training.loop` takes one."""
    rig.denoisingUNet.recompute = recompute
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
def plain_step(rig: Rig, batch: Batch, options: Options, *, stage: int) -> Iterator[Step]:
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
def our_edit(rig: Rig, batch: Batch, options: Options, *, sampler: str, steps: int) -> Iterator[Step]:
    """As `drig.editing` samples, one image."""
    rig.eval()
    noise, buffers, photo = (batch[name][:1] for name in ("noise", "buffers", "image"))
    dtype, device = autocast_dtype("auto", photo.device), photo.device

    @torch.no_grad()
    def edit() -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            return SAMPLERS[sampler](rig, noise, buffers, rig.encode(photo), steps=steps)

    yield edit


@contextmanager
def plain_edit(rig: Rig, batch: Batch, options: Options, *, steps: int) -> Iterator[Step]:
    rig.eval()
    noise, buffers, photo = (batch[name][:1] for name in ("noise", "buffers", "image"))
    model = plain.PlainRig(rig)

    @torch.no_grad()
    def edit() -> Tensor:
        with torch.autocast("cuda", torch.float16) if photo.is_cuda else nullcontext():
            return plain.ddim(model, noise, buffers, model.encode(photo), steps)

    yield edit


Work = partial[AbstractContextManager[Step]]
STAGE1, STAGE2, DDIM = partial(plain_step, stage=1), partial(plain_step, stage=2), partial(plain_edit, steps=STEPS)
ROWS: dict[str, tuple[Work, Work]] = {
    "stage 1, a sample": (partial(our_step, stage=1), STAGE1),
    "stage 1, recomputing": (partial(our_step, stage=1, recompute=True), STAGE1),
    "stage 2, a sample": (partial(our_step, stage=2), STAGE2),
    f"stage 2, delta of rank {RANK}": (partial(our_step, stage=2, rank=RANK), STAGE2),
    f"edit, DDIM-{STEPS}": (partial(our_edit, sampler="ddim", steps=STEPS), DDIM),
    f"edit, UniPC-{UNIPC_STEPS}": (partial(our_edit, sampler="unipc", steps=UNIPC_STEPS), DDIM),
}
"""Ours and what it is compared with: a plain person is a whole rig, and a plain edit DDIM, whatever ours is."""


def take_turn(work: Work, ours: bool, options: Options) -> Turn:
    """A call to warm up, whose operations are counted, then the best of two. In a process of its own."""
    device = torch.device(options.device)
    rig = Rig.from_seed(RIG_PRESETS[options.rig], 0).to(device)
    if ours and device.type == "cpu":
        reuse_freed_memory()
    with work(rig, inputs(rig.config.size, options.batch, device), options) as step:
        with FlopCounterMode(display=False) if not ours else nullcontext() as counter:
            step()
        seconds = best_seconds(step, 2, device)
    return Turn(seconds, peak_memory(device), counter.get_total_flops() if counter else 0)


def measure(work: Work, ours: bool, options: Options) -> Turn:
    # A new process for every turn: its allocator's state is nobody else's.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(take_turn, work, ours, options).result()


def compare(rows: dict[str, tuple[Work, Work]], options: Options) -> Iterator[tuple[str, dict[str, float]]]:
    """Each row as soon as it is measured."""
    plain_turns: dict[Work, list[Turn]] = {}
    for name, (ours, plainly) in rows.items():
        turns, others = list[Turn](), plain_turns.setdefault(plainly, [])
        for _ in range(options.rounds):
            turns.append(measure(ours, True, options))
            if len(others) < options.rounds:
                others.append(measure(plainly, False, options))
        samples = options.batch if name.startswith("stage") else 1
        mine, theirs = (min(turn.seconds for turn in found) / samples for found in (turns, others))
        yield (
            name,
            {
                "ours_s": mine,
                "plain_s": theirs,
                "ratio": theirs / mine,
                "ours_peak_GB": turns[0].peak,
                "plain_peak_GB": others[0].peak,
                "plain_TFLOP": others[0].flops / samples / 1e12,
            },
        )


def best_seconds(step: Step, calls: int, device: torch.device) -> float:
    best = float("inf")
    for _ in range(calls):
        _wait(device)
        start = time.perf_counter()
        step()
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return best


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


def profile(options: Options) -> str:
    """Where our stage-1 step spends its time, once it runs as it always does."""
    device = torch.device(options.device)
    if device.type == "cpu":
        reuse_freed_memory()
    rig = Rig.from_seed(RIG_PRESETS[options.rig], 0).to(device)
    with our_step(rig, inputs(rig.config.size, options.batch, device), options, stage=1) as step:
        for _ in range(2):
            step()
        with torch.profiler.profile() as found:
            step()
            _wait(device)
    order = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return str(found.key_averages().table(sort_by=order, row_limit=15, max_name_column_width=40))


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
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help="of the table")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--profile", action="store_true", help="print where our stage-1 step spends its time, only")
    arguments = vars(parser.parse_args())
    file, only_profile, only = (arguments.pop(name) for name in ("json", "profile", "only"))
    options = Options(**arguments)
    if only_profile:
        print(profile(options))
        return
    device = torch.device(options.device)
    rate = matrix_rate(device)
    result = {"options": asdict(options), "machine": machine(device), "torch": torch.__version__,
              "date": datetime.now(UTC).date().isoformat(), "matrix_FLOP_s": rate, "rows": {}}  # fmt: skip
    print(f"{options.rig} on {result['machine']}, matrix products {rate / 1e9:,.0f} GFLOP/s")
    print(f"{'':<28}{'ours':>9}{'plain':>9}{'ratio':>8}{'floor':>9}{'ours':>9}{'plain':>9}")
    for name, row in compare({name: ROWS[name] for name in only}, options):
        result["rows"][name] = row
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
