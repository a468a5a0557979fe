"""What a GPU makes of the small rigs: does it compute what a CPU does, and how fast does it train them?

    PYTHONPATH=. python benchmarks/gpu.py [--seconds 5] [--json benchmarks/results/gpu_h200.json]

Needs PyTorch, but neither Ray nor PyTorch3D's compiled part: for a bare machine that is rented by the minute. Training
is `drig.training.loop`'s, on data that lies on the GPU (`--training.resident` of stage 1), plain, with channels last,
and compiled; each number is written as soon as it is known. `benchmarks/diffusion.py --device cuda` has rigs of the
paper's size beside the same method written plainly.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from drig.data.items import Item
from drig.data.resident import ResidentDataset
from drig.diffusion.network import RIG_PRESETS, Rig
from drig.diffusion.weights import load_weights
from drig.shipped_base import SHIPPED_BASE
from drig.training.config import TRAINING_PRESETS
from drig.training.loop import train

FACES = 512
VARIANTS = [(rig, variant) for rig in ("small", "small128") for variant in ("plain", "channels last", "compiled")]


class Noise(Dataset[Item]):
    """Packed faces of nothing: what is in them does not change the speed."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return FACES

    def __getitem__(self, index: int) -> Item:
        generator = torch.Generator().manual_seed(index)

        def planes(low: int, high: int, dtype: torch.dtype) -> Tensor:
            return torch.randint(low, high, (3, self.size, self.size), generator=generator).to(dtype)

        return {
            "image": planes(0, 256, torch.uint8),
            "normal": planes(-127, 128, torch.int8),
            "albedo": planes(0, 128, torch.uint8),
            "light": torch.rand(9, 3, generator=generator),
        }


def training_speed(name: str, variant: str, seconds: float, device: str) -> dict[str, float]:
    """Samples a second from the first report on, and the seconds until that: compilation, mostly."""
    rig = Rig.from_seed(RIG_PRESETS[name], 0).to(device)
    if variant == "channels last":
        rig = rig.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    training = TRAINING_PRESETS["small-gpu"]
    config = replace(
        training,
        samples=10**9,
        compile=variant == "compiled",
        log_every=4 * training.batch,
        checkpoint_every=10**9,
    )
    reports: list[tuple[float, int]] = []
    metrics: dict[str, float] = {}

    def report(seen: int, found: dict[str, float]) -> None:
        reports.append((time.perf_counter(), seen))
        metrics.update(found)

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        train(
            config,
            rig,
            ResidentDataset(Noise(rig.config.size), device, mirror=True),
            workdir=Path(folder),
            on_progress=report,
            should_stop=lambda: len(reports) > 1 and reports[-1][0] - reports[0][0] > seconds,
        )
    (first, before), (last, after) = reports[0], reports[-1]
    return {
        "samples_per_second": (after - before) / (last - first),
        "seconds_to_first_report": first - started,
        "memory_gb": metrics["memory_gb"],
    }


@torch.no_grad()
def against_cpu(device: str) -> dict[str, float]:
    """Relative error of the noise that the shipped base predicts, in float32 and in bfloat16."""
    rig = load_weights(SHIPPED_BASE).rig.eval()
    generator, size = torch.Generator().manual_seed(0), rig.config.size
    noisy, photo = (torch.randn(4, 3, size, size, generator=generator) for _ in range(2))
    inputs = (noisy, torch.tensor([5, 250, 600, 990]), torch.rand(4, 9, size, size, generator=generator), photo)
    expected = rig(*inputs)
    rig.to(device)
    moved = [tensor.to(device) for tensor in inputs]
    errors = {}
    for name, dtype in (("float32", None), ("bfloat16", torch.bfloat16)):
        with torch.autocast(torch.device(device).type, dtype, enabled=dtype is not None):
            found = rig(*moved).float().cpu()
        errors[name] = float((found - expected).norm() / expected.norm())
    return errors


def rows(seconds: float, device: str) -> Iterator[tuple[str, dict[str, float]]]:
    yield "error against the CPU", against_cpu(device)
    for rig, variant in VARIANTS:
        try:
            yield f"{rig}, {variant}", training_speed(rig, variant, seconds, device)
        except (RuntimeError, torch.cuda.OutOfMemoryError) as error:  # the next variant may still do
            print(f"{rig}, {variant}: {error}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args()
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    result: dict[str, Any] = {"device": name, "cores": os.cpu_count(), "torch": torch.__version__,
                              "date": datetime.now(UTC).date().isoformat(), "rows": {}}  # fmt: skip
    print(f"{name}, torch {torch.__version__}")
    for row, numbers in rows(options.seconds, options.device):
        result["rows"][row] = numbers
        print(f"{row:<28}" + "  ".join(f"{key} {value:.4g}" for key, value in numbers.items()), flush=True)
        if options.json:
            options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
