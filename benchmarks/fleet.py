"""Forty people two at a time, and what happens on long nights: who came through, and what it cost the others.

    python benchmarks/fleet.py [--folder runs/fleet] [--plot docs/fleet.png] [--json benchmarks/results/fleet_cpu.json]

One album is damaged, one person meets a mistake in the code, one worker and later the driver are killed (-9); the same
command is then given again. Useful work is what the registered people take undisturbed; two workers can at best do it
in half the time. A folder of an earlier run is begun anew, but for its photos.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from drig.errors import DrigError
from drig.identities import Identities, UnknownIdentity
from drig.shipped_base import SHIPPED_BASE
from drig.tracking import tracking_uri
from drig.training.config import TRAINING_PRESETS
from drig.versions import versions
from pipelines.cluster import ClusterConfig, ray_cluster
from pipelines.identity_training import IdentityResult, train_identity
from pipelines.personalize import PersonalizeConfig, PersonWorker, personalize
from pipelines.synthesize import render_people

WORKERS = 2
PHOTOS, SIZE = 6, 128
SAMPLES = 240
DAMAGED, MISTAKEN, KILLED = "person_0005", "person_0009", "person_0012"
DRIVER, STARTS = "driver", 5
"""Its name in the notes, and how often it may be started: a starved machine ends it too."""
LOOPED = 3
"""People that a plain loop trains too."""
DRIVE = "--drive"
COLOURS = {
    "registered": "#4c9f70",
    "failed": "#c0392b",
    "worker killed": "#e08e0b",
    "driver killed": "#8e6bbf",
    "Ray failed": "#7f8c8d",
}


class Watched(PersonWorker):
    """A worker that notes when it begins and ends with whom."""

    def work(self, name: str, album: str) -> IdentityResult:
        runs = self._job.config.runs
        note(runs, name, "begin")
        if name == MISTAKEN:
            note(runs, name, "failed")
            raise ZeroDivisionError("a mistake in the code")
        result = super().work(name, album)
        note(runs, name, "failed" if result.error else "registered")
        return result


def note(folder: Path, name: str, what: str) -> None:
    event = {"name": name, "what": what, "pid": os.getpid(), "time": time.time(), "cpu": time.process_time()}
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n")


def read_events(folder: Path) -> list[dict[str, Any]]:
    file = folder / "events.jsonl"
    events = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return sorted(events, key=lambda event: event["time"])


def config(folder: Path) -> PersonalizeConfig:
    training = replace(
        TRAINING_PRESETS["tiny-stage2-delta"], samples=SAMPLES, warmup=16, log_every=80, checkpoint_every=80
    )
    return PersonalizeConfig(
        albums=(str(folder / "people"),),
        storage=str(folder / "run"),
        runs=folder,
        training=training,
        holdout=1,
        force=True,  # six photos are few
        aligned=True,
        workers=WORKERS,
        cluster=ClusterConfig(dashboard=False),
    )


def drive(folder: Path) -> None:
    """What is killed and started again: the command, with a worker that takes notes."""
    from pipelines import personalize as module

    module.PersonWorker = Watched  # type: ignore[misc]
    personalize(config(folder))


def render(folder: Path, people: int) -> None:
    with ray_cluster(ClusterConfig(dashboard=False)):
        render_people(folder / "people", people, PHOTOS, seed=0, size=SIZE)
    for photo in (folder / "people" / DAMAGED).glob("*.png"):
        photo.write_bytes(photo.read_bytes()[:100])


def run(folder: Path, people: int) -> None:
    """Drive to the end, killing a worker and the driver on the way; what happens is noted."""
    worker_lives = driver_lives = True
    for _ in range(STARTS):
        note(folder, DRIVER, "started")
        driver = start_driver(folder)
        while driver.poll() is None:
            time.sleep(0.2)
            events = read_events(folder)
            begun = [event["pid"] for event in events if (event["name"], event["what"]) == (KILLED, "begin")]
            if worker_lives and begun and any((folder / "run" / KILLED / "training").glob("checkpoint_*")):
                os.kill(begun[-1], signal.SIGKILL)
                worker_lives = False
                note(folder, KILLED, "worker killed")
            if driver_lives and 2 * sum(event["what"] == "registered" for event in events) >= people:
                driver.kill()
                driver_lives = False
                note(folder, DRIVER, "driver killed")
        if driver.wait() == 0:
            note(folder, DRIVER, "ended")
            return
        if driver.returncode != -signal.SIGKILL:
            note(folder, DRIVER, "Ray failed")
    raise DrigError(f"the driver ended with {driver.returncode}; see {folder / 'driver.log'}")


def start_driver(folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / "driver.log").open("a") as log:
        command = [sys.executable, __file__, DRIVE, "--folder", str(folder)]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


@dataclass(frozen=True)
class Attempt:
    """One worker with one person."""

    name: str
    pid: int
    begin: float
    end: float
    outcome: str
    cpu: float
    """Seconds; 0 where the end was not seen."""


def attempts(events: Sequence[dict[str, Any]]) -> list[Attempt]:
    """All of them, in the order of their beginnings."""
    found = []
    for i, event in enumerate(events):
        if event["what"] != "begin":
            continue
        name, pid, begin = event["name"], event["pid"], event["time"]
        for other in events[i + 1 :]:
            if (other["name"], other["pid"]) == (name, pid):
                found.append(Attempt(name, pid, begin, other["time"], other["what"], other["cpu"] - event["cpu"]))
            elif other["what"] in ("driver killed", "Ray failed") or (other["name"], other["what"]) == (
                name,
                "worker killed",
            ):
                found.append(Attempt(name, pid, begin, other["time"], other["what"], 0.0))
            else:
                continue
            break
    return found


def undisturbed(found: Sequence[Attempt]) -> list[Attempt]:
    """Of people who were registered at their only attempt."""
    names = [attempt.name for attempt in found]
    return [attempt for attempt in found if attempt.outcome == "registered" and names.count(attempt.name) == 1]


def around_training(folder: Path, found: Sequence[Attempt]) -> tuple[list[float], list[float]]:
    """Wall and CPU seconds a person that a worker takes beyond the training itself: queue, MLflow, registry."""
    wall, cpu = [], []
    for attempt in undisturbed(found):
        following = [other.begin for other in found if other.pid == attempt.pid and other.begin > attempt.begin]
        if following:
            result = IdentityResult.from_json((folder / "run" / attempt.name / "result.json").read_bytes())
            wall.append(min(following) - attempt.begin - result.seconds)
            cpu.append(attempt.cpu - result.cpu_seconds)
    return wall, cpu


def loop(folder: Path) -> Iterator[IdentityResult]:
    """The same training without the fleet."""
    torch.set_num_threads(1)
    settings = config(folder)
    names = [path.name for path in sorted((folder / "people").iterdir()) if path.name not in (DAMAGED, MISTAKEN)]
    for name in names[:LOOPED]:
        yield train_identity(
            name,
            str(folder / "people" / name),
            SHIPPED_BASE,
            settings.training,
            holdout=settings.holdout,
            aligned=True,
            mirror=settings.mirror,
            force=True,
            folder=folder / "loop" / name,
        )


def registered(folder: Path) -> list[str]:
    """Names with one version, the live one."""
    identities = Identities(tracking_uri(folder))
    names = [info.name for info in identities.list() if info.name != "base"]
    for name in names:
        if identities.get(name).version != 1:
            raise DrigError(f"{name} was registered more than once")
        try:
            identities.get(name, 2)
        except UnknownIdentity:
            continue
        raise DrigError(f"{name} was registered more than once")
    return names


def summarise(folder: Path, people: int) -> dict[str, Any]:
    events = read_events(folder)
    found, names = attempts(events), registered(folder)
    whole = undisturbed(found)

    def when(what: str) -> list[float]:
        return [event["time"] for event in events if event["what"] == what]

    def until_next(time: float, name: str | None = None) -> float:
        return min(a.begin for a in found if a.begin > time and name in (None, a.name)) - time

    starts, (worker_killed,), (driver_killed,), (ended,) = map(
        when, ("started", "worker killed", "driver killed", "ended")
    )
    down = sum(min(start for start in starts if start > failed) - failed for failed in when("Ray failed"))
    total = ended - starts[0]
    useful = float(np.mean([attempt.end - attempt.begin for attempt in whole])) * len(names)
    wall, cpu = around_training(folder, found)
    looped = [result.cpu_seconds for result in loop(folder)]
    failures = json.loads((folder / "run" / "failures.json").read_text())
    beside = [a for a in found if a.begin < worker_killed < a.end and a.name != KILLED]
    return {
        "people": people,
        "samples": SAMPLES,
        "registered_once": len(names),
        "failed": {name: reason.splitlines()[0].replace(f"{folder}/", "") for name, reason in failures.items()},
        "total_s": total,
        "of_it_nothing_ran_s": down,
        "useful_s": useful,
        "rest_to_half_of_useful": (total - down) / (useful / WORKERS),
        "start_to_first_person_s": until_next(starts[0]),
        "driver_killed_to_next_person_s": until_next(driver_killed),
        "worker_killed_to_same_person_s": until_next(worker_killed, KILLED),
        "beside_the_killed_worker": {a.name: a.outcome for a in beside},
        "person_wall_s": useful / len(names),
        "person_cpu_s": float(np.mean([a.cpu for a in whole])),
        "person_cpu_s_in_a_plain_loop": float(np.mean(looped)),
        "beyond_training_cpu_s": float(np.mean(cpu)),
        "beyond_training_wall_s": float(np.median(wall)),
        "load_average": list(os.getloadavg()),
        "date": date.today().isoformat(),
        **versions(),
    }


def draw(folder: Path, path: Path) -> None:
    """A row for each worker slot: who was in work when, and how it ended."""
    events = read_events(folder)
    found, start, free = attempts(events), events[0]["time"], [0.0] * WORKERS
    figure = Figure(figsize=(11, 2.3), layout="constrained")
    axes = figure.subplots()
    for attempt in sorted(found, key=lambda attempt: attempt.begin):
        row = min(range(WORKERS), key=lambda i: (free[i] > attempt.begin + 0.5, i))
        free[row] = attempt.end
        left, width = attempt.begin - start, max(attempt.end - attempt.begin, 1.0)
        axes.barh(row, width, left=left, color=COLOURS[attempt.outcome], edgecolor="white", linewidth=0.6)
        if width > 5:
            axes.text(left + width / 2, row, attempt.name[-2:], ha="center", va="center", color="white", fontsize=7)
    for event in events:
        if event["what"] in ("driver killed", "Ray failed"):
            axes.axvline(event["time"] - start, color=COLOURS[event["what"]], linestyle="--")
    axes.set(
        xlabel="seconds",
        xlim=(0, events[-1]["time"] - start),
        yticks=range(WORKERS),
        yticklabels=[f"worker {i + 1}" for i in range(WORKERS)],
    )
    seen = {event["what"] for event in events}
    happened = {what: colour for what, colour in COLOURS.items() if what in seen}
    handles = [axes.barh(0, 0, color=colour, label=outcome) for outcome, colour in happened.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(happened), frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/fleet"), help="for photos and runs")
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--plot", type=Path, help="PNG to draw")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--sum_up", action="store_true", help="only the numbers and the plot of what the folder holds")
    parser.add_argument(DRIVE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.folder.resolve()
    if options.drive:
        drive(folder)
        return
    if not options.sum_up:
        for path in folder.glob("*"):
            if path.name != "people":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not (folder / "people" / DAMAGED).exists():
            render(folder, options.people)
        run(folder, options.people)
    numbers = summarise(folder, options.people)
    for name, value in numbers.items():
        print(f"{name:<32} {f'{value:.2f}' if isinstance(value, float) else value}")
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=1) + "\n")
    if options.plot:
        draw(folder, options.plot)


if __name__ == "__main__":
    main()
