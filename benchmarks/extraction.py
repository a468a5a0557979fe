"""Extraction on this machine: what its stages cost, its speed and memory, and what kills do to it.

    python benchmarks/extraction.py stages      CPU seconds of each, to benchmarks/results/extraction_stages.json
    python benchmarks/extraction.py workers     photos/s with one and with two processes a stage
    python benchmarks/extraction.py memory      peaks at 1,000 and 10,000 photos
    python benchmarks/extraction.py faults      kills at random moments, and what came of the store

CPU seconds, because they hardly change when others use the machine too. What a cluster would do follows from them:
`benchmarks/extraction_on_clusters.py`.
"""

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drig.data.photos import read_photo, save_png
from drig.data.store import BufferStore, BufferStoreWriter
from drig.data.synthetic import write_people
from drig.randomness import numpy_generator
from pipelines.cluster import ClusterConfig, quieten_ray_data, ray_cluster
from pipelines.face_mappers import BufferRenderer, PortraitFinder

ROOT = Path(__file__).parents[1]
STAGES = ROOT / "benchmarks" / "results" / "extraction_stages.json"
BATCH = 8
SHARD = 256
FEW, ROUNDS = 800, 2


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


# ---- stages ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stages:
    """What a photo costs: FFHQ crops of 1024 px in PNG, portraits of 256 px, batches of 8, one thread."""

    find: float
    """CPU seconds a photo: decode, find the face, cut the portrait."""
    render: float
    """CPU seconds a photo: fit, render, encode."""
    write: float
    """The driver's CPU seconds a photo: LMDB, shards of 256, their commits."""
    schedule: float
    """The driver's CPU seconds a block of photos: Ray Data."""
    photo_bytes: float
    record_bytes: float
    machine: str
    date: str


def cpu_seconds(action: Callable[[], Any]) -> float:
    before = time.process_time()
    action()
    return time.process_time() - before


def stages(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        paths = portraits(Path(scratch) / "people", 1024)
        find, render = PortraitFinder(256, aligned=True), BufferRenderer("open", None, "fit", device="cpu")
        batches = [
            {"key": np.array([path.name for path in part], object), "source": np.array([str(p) for p in part], object)}
            for part in (paths[:BATCH], paths[BATCH:])
        ]
        render(find(batches[0]))  # compiles what numba compiles
        found: list[Any] = []
        find_s = cpu_seconds(lambda: found.extend(find(batch) for batch in batches)) / len(paths)
        made: list[Any] = []
        render_s = cpu_seconds(lambda: made.extend(render(batch) for batch in found)) / len(paths)
        records = [(key, record) for batch in made for key, record in zip(batch["key"], batch["record"], strict=True)]
        assert all(record for _, record in records), "a synthetic portrait was rejected"
        write_s = write_cost(records, Path(scratch) / "store")
        measured = Stages(
            find=find_s,
            render=render_s,
            write=write_s,
            schedule=schedule_cost(records[0][1]),
            photo_bytes=float(np.mean([path.stat().st_size for path in paths])),
            record_bytes=float(np.mean([len(record) for _, record in records])),
            machine=f"{os.cpu_count()} CPUs, {platform.processor() or platform.machine()}, no GPU",
            date=str(date.today()),
        )
    STAGES.write_text(json.dumps(asdict(measured), indent=1) + "\n")
    print(json.dumps(asdict(measured), indent=1))


def write_cost(records: Sequence[tuple[str, bytes]], folder: Path, rounds: int = 8) -> float:
    """CPU seconds a record. Each goes into a store of its own, since a record's bytes name its key."""

    def fill() -> None:
        for i in range(rounds):
            with BufferStoreWriter(folder / str(i), size=256, head="open", estimator="fit", shard=SHARD) as writer:
                for key, record in records:
                    writer.put_encoded(key, record)

    return cpu_seconds(fill) / (rounds * len(records))


def schedule_cost(record: bytes, blocks: int = 400) -> float:
    """The driver's CPU seconds a block in a pipeline of the same shape whose mappers do nothing."""
    from ray.data import ActorPoolStrategy, from_items

    class Find:
        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            return {**row, "image": np.zeros((BATCH, 256, 256, 3), np.uint8)}

    class Render:
        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            return {"key": row["key"], "record": [record] * BATCH}

    def run(count: int) -> float:
        items = [{"key": [f"{i}/{j}" for j in range(BATCH)]} for i in range(count)]
        one: Any = {"compute": ActorPoolStrategy(size=1), "num_cpus": 1}
        rows = from_items(items, override_num_blocks=count).map(Find, **one).map(Render, **one)
        return cpu_seconds(lambda: list(rows.iter_rows()))

    with ray_cluster(ClusterConfig(cpus=3, dashboard=False)):
        quieten_ray_data()
        run(20)
        return (run(blocks) - run(blocks // 4)) / (blocks - blocks // 4)


# ---- one and two workers ---------------------------------------------------------------------------------------------


def workers(options: argparse.Namespace) -> None:
    rates: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        variations(Path(folder) / "photos", 64, FEW)
        for round_ in range(ROUNDS):
            for count in rates:
                store = Path(folder) / f"store{count}_{round_}"
                command = extraction(Path(folder) / "photos", store, count, count, shard=16)
                rates[count].append(steady_rate(command, store))
    for count, values in rates.items():
        told = ", ".join(f"{value:.1f}" for value in values)
        print(f"{count} finders, {count} renderers: {max(values):.1f} photos/s at best of {told}")
    print(f"ratio of the best: {max(rates[2]) / max(rates[1]):.2f}")


def steady_rate(command: Sequence[str], store: Path) -> float:
    """Photos a second from the first shard to the last: without the start of Ray and of its processes."""
    seen = [(0.0, 0)]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if (count := stored(store)) != seen[-1][1]:
                seen.append((time.monotonic(), count))
            time.sleep(0.05)
    (first, before), (last, after) = seen[1], seen[-1]
    return (after - before) / (last - first)


# ---- memory ----------------------------------------------------------------------------------------------------------


def extraction(photos: Path, store: Path, finders: int, renderers: int, shard: int = SHARD) -> list[str]:
    """The command line, on a Ray of its own."""
    return [
        *(sys.executable, str(ROOT / "pipelines" / "extract_buffers.py")),
        *("--photos", str(photos), "--store", str(store), "--runs", str(store.parent)),
        *("--aligned", "--detect", "false", "--size", "64", "--sheet", "0"),
        *("--batch", str(BATCH), "--shard", str(shard)),
        *("--finders", str(finders), "--renderers", str(renderers)),
        *("--cluster.cpus", str(finders + renderers + 1), "--cluster.dashboard", "false"),
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in table.splitlines()]
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in pairs if its_parent == parent]
    return found


def memory_of(pid: int) -> tuple[str, float]:
    """What a process is for extraction, and MiB of memory of its own."""
    try:
        name = Path(f"/proc/{pid}/cmdline").read_text()
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return "other", 0
    roles = {"CarefulFinder": "finder", "BufferRenderer": "renderer", "/raylet/raylet": "raylet"}
    role = next((role for part, role in roles.items() if part in name), "other")
    found = re.search(r"RssAnon:\s*(\d+)", status)
    return role, int(found[1]) / 1024 if found else 0.0


def object_store(raylet: int) -> float:
    """MiB of shared memory that its objects have touched; it is kept, so this is a peak by itself."""
    files = [file for file in Path(f"/proc/{raylet}/fd").iterdir() if "/plasma" in str(file.readlink())]
    return sum(file.stat().st_blocks * 512 for file in files) / 2**20


def peaks(command: list[str]) -> dict[str, float]:
    """Run it; the peaks of memory in MiB, by what held it, and `seconds`."""
    started, peak = time.monotonic(), dict.fromkeys(("driver", "finder", "renderer", "all", "object store"), 0.0)
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            now = dict.fromkeys(peak, 0.0)
            for pid in family(process.pid):
                role, own = memory_of(pid)
                now["all"] += own
                if role == "raylet":
                    with suppress(FileNotFoundError):  # it is ending
                        now["object store"] = object_store(pid)
                elif pid == process.pid or role in now:
                    name = "driver" if pid == process.pid else role
                    now[name] = max(now[name], own)
            peak = {name: max(value, now[name]) for name, value in peak.items()}
            time.sleep(0.5)
        if process.returncode:
            raise SystemExit(f"{command} failed with {process.returncode}")
    return {**peak, "seconds": time.monotonic() - started}


def memory(options: argparse.Namespace) -> None:
    for count in options.photos:
        with tempfile.TemporaryDirectory() as folder:
            variations(Path(folder) / "photos", 64, count)
            command = extraction(Path(folder) / "photos", Path(folder) / "store", 1, 1)
            found = peaks(command + ([] if options.backlog is None else ["--backlog", str(options.backlog)]))
            assert stored(Path(folder) / "store") == count, "not every photo was stored"
        seconds = found.pop("seconds")
        told = ", ".join(f"{name} {value:,.0f}" for name, value in found.items())
        print(f"{count:,} photos in {seconds:,.0f} s, peak MiB: {told}", flush=True)


# ---- faults ----------------------------------------------------------------------------------------------------------

VICTIMS = ("renderer", "driver", "raylet", "finder")


def faults(options: argparse.Namespace) -> None:
    """Kill a process at a random moment, give the command again, and compare with the store of an undisturbed run."""
    rng = numpy_generator(options.seed, "faults")
    with tempfile.TemporaryDirectory() as folder:
        photos, quiet = Path(folder) / "photos", Path(folder) / "quiet"
        variations(photos, 64, FEW)
        subprocess.run(extraction(photos, quiet, 1, 1, shard=16), cwd=ROOT, env=environment(), check=True)
        undisturbed = BufferStore(quiet)
        keys = undisturbed.keys()
        for victim in VICTIMS:
            store = Path(folder) / victim
            command = extraction(photos, store, 1, 1, shard=16)
            with subprocess.Popen(command, cwd=ROOT, env=environment()) as driver:
                # The finder is killed as it begins, since without detection it is done long before the renderer.
                kill(driver, victim, store, at=0 if victim == "finder" else int(rng.integers(1, FEW // 2)))
                before = stored(store)
                driver.wait()
            subprocess.run(command, cwd=ROOT, env=environment(), check=True)
            disturbed = BufferStore(store)
            same = sum(undisturbed._content(key) == disturbed._content(key) for key in keys)
            print(
                f"{victim} killed with {before} of {FEW} stored, exit code {driver.returncode}; the command again: "
                f"{stored(store)} stored, {len(disturbed)} different keys, {same} as undisturbed",
                flush=True,
            )


def stored(store: Path) -> int:
    """Records that a store lists."""
    manifest = store / "manifest.json"
    return sum(shard["count"] for shard in json.loads(manifest.read_text())["shards"]) if manifest.exists() else 0


def kill(driver: "subprocess.Popen[bytes]", victim: str, store: Path, at: int) -> None:
    """Kill the process of this role once it is there and so many records are stored."""
    while driver.poll() is None:
        found = [driver.pid] if victim == "driver" else [p for p in family(driver.pid) if memory_of(p)[0] == victim]
        if found and stored(store) >= at:
            os.kill(found[0], signal.SIGKILL)
            return
        time.sleep(0.05)
    raise SystemExit(f"there was no {victim} to kill any more")


PARTS = {"stages": stages, "workers": workers, "memory": memory, "faults": faults}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", default=list(PARTS), help=f"of {', '.join(PARTS)}; or all")
    parser.add_argument("--photos", type=int, nargs="+", default=[1_000, 10_000], help="of `memory`")
    parser.add_argument("--backlog", type=float, help="extraction's, in GiB; of `memory`")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of `faults`")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    for part in options.parts:
        PARTS[part](options)


if __name__ == "__main__":
    main()
