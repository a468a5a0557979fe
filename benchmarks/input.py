"""Whether stage 1's input keeps up with a fast device: the share of the time that the loop waits for data.

    python benchmarks/input.py [--size 256] [--batch 32] [--loaders 0 1 2] [--steps 30] [--json FILE]

Samples come from a buffer store as in training: read, noised and collated by loader processes. The device is one that
takes a fixed time for a batch and no CPU, as a GPU does; its speeds are shares of what the loaders can feed. The first
line is what a core feeds, by CPU time, which other programs on the machine do not count in.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from store import faces, write_ours

from drig.data.store import StoreDataset
from drig.training.config import TRAINING_PRESETS
from drig.training.meters import Window
from drig.training.stream import SampleStream, worker_batches
from drig.versions import versions

PAPER = TRAINING_PRESETS["paper-stage1"]
SPEEDS = (0.25, 0.5, 0.75)
PHOTOS = 32
WARM = 8
"""Batches before the clock starts: loader processes need seconds to start."""


def train_for(dataset: StoreDataset, *, batch: int, loaders: int, steps: int, step_s: float) -> dict[str, float]:
    """What the training loop would report of `steps` batches on a device of `step_s` a batch."""
    config = replace(PAPER, samples=batch * (steps + WARM), batch=batch, loader_workers=loaders)
    stream = SampleStream(dataset, len(dataset), 1000, config.seed)
    window = Window(stream.steps, torch.device("cpu"))
    batches = worker_batches(stream, config, 0, rank=0, world_size=1, pin_memory=False)
    for step, items in enumerate(window.timed(batches), start=1):
        time.sleep(step_s)
        window.add(torch.zeros(batch), items["timestep"])
        window.add_step(torch.zeros(()), batch)
        if step == WARM:
            window.report(world_size=1)
    return window.report(world_size=1)


def cpu_rate(dataset: StoreDataset, batch: int, batches: int) -> float:
    """Samples that a core reads, noises and collates in a second of its time."""
    config = replace(PAPER, samples=batch * batches, batch=batch, loader_workers=0)
    stream = SampleStream(dataset, len(dataset), 1000, config.seed)
    started = time.process_time()
    for _ in worker_batches(stream, config, 0, rank=0, world_size=1, pin_memory=False):
        pass
    return batch * batches / (time.process_time() - started)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--loaders", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--json", type=Path, help="also write the table there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="drig-input-") as folder:
        write_ours(faces(arguments.size, PHOTOS), Path(folder) / "buffers")
        dataset = StoreDataset(Path(folder) / "buffers")
        rate = cpu_rate(dataset, arguments.batch, batches=8)
        print(f"a core feeds {rate:.0f} samples/s of {arguments.size} px\n")
        print(f"{'loader processes':18}{'they feed, /s':>15}{'device, /s':>12}{'trained, /s':>13}{'wait share':>12}")
        for loaders in arguments.loaders:
            common = {"batch": arguments.batch, "loaders": loaders, "steps": arguments.steps}
            fed = train_for(dataset, **common, step_s=0.0)["samples_per_second"]
            for speed in SPEEDS:
                device = speed * fed
                found = train_for(dataset, **common, step_s=arguments.batch / device)
                row = {"loaders": loaders, "fed": fed, "device": device, **found}
                rows.append(
                    {name: row[name] for name in ("loaders", "fed", "device", "samples_per_second", "wait_share")}
                )
                speeds = f"{fed:15.0f}{device:12.0f}{found['samples_per_second']:13.0f}"
                print(f"{loaders:<18}{speeds}{found['wait_share']:12.1%}", flush=True)
    if arguments.json:
        about = {"date": datetime.now(UTC).date().isoformat(), **versions()}
        arguments.json.write_text(json.dumps({"about": about, "core": rate, "runs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
