"""Extraction at scale: what its stages cost, its speed and memory on this machine, and a cluster of 1 to 64 nodes.

    python benchmarks/extraction.py stages [--size 256]       seconds a photo of each stage, one core
    python benchmarks/extraction.py workers [--photos 600]    photos/s with one and two processes a stage
    python benchmarks/extraction.py memory [--photos 1000 10000]
    python benchmarks/extraction.py cluster [--plot docs/extraction.png]     simulated

`stages` writes what it measured to `benchmarks/results/extraction_stages.json`, from where `cluster` takes it.
"""

import argparse
import heapq
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import matplotlib
import numpy as np
import torch

from drig.data.photos import read_photo, save_png
from drig.data.store import BufferStoreWriter
from drig.data.synthetic import write_people
from drig.randomness import numpy_generator
from pipelines.face_mappers import Batch, BufferRenderer, PortraitFinder

ROOT = Path(__file__).parents[1]
STAGES = ROOT / "benchmarks" / "results" / "extraction_stages.json"
BATCH = 8


def portraits(folder: Path, size: int) -> list[Path]:
    """Sixteen FFHQ crops of four synthetic people."""
    return sorted(write_people(folder, people=range(4), photos=4, size=size, seed=0))


def variations(folder: Path, size: int, count: int) -> None:
    """So many crops: the sixteen, shifted by a few pixels, brighter or darker. Cheap to make, and no two alike."""
    with tempfile.TemporaryDirectory() as scratch:
        pictures = [read_photo(path) for path in portraits(Path(scratch), size)]
    rng = numpy_generator(0, "variations")
    for index in range(count):
        shifted = np.roll(pictures[index % len(pictures)], rng.integers(-3, 4, 2), (0, 1))
        varied = np.clip(shifted * rng.uniform(0.7, 1.2) + rng.integers(0, 3, shifted.shape), 0, 255)
        save_png(folder / f"{index // 1000:05}" / f"{index:07}.png", varied.astype(np.uint8))


# ---- memory ----------------------------------------------------------------------------------------------------------


def extraction(photos: Path, store: Path, finders: int, renderers: int) -> list[str]:
    """The command line, on a Ray of its own."""
    return [
        *(sys.executable, str(ROOT / "pipelines" / "extract_buffers.py")),
        *("--photos", str(photos), "--store", str(store), "--runs", str(store.parent)),
        *("--aligned", "--detect", "false", "--size", "64", "--sheet", "0", "--batch", str(BATCH)),
        *("--finders", str(finders), "--renderers", str(renderers)),
        *("--cluster.cpus", str(finders + renderers + 1), "--cluster.dashboard", "false"),
    ]


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in table.splitlines()]
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in pairs if its_parent == parent]
    return found


def memory_of(pid: int) -> tuple[str, float, float]:
    """What a process is for extraction; MiB of its own, and of shared memory that it has touched."""
    try:
        name = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return "other", 0, 0
    roles = {"PortraitFinder": "finder", "BufferRenderer": "renderer", "/raylet/raylet": "raylet"}
    role = next((role for part, role in roles.items() if part in name), "other")
    own, shared = (
        int(found[1]) / 1024 if (found := re.search(rf"{field}:\s*(\d+)", status)) else 0.0
        for field in ("RssAnon", "RssShmem")
    )
    return role, own, shared


def peaks(command: list[str]) -> dict[str, float]:
    """Run it; the peaks of memory in MiB, by what held it, and `seconds`."""
    started, peak = time.monotonic(), dict.fromkeys(("driver", "finder", "renderer", "all", "object store"), 0.0)
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None:
            now = dict.fromkeys(peak, 0.0)
            for pid in family(process.pid):
                role, own, shared = memory_of(pid)
                role = "driver" if pid == process.pid else role
                now["all"] += own
                if role == "raylet":
                    now["object store"] = shared  # the object store keeps what it once touched: a peak by itself
                elif role in now:
                    now[role] = max(now[role], own)
            peak = {name: max(value, now[name]) for name, value in peak.items()}
            time.sleep(0.5)
        if process.returncode:
            raise SystemExit(f"{command} failed with {process.returncode}")
    return {**peak, "seconds": time.monotonic() - started}


def memory(options: argparse.Namespace) -> None:
    print(
        f"peak MiB   {'photos':>8}{'driver':>9}{'finder':>9}{'renderer':>10}{'all':>9}{'object store':>14}{'seconds':>9}"
    )
    for count in options.photos:
        with tempfile.TemporaryDirectory() as folder:
            variations(Path(folder) / "photos", 64, count)
            found = peaks(extraction(Path(folder) / "photos", Path(folder) / "store", 1, 1))
            stored = json.loads((Path(folder) / "store" / "manifest.json").read_text())
            assert sum(shard["count"] for shard in stored["shards"]) == count, "not every photo was stored"
        print(
            f"{'':11}{count:>8,}{found['driver']:>9.0f}{found['finder']:>9.0f}{found['renderer']:>10.0f}"
            f"{found['all']:>9.0f}{found['object store']:>14.0f}{found['seconds']:>9.0f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    part = parts.add_parser("memory")
    part.add_argument("--photos", type=int, nargs="+", default=[1_000, 10_000])
    part.set_defaults(run=memory)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
