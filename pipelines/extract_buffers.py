"""Photos -> buffer store, with Ray Data: find and align faces, fit the head, render the physical buffers (SPEC 5, 7).

    python pipelines/extract_buffers.py --photos ffhq/ --aligned --store runs/ffhq256
    ray job submit --working-dir . -- python pipelines/extract_buffers.py --photos s3://.. --store s3://..

The same command continues an interrupted run with the photos that are not in the store yet, and makes the same bytes of
them as a run that was never interrupted. Finding faces is CPU work, fitting and rendering run on GPUs where there are
any: two pools of actors, on any number of nodes. The records come back encoded, 50 KB at 128 px, and the driver alone
writes and commits: the nodes need no file system in common.
"""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray

from drig import config as configs
from drig import logs, storage
from drig.data.photos import save_png, to_photo
from drig.data.store import BufferStore, BufferStoreWriter
from drig.data.store.on_s3 import S3StoreWriter, copy_shards, read_manifest
from drig.errors import DrigError
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head
from drig.pictures import Picture, buffer_pictures, contact_sheet
from drig.randomness import numpy_generator
from drig.tracking import Run, Tracker, tracking_uri
from pipelines import progress
from pipelines.cluster import ClusterConfig, quieten_ray_data, ray_cluster, reserve, use_gpu
from pipelines.face_mappers import BufferRenderer
from pipelines.photo_sources import Group, find_sources, groups
from pipelines.run_folder import absolute
from pipelines.suspects import Begun, CarefulFinder

COLUMNS = ("key", "record", "faces", "reason", "outage")
GROUPS_A_BLOCK, BLOCKS_A_FINDER, MOST_BLOCKS = 8, 4, 10_000
"""Each block of groups that Ray Data moves costs the driver some 15 ms; but each process is to get a few of them."""
SHEET = "sheet.png"
SHEET_SHARDS = 2
"""Of a store on S3, to take the faces of its contact sheet from."""

Writer = BufferStoreWriter | S3StoreWriter


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """Turn photos into a store of portraits and physical buffers."""

    photos: str
    """Folder, searched with its sub-folders (FFHQ's layout too), or s3:// prefix, or .txt file with a path a line, or
    a video. Videos in a folder or list count too."""
    store: str
    """Folder of the buffer store on the driver's machine, or s3:// prefix, made or continued. Shards go to S3 as they
    fill up, and another machine can continue them."""
    every: float = 1.0
    """Seconds between the frames that are taken of a video."""
    size: int = 256
    """Side of portraits and buffers in pixels."""
    aligned: bool = False
    """The photos are FFHQ crops already: faces are found in them, but nothing is warped."""
    detect: bool = True
    """false takes aligned photos at their word: no face is looked for, which is faster and a little less exact."""
    head: str = "open"
    """Head model."""
    head_folder: Path | None = None
    """Folder of the FLAME (and DECA) files, on every node. None = the one that DRIG_FACE_FILES names there. The open
    head needs none."""
    estimator: str = "fit"
    """What estimates the face codes."""
    limit: int | None = None
    """Take only this many photos, the first in order. None = all."""
    finders: int | None = None
    """Processes that find faces, one CPU each. None = the CPUs that there are now, less the renderers and one."""
    renderers: int | None = None
    """Processes that fit and render, one GPU each, or one CPU. None = the GPUs that there are now, or a CPU in four."""
    batch: int = 8
    """Faces fitted and rendered at once."""
    backlog: float | None = None
    """GiB of portraits that may wait for a renderer, on all nodes together; then finders wait. None = half of what Ray
    has for objects, which is a third of the memory."""
    shard: int = 256
    """Faces a shard of the store: after the driver was killed, at most so many are done again."""
    sheet: int = 8
    """Random faces of the store to show on its contact sheet, sheet.png. 0 = no sheet."""
    seed: int = 0
    """Of that choice."""
    upload: str | None = None
    """s3:// prefix to copy the finished store to, where it is a local one. None = nowhere."""
    retry_rejects: bool = False
    """Try again the photos that earlier runs could not use."""
    patience: float = 300.0
    """Seconds to wait for an S3 that does not answer, or a disk with the photos. Then the run ends with that error."""
    runs: Path = Path("runs")
    """Folder of the MLflow database that records the run; MLFLOW_TRACKING_URI overrides it."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Where it runs."""

    def __post_init__(self) -> None:
        least = {"size": 32, "limit": 1, "finders": 1, "renderers": 1, "batch": 1, "shard": 1, "sheet": 0}
        for name, value in least.items():
            given = getattr(self, name)
            if given is not None and given < value:
                raise DrigError(f"{name} is {given}; give {value} or more")
        if self.backlog is not None and self.backlog <= 0:
            raise DrigError(f"backlog is {self.backlog}; give more than 0 GiB")
        if self.every < 0.001 or self.patience < 0:
            raise DrigError(f"every is {self.every}, patience {self.patience}; give 0.001 or more, and 0 or more")
        if self.upload is not None and storage.is_s3(self.store):
            raise DrigError(f"the store {self.store} is on S3 already; leave upload out")
        if not self.detect and not self.aligned:
            raise DrigError("detect is false, which only FFHQ crops allow: give --aligned too, or let faces be found")


@dataclass(frozen=True)
class ExtractResult:
    """What a run added to the store, and what is in it now."""

    store: str
    found: int
    """Photos that the source holds."""
    known: int
    """Photos of these that earlier runs had stored or rejected."""
    records: int
    """Faces in the store now."""
    rejects: dict[str, str]
    """Key of every photo that could not be used -> why, earlier runs' included."""
    several_faces: list[str]
    """Keys of this run's photos with several faces, of which the largest was taken."""
    seconds: float
    """That this run's photos took, Ray's start not counted."""
    sheet: str | None


def extract(config: ExtractConfig) -> ExtractResult:
    """Bring every photo of the source into the store, or on its list of rejects.

    Raises DrigError for a source without photos, a store of another kind, photos or a store that could not be reached
    for too long, and when not one photo could be used.
    """
    place = absolute(config.store)
    load_estimator(config.estimator, load_head(config.head, config.head_folder))  # or an error before anything starts
    sources = find_sources(config.photos, config.every)
    keys = sorted(sources)[: config.limit]
    several: list[str] = []
    started = time.monotonic()
    with _writer(config, place) as writer:
        done = writer.done - (writer.rejects.keys() if config.retry_rejects else set())
        todo = {key for key in keys if key not in done}
        print(f"{len(keys):,} photos in {config.photos}, {len(keys) - len(todo):,} of them done before", flush=True)
        logs.event("photos_found", photos=len(keys), done_before=len(keys) - len(todo))
        if todo:
            tracker = Tracker(tracking_uri(config.runs), "extract")
            with tracker.run(Path(place).name, key=place) as run, ray_cluster(config.cluster):
                run.log_config(configs.to_dict(config))
                started = time.monotonic()
                several = _fill(config, writer, run, groups(keys, sources, todo, config.batch), todo)
    seconds = time.monotonic() - started
    records, rejects = count_faces(place)
    logs.event("photos_stored", faces=records, rejected=len(rejects), several_faces=len(several))
    if not records:
        raise DrigError(_nothing_usable(config, rejects))
    sheet = _write_sheet(place, config) if config.sheet else None
    if config.upload is not None:
        storage.upload_folder(Path(place), config.upload)
    return ExtractResult(place, len(keys), len(keys) - len(todo), records, rejects, several, seconds, sheet)


def plan_pools(config: ExtractConfig, *, cpus: int, gpus: int) -> tuple[int, int]:
    """How many processes find faces, and how many fit and render.

    One CPU is always left: Ray Data waits forever, and in silence, where its actors hold them all.
    """
    renderers = config.renderers or gpus or max(1, cpus // 4)
    return config.finders or max(1, cpus - renderers - 1), renderers


def count_blocks(work: int, finders: int) -> int:
    """Blocks to divide so many groups into."""
    return min(work, MOST_BLOCKS, max(work // GROUPS_A_BLOCK, BLOCKS_A_FINDER * finders))


def _writer(config: ExtractConfig, place: str) -> Writer:
    kind: dict[str, Any] = {"size": config.size, "head": config.head, "estimator": config.estimator}
    if storage.is_s3(place):
        return S3StoreWriter(place, **kind, shard=config.shard, patience_s=config.patience)
    return BufferStoreWriter(place, **kind, shard=config.shard)


def _fill(config: ExtractConfig, writer: Writer, run: Run, work: Sequence[Group], todo: set[str]) -> list[str]:
    """Store or reject every photo of `todo`, each once; the keys of those with several faces."""
    several: list[str] = []
    left, rejected = set(todo), 0
    with progress.bar(total=len(todo), unit="photo", title="extract") as bar:
        counts = progress.TrackedCounts(bar, run, before=len(writer.done))
        for group in _records(config, work):
            for key, record, faces, reason, outage in zip(*(group[name] for name in COLUMNS), strict=True):
                if outage:
                    raise DrigError(f"{reason} The same command goes on with what is not done yet.")
                if key not in left:
                    continue  # it was done before, and is here for its company's sake
                left.remove(key)
                if reason:
                    writer.reject(key, reason)
                    rejected += 1
                else:
                    writer.put_encoded(key, record)
                    several += [key] if faces > 1 else []
            counts.put(len(todo) - len(left), rejected=rejected)
    if left:
        raise DrigError(f"{len(left)} photos were lost on the way, such as {min(left)}; the same command does them.")
    return several


def _records(config: ExtractConfig, work: Sequence[Group]) -> Iterator[dict[str, Any]]:
    """What `BufferRenderer` gives for each group, as they are done."""
    from ray.data import ActorPoolStrategy, ExecutionResources, from_items

    quieten_ray_data()
    gpu = use_gpu(config.cluster)
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    finders, renderers = plan_pools(config, cpus=int(resources["CPU"]), gpus=int(resources.get("GPU", 0)) if gpu else 0)
    folder = None if config.head_folder is None else Path(absolute(config.head_folder))
    begun = ray.remote(num_cpus=0)(Begun).remote()
    # A row is a group, which Ray Data neither splits nor joins. Rows are small until the finders have read the photos.
    data: Any = (
        from_items(list(work), override_num_blocks=count_blocks(len(work), finders))
        .map(
            _on_rows(CarefulFinder, begun, config.size, config.aligned, config.detect, config.patience),
            compute=ActorPoolStrategy(size=finders),
            num_cpus=1,
        )
        .map(
            _on_rows(BufferRenderer, config.head, folder, config.estimator),
            compute=ActorPoolStrategy(size=renderers),
            num_cpus=1,
            num_gpus=1 if gpu else 0,
        )
    )
    if config.backlog is not None:
        limit = ExecutionResources.for_limits(object_store_memory=config.backlog * 2**30)
        data.context.execution_options.resource_limits = limit
    with reserve(config.cluster, cpus=finders + renderers + 1, gpus=renderers if gpu else 0):
        yield from data.iter_rows()


def _on_rows(mapper: Any, *arguments: object) -> Any:
    """A mapper of arrays as one of rows, whose lists Arrow knows; it is made without arguments."""

    class Mapper(mapper):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(*arguments)

        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            batch = {name: np.array(value, object) if isinstance(value, list) else value for name, value in row.items()}
            made = super().__call__(batch)
            return {name: value.tolist() if value.dtype == object else value for name, value in made.items()}

    Mapper.__name__ = mapper.__name__  # what Ray calls the operator and its processes
    return Mapper


def _nothing_usable(config: ExtractConfig, rejects: dict[str, str]) -> str:
    reasons = "; ".join(f"{count} x {reason.rstrip('.')}" for reason, count in Counter(rejects.values()).most_common(3))
    return f"not one of the {len(rejects)} photos in {config.photos} can be used: {reasons}. Give photos of faces."


def count_faces(place: str) -> tuple[int, dict[str, str]]:
    """The faces of a store, local or on S3, and its rejects."""
    if storage.is_s3(place):
        manifest = read_manifest(place)
        return sum(shard.count for shard in manifest.shards), manifest.rejects
    store = BufferStore(place)
    return len(store), store.rejects


def _write_sheet(place: str, config: ExtractConfig) -> str:
    """Random faces of the store: the portrait, and what the network will be told of it."""
    with tempfile.TemporaryDirectory() as scratch:
        store = _random_shards(place, Path(scratch), config.seed) if storage.is_s3(place) else BufferStore(place)
        count = min(config.sheet, len(store))
        chosen = sorted(numpy_generator(config.seed, "sheet").choice(len(store), count, replace=False).tolist())
        rows: list[list[Picture]] = []
        for index in chosen:
            image, buffers = store.read_for_network(index)
            rows.append([to_photo(image), *buffer_pictures(buffers)])
    sheet = storage.join(place, SHEET)
    save_png(sheet, contact_sheet(rows, columns=["portrait", "rendered", "normal", "albedo"]))
    return sheet


def _random_shards(place: str, folder: Path, seed: int) -> BufferStore:
    shards = [shard for shard in read_manifest(place).shards if shard.count]
    chosen = numpy_generator(seed, "shards").choice(len(shards), min(SHEET_SHARDS, len(shards)), replace=False)
    return copy_shards(place, folder, [shards[i] for i in sorted(chosen.tolist())])


def report(result: ExtractResult) -> None:
    """Print what came of the photos."""
    new = result.found - result.known
    print(
        f"{result.records:,} faces in {result.store}, {len(result.rejects):,} photos rejected; {new:,} new photos",
        end="",
    )
    print(f" in {result.seconds:.0f} s, {new / result.seconds:.1f} photos/s" if new else "")
    for reason, count in Counter(result.rejects.values()).most_common():
        examples = [key for key, why in result.rejects.items() if why == reason][:3]
        print(f"  rejected {count:,}: {reason} ({', '.join(examples)}{', ..' if count > 3 else ''})")
    if result.several_faces:
        print(f"  {len(result.several_faces):,} photos show several faces, the largest was taken: ", end="")
        print(f"{', '.join(result.several_faces[:3])}{', ..' if len(result.several_faces) > 3 else ''}")
    if result.sheet is not None:
        print(f"look at {result.sheet}")


def main(argv: Sequence[str] | None = None, *, prog: str = "extract_buffers") -> int:
    """The command line; returns the exit code."""
    return configs.run(
        ExtractConfig,
        lambda config: report(extract(config)),
        argv,
        prog=prog,
        description="Turn photos into a store of portraits and physical buffers.",
    )


if __name__ == "__main__":
    sys.exit(main())
