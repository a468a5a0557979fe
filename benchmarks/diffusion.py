"""How fast the diffusion core is against the same work done plainly (`benchmarks/plain.py`), and against the floor.

    python benchmarks/diffusion.py [--rig rig256] [--batch 2] [--rounds 3] [--device cpu]

Ours and the plain one take turns with the same weights, in one process; the ratio of their best times is what counts.
The floor is the work by the rate of this machine's largest matrix product: multiplications of direct convolution for
a step, which Winograd's algorithm can fall below. Stage 1 trains everything, stage 2 the UNet of one person, whose
codes are computed once; the edit is DDIM with 20 steps.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext

import plain
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from drig.diffusion.network import RIG_PRESETS, Rig
from drig.diffusion.samplers import ddim
from drig.training.objective import Objective
from drig.training.precision import autocast_dtype

STEPS = 20
Step = Callable[[], object]


def inputs(size: int, batch: int, device: torch.device) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def uniform(channels: int) -> Tensor:
        return (torch.rand(batch, channels, size, size, generator=generator) * 2 - 1).to(device)

    noise = torch.randn(batch, 3, size, size, generator=generator).to(device)
    timestep = torch.randint(0, 1000, (batch,), generator=generator).to(device)
    return {"image": uniform(3), "buffers": uniform(9), "noise": noise, "timestep": timestep}


def our_step(rig: Rig, batch: dict[str, Tensor], *, train_encoder: bool) -> Step:
    """As `drig.training.loop` takes one."""
    device = batch["image"].device
    objective = Objective(rig, train_encoder=train_encoder, autocast=autocast_dtype("auto", device)).train()
    trained = [parameter for parameter in rig.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=1e-5, fused=True)
    if not train_encoder:
        with torch.no_grad():
            batch = batch | {"code": rig.encode(batch["image"])}

    def step() -> None:
        optimiser.zero_grad()
        objective(**batch).mean().backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()

    return step


def plain_step(rig: Rig, batch: dict[str, Tensor], *, train_encoder: bool) -> Step:
    rig.train().requires_grad_(True)
    rig.encoder.requires_grad_(train_encoder).train(train_encoder)
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

    return step


def edits(rig: Rig, batch: dict[str, Tensor]) -> tuple[Step, Step]:
    """One edit of `STEPS` steps, ours and plain."""
    rig.eval()
    noise, buffers, photo = (batch[name][:1] for name in ("noise", "buffers", "image"))
    plainly, device = plain.PlainRig(rig), photo.device
    fast = autocast_dtype("auto", device)

    @torch.no_grad()
    def ours() -> Tensor:
        with torch.autocast(device.type, fast, enabled=fast is not None):
            return ddim(rig, noise, buffers, rig.encode(photo), steps=STEPS)

    @torch.no_grad()
    def theirs() -> Tensor:
        with torch.autocast("cuda", torch.float16) if device.type == "cuda" else nullcontext():
            return plain.ddim(plainly, noise, buffers, plainly.encode(photo), STEPS)

    return ours, theirs


def compare(steps: tuple[Step, Step], rounds: int, device: torch.device) -> tuple[float, float]:
    """Seconds of each one's best of `rounds` calls, taken in turns after one of each that does not count."""
    best = [float("inf")] * 2
    for round_ in range(rounds + 1):
        for which, step in enumerate(steps):
            _wait(device)
            start = time.perf_counter()
            step()
            _wait(device)
            if round_:
                best[which] = min(best[which], time.perf_counter() - start)
    return best[0], best[1]


def matrix_rate(device: torch.device) -> float:
    """Floating-point operations a second of a large matrix product, in the type that training multiplies in."""
    side = 8192 if device.type == "cuda" else 2048
    a = torch.randn(side, side, device=device, dtype=autocast_dtype("auto", device) or torch.float32)
    seconds, _ = compare((lambda: a @ a, lambda: None), 10, device)
    return 2 * side**3 / seconds


def flops(step: Step) -> int:
    """Of the plain step: multiplications and additions of matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    noise_rigs = [name for name, config in RIG_PRESETS.items() if config.prediction == "noise"]
    parser.add_argument("--rig", default="rig256", choices=noise_rigs, help="preset")
    parser.add_argument("--batch", type=int, default=2, help="samples of a step; at least 2, for the BatchNorm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    rig = Rig.from_seed(RIG_PRESETS[options.rig], 0).to(device)
    batch = inputs(rig.config.size, options.batch, device)
    rate = matrix_rate(device)
    print(f"{options.rig} on {device}, {torch.get_num_threads()} threads, matrix products {rate / 1e9:,.0f} GFLOP/s")
    print(f"{'':<28}{'ours':>10}{'plain':>10}{'ratio':>8}{'TFLOP':>8}{'floor':>10}")
    for name, train_encoder in (("stage 1, a sample", True), ("stage 2, a sample", False)):
        ours = our_step(rig, batch, train_encoder=train_encoder)
        theirs = plain_step(rig, batch, train_encoder=train_encoder)
        _report(name, (ours, theirs), options.batch, options.rounds, rate, device)
    _report(f"edit, DDIM-{STEPS}", edits(rig, batch), 1, options.rounds, rate, device)


def _report(name: str, steps: tuple[Step, Step], samples: int, rounds: int, rate: float, device: torch.device) -> None:
    ours, theirs = (seconds / samples for seconds in compare(steps, rounds, device))
    work = flops(steps[1]) / samples
    floor = work / rate
    print(f"{name:<28}{ours:9.2f}s{theirs:9.2f}s{theirs / ours:7.2f}x{work / 1e12:8.2f}{floor:9.2f}s", flush=True)


if __name__ == "__main__":
    main()
