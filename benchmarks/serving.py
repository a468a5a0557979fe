"""What the service costs: previews, identities that are new to a replica, edits in one batch, and many clients at once.

    python benchmarks/serving.py previews --json benchmarks/results/serving_previews.json
    python benchmarks/serving.py cold --identities 1000
    python benchmarks/serving.py batch --device cuda --rig rig256
    python benchmarks/serving.py load --clients 1 4 16 64
    python benchmarks/serving.py load --clients 16 --requests 10000 --steps 2 --kills 20

The people are random deltas over the base that drig ships, the photos synthetic; everything runs on this machine and
listens on loopback alone. In `load` every answer is compared with what a bare Editor makes of the same request, and
with what it makes of all others: an answer is wrong where another one's picture is nearer.
"""

import argparse
import copy
import json
import os
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import ray
import torch
from tqdm import tqdm

from deployments.replicas.transport import encode_png
from deployments.serve import serving
from deployments.settings import ServeConfig
from drig.data.photos import read_photo
from drig.data.synthetic import render_portrait, sample_person, sample_shot
from drig.diffusion.deltas import Delta
from drig.diffusion.network import RIG_PRESETS, Rig
from drig.editing import Editor, edit_together
from drig.faces.buffers import centre_shift, interpolate, render_buffers, sample_texture, vertex_normals
from drig.faces.camera import project
from drig.faces.controls import Controls, apply_controls
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head
from drig.faces.likeness import Likeness
from drig.faces.open_head import OpenHead
from drig.faces.rasterizer import rasterize
from drig.identities import Identities
from drig.previews import LAYERS, preview
from drig.reading import Face, FaceReader
from drig.shipped_base import SHIPPED_BASE
from drig.versions import versions
from pipelines.cluster import ClusterConfig, ray_cluster

RANK = 8
"""Of the deltas, as personalisation trains them."""
SPREAD = 0.02
"""Of their random numbers: enough to tell people apart."""
SIZE = 256
TURN = {"yaw": 20.0, "light_direction": (1.0, 0.3, 1.0)}
NEAR = 2.0
"""Grey levels on average that an answer may be off, by other rounding in another process or batch."""
TIMEOUT = 300.0
REPEATS = 40


def photo() -> bytes:
    """A PNG of a synthetic person."""
    head = OpenHead.load()
    person = sample_person(head, 7, 0)
    return encode_png(render_portrait(head, person, sample_shot(person, 0), SIZE).image)


def base_editor(rig: str | None = None, device: str = "cpu") -> Editor:
    """The shipped base, or an untrained rig of a preset."""
    if rig is None:
        return Editor.load(SHIPPED_BASE, device=device)
    head = load_head("open")
    return Editor(Rig.from_seed(RIG_PRESETS[rig], 0), head, load_estimator("fit", head), device=device)


def person(base: Editor, seed: int) -> Editor:
    """An editor of somebody, made up, over the base."""
    delta = Delta.start(base.rig.cpu(), RANK, torch.Generator().manual_seed(seed)).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in delta.parameters():
        parameter.data += SPREAD * torch.randn(parameter.shape, generator=generator)
    made = copy.copy(base)
    made.delta = delta.to(base.device)
    made.likeness = Likeness(
        mean_shape=torch.randn(1, base.head.shape_size, generator=generator),
        skin_detail=torch.rand(1, 3, 256, 256, generator=generator).half().float(),
    )
    return made


@dataclass(frozen=True)
class Service:
    """A running application and the people that it knows."""

    url: str
    names: list[str]
    editors: list[Editor]
    photo: bytes

    def keep(self) -> str:
        """The token of the photo."""
        response = httpx.post(f"{self.url}/v1/sources", files={"photo": ("me.png", self.photo)}, timeout=TIMEOUT)
        response.raise_for_status()
        return str(response.json()["token"])

    def memory(self, deployment: str) -> float:
        """MB that the replicas of a deployment hold."""
        return sum(
            int((Path("/proc") / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
            for pid in descendants(os.getpid())
            if deployment.encode() in (Path("/proc") / str(pid) / "cmdline").read_bytes()
        )


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(stat.parent.name))
    found = parents.get(pid, [])
    for child in list(found):
        found = found + descendants(child)
    return found


@contextmanager
def service(people: int, **settings: Any) -> Iterator[Service]:
    """Serve with so many people."""
    base = base_editor()
    with tempfile.TemporaryDirectory() as folder:
        identities = Identities(f"sqlite:///{folder}/mlflow.db", cache=Path(folder) / "cache")
        identities.ensure_base()
        names, editors = [], []
        for i in tqdm(range(people), "people", leave=False):
            editors.append(person(base, i))
            editors[-1].save(Path(folder) / "delta.safetensors")
            names.append(f"person_{i:04}")
            identities.register(names[-1], Path(folder) / "delta.safetensors", album_report={"photos": 10})
        config = ServeConfig(tracking_uri=identities.tracking_uri, work=f"{folder}/jobs", **settings)
        with ray_cluster(ClusterConfig(cpus=4, dashboard=False)), serving(config, port=0) as url:
            yield Service(url, names, editors, photo())


def measured(action: Callable[[], Any], times: int = REPEATS) -> list[float]:
    """Seconds of each call, after one that counts for nothing."""
    action()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        found.append(time.perf_counter() - start)
    return found


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """In milliseconds."""
    return {f"p{p}": round(1000 * float(np.percentile(seconds, p)), 1) for p in (50, 95, 99)} if seconds else {}


def table(rows: Sequence[dict[str, Any]]) -> None:
    """Columns by the keys of all rows."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)), flush=True)


def previews(options: argparse.Namespace) -> dict[str, Any]:
    """Where a preview's milliseconds go, in this process on one thread; and the same over HTTP."""
    torch.set_num_threads(1)
    head = load_head("open")
    face = FaceReader(head, load_estimator("fit", head)).read(read_photo(photo()), SIZE)
    steps = profile(head, face)
    table([{"step": name, **found} for name, found in steps.items()])
    over_http = []
    with service(1) as served, httpx.Client(base_url=served.url, timeout=TIMEOUT) as client:
        token = served.keep()
        for layer in LAYERS:
            inside: list[float] = []

            def ask(layer: str = layer, inside: list[float] = inside) -> None:
                body = {"source_token": token, "identity": served.names[0], "controls": TURN, "layer": layer}
                response = client.post("/v1/previews", json=body)
                response.raise_for_status()
                inside.append(float(response.headers["X-Drig-Milliseconds"]) / 1000)

            seconds = measured(ask, options.requests)
            over_http.append({"layer": layer, **percentiles(seconds), "inside p50": percentiles(inside[1:])["p50"]})
    table(over_http)
    return {"steps_ms": steps, "http_ms": over_http}


def profile(head: Any, face: Face) -> dict[str, dict[str, float]]:
    """Milliseconds of the parts of a preview, and of the whole."""
    with torch.inference_mode():
        codes = apply_controls(face.codes, Controls(**TURN), head.expression_names)
        vertices = head.vertices(codes)
        points = project(vertices, codes)
        fragments, normals, albedo = (
            rasterize(points, head.faces, SIZE),
            vertex_normals(vertices, head.faces),
            head.albedo(codes),
        )
        picture = preview(head, face, codes, "rendered", SIZE)
        parts: dict[str, Callable[[], Any]] = {
            "controls": lambda: apply_controls(face.codes, Controls(**TURN), head.expression_names),
            "vertices": lambda: head.vertices(codes),
            "centre": lambda: centre_shift(head, face.codes, codes),
            "normals": lambda: vertex_normals(vertices, head.faces),
            "rasterise": lambda: rasterize(points, head.faces, SIZE),
            "interpolate": lambda: interpolate(fragments, head.faces, normals),
            "texture": lambda: sample_texture(fragments, head.uvs, head.uv_faces, albedo),
            "buffers, all": lambda: render_buffers(head, codes, SIZE),
            "PNG": lambda: encode_png(picture),
            "preview, all": lambda: encode_png(preview(head, face, codes, "rendered", SIZE)),
            "mesh, all": lambda: encode_png(preview(head, face, codes, "mesh", SIZE)),
        }
        return {name: percentiles(measured(part)) for name, part in parts.items()}


def cold(options: argparse.Namespace) -> dict[str, Any]:
    """The first edit of people that a replica has not seen, and what many of them take in memory."""
    with service(options.identities, deltas_per_replica=options.deltas) as served:
        token = served.keep()
        with httpx.Client(base_url=served.url, timeout=TIMEOUT) as client:

            def edit(name: str) -> dict[str, float]:
                body = {"source_token": token, "identity": name, "steps": options.steps, "answer": "json"}
                start = time.perf_counter()
                response = client.post("/v1/edits", json=body)
                response.raise_for_status()
                return {**response.json()["timings"], "client": time.perf_counter() - start}

            edit("base")
            before = served.memory("EditReplica")
            first = [edit(name) for name in tqdm(served.names, "cold", leave=False)]
            after = served.memory("EditReplica")
            known = served.names[-min(len(served.names), options.deltas) :][-REPEATS:]
            again = [edit(name) for name in known]
    rows = [
        {"edit": what, "of": part, "n": len(found), **percentiles([timings[part] for timings in found])}
        for what, found in (("first", first), ("again", again))
        for part in ("load", "total", "client")
    ]
    table(rows)
    kept = min(len(served.names), options.deltas)
    print(f"{kept} deltas at hand: the edit replica holds {after:.0f} MB, and with the base alone {before:.0f} MB")
    return {"rows_ms": rows, "identities": options.identities, "replica_mb": [before, after], "deltas_at_hand": kept}


def batch(options: argparse.Namespace) -> dict[str, Any]:
    """Edits a second alone and together, of one person and of many."""
    torch.set_num_threads(options.threads)
    base = base_editor(options.rig, options.device)
    face = FaceReader(base.head, base.estimator).read(read_photo(photo()), max(SIZE, base.size))
    people = [person(base, i) for i in range(max(options.sizes))]
    base.rig.to(options.device)
    plans = [one.plan(face, controls=Controls(**TURN), seed=i) for i, one in enumerate(people)]
    of_one = [people[0].plan(face, controls=Controls(**TURN), seed=i) for i in range(len(people))]
    rows = []
    for size in options.sizes:
        ways: dict[str, Callable[[], Any]] = {
            "alone": lambda size=size: [edit_together([plan], steps=options.steps) for plan in plans[:size]],
            "together, one person": lambda size=size: edit_together(of_one[:size], steps=options.steps),
            "together, all different": lambda size=size: edit_together(plans[:size], steps=options.steps),
        }
        seconds = {name: statistics.median(measured(way, options.requests)) / size for name, way in ways.items()}
        rows.append({"edits": size, **{f"{name}, s an edit": round(value, 4) for name, value in seconds.items()}})
        table(rows[-1:])
    return {"device": options.device, "rig": options.rig or "shipped", "steps": options.steps, "rows": rows}


@dataclass
class Tally:
    """What many clients met."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: int = 0


@dataclass(frozen=True)
class Request:
    """One of the edits that clients ask for, and the picture that a bare Editor makes."""

    body: dict[str, Any]
    expected: np.ndarray


def requests(served: Service, steps: int) -> tuple[list[Request], float]:
    """Two edits of everybody, and the median seconds that a bare Editor takes for one."""
    torch.set_num_threads(1)
    first, token = served.editors[0], served.keep()
    face = FaceReader(first.head, first.estimator).read(read_photo(served.photo), SIZE)
    found, seconds = [], []
    for name, editor in zip(served.names, served.editors, strict=True):
        for seed in range(2):
            start = time.perf_counter()
            edit = editor.edit(face, controls=Controls(**TURN), steps=steps, seed=seed)
            seconds.append(time.perf_counter() - start)
            body = {"source_token": token, "identity": name, "seed": seed, "steps": steps, "controls": TURN}
            found.append(Request(body, edit.image))
    return found, statistics.median(seconds)


def client(
    served: Service, asked: Sequence[Request], numbers: Iterator[int], tally: Tally, lock: threading.Lock
) -> None:
    """One request after the other, until the numbers end; who is turned away waits as told, and asks again."""
    expected = np.stack([request.expected for request in asked]).astype(float)
    with httpx.Client(base_url=served.url, timeout=TIMEOUT) as session:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            request = asked[number % len(asked)]
            while True:
                start = time.perf_counter()
                try:
                    response = session.post("/v1/edits", json=request.body)
                    status = str(response.status_code)
                except httpx.HTTPError as error:
                    status = type(error).__name__
                seconds = time.perf_counter() - start
                with lock:
                    tally.statuses[status] += 1
                if status != "503":
                    break
                time.sleep(float(response.headers["Retry-After"]))
            if status == "200":
                off = np.abs(expected - read_photo(response.content)).mean((1, 2, 3))
                right = int(off.argmin()) == number % len(asked) and off.min() < NEAR
                with lock:
                    tally.seconds.append(seconds)
                    tally.wrong += not right


def run_load(served: Service, asked: Sequence[Request], clients: int, count: int, kills: int) -> dict[str, Any]:
    """So many requests from so many clients; so many times on the way, evenly, a replica dies."""
    tally, lock, numbers = Tally(), threading.Lock(), iter(range(count))
    threads = [
        threading.Thread(target=client, args=(served, asked, numbers, tally, lock), daemon=True) for _ in range(clients)
    ]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    moments = [count * (i + 1) / (kills + 1) for i in range(kills)]
    with tqdm(total=count, desc=f"{clients} clients", unit="edit", leave=False) as bar:
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.05)
            bar.update(len(tally.seconds) - bar.n)
            if moments and len(tally.seconds) >= moments[0] and kill_a_replica():
                moments.pop(0)
    total = time.perf_counter() - start
    statuses = {"200": tally.statuses.pop("200", 0), "503": tally.statuses.pop("503", 0)}
    return {
        "clients": clients,
        "edits/s": round(len(tally.seconds) / total, 2),
        **{f"{name} ms": value for name, value in percentiles(tally.seconds).items()},
        **statuses,
        "other": json.dumps(dict(tally.statuses)) if tally.statuses else 0,
        "lost": count - statuses["200"] - sum(tally.statuses.values()),
        "wrong": tally.wrong,
    }


def kill_a_replica() -> bool:
    """As a machine would that goes away; whether there was one, and not only one that still starts."""
    names = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
    for name in names:
        if name.startswith("SERVE_REPLICA") and "#EditReplica#" in name:
            ray.kill(ray.get_actor(name, namespace="serve"))
            return True
    return False


def load(options: argparse.Namespace) -> dict[str, Any]:
    """Throughput and latency, and whether everybody got their own picture."""
    rows = []
    with service(options.identities) as served:
        asked, bare = requests(served, options.steps)
        print(f"a bare Editor.edit on one thread: {1000 * bare:.0f} ms")
        client(served, asked, iter(range(len(asked))), Tally(), threading.Lock())  # everybody is loaded
        for kills in options.kills:
            for clients in options.clients:
                row = run_load(served, asked, clients, options.requests, kills)
                row["over bare, ms"] = round(row["p50 ms"] - 1000 * bare, 1) if clients == 1 and not kills else ""
                rows.append({"kills": kills, **row})
                table(rows[-1:])
    print()
    table(rows)
    return {"identities": options.identities, "steps": options.steps, "bare_ms": 1000 * bare, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    commands = parser.add_subparsers(dest="command", required=True)
    for program, count in ((previews, 100), (cold, 0), (batch, 3), (load, 100)):
        command = commands.add_parser(program.__name__, help=program.__doc__)
        command.set_defaults(program=program)
        command.add_argument("--json", type=Path, help="file for the numbers")
        if count:
            command.add_argument("--requests", type=int, default=count, help="calls of each kind; load: of each run")
        if program is not previews:
            command.add_argument("--steps", type=int, default=20, help="of the sampler")
        if program in (cold, load):
            command.add_argument("--identities", type=int, default=20 if program is cold else 8, help="people")
        if program is cold:
            command.add_argument("--deltas", type=int, default=64, help="that a replica has at hand")
        if program is load:
            command.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
            command.add_argument(
                "--kills", type=int, nargs="+", default=[0, 1], help="replicas killed on the way, by run"
            )
        if program is batch:
            command.add_argument("--device", default="cpu")
            command.add_argument("--threads", type=int, default=1, help="of the CPU")
            command.add_argument("--rig", choices=sorted(RIG_PRESETS), help="an untrained one instead of the shipped")
            command.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8])
    options = parser.parse_args()
    loaded = os.getloadavg()
    result = options.program(options)
    if options.json:
        facts = {"date": date.today().isoformat(), "cpus": os.cpu_count(), "load_average_before": loaded, **versions()}
        options.json.write_text(json.dumps({**result, **facts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
