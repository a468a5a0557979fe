"""Photos -> buffer store, with Ray Data: find and align faces, fit the head, render the physical buffers (SPEC 5, 7).

    python pipelines/extract_buffers.py --photos ffhq/ --aligned --store runs/ffhq256
    ray job submit --working-dir . -- python pipelines/extract_buffers.py --photos s3://.. --store .. --upload s3://..

The same command continues an interrupted run with the photos that are not in the store yet. Finding faces is CPU work,
fitting and rendering run on GPUs where there are any: two pools of actors, on any number of nodes. The records come
back encoded, 50 KB at 128 px, and the driver alone writes and commits: the nodes need no file system in common.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import ray

from drig import config as configs
from drig import logs, storage
from drig.data.photos import list_photos, save_png, to_photo
from drig.data.store import BufferStore, BufferStoreWriter, resume
from drig.errors import DrigError
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head
from drig.pictures import Picture, buffer_pictures, contact_sheet
from drig.randomness import numpy_generator
from pipelines import progress
from pipelines.cluster import ClusterConfig, quieten_ray_data, ray_cluster, use_gpu
from pipelines.face_mappers import Batch, BufferRenderer, PortraitFinder
from pipelines.run_folder import absolute

COLUMNS = ("key", "record", "faces", "reason")
MOST_BLOCKS = 10_000
"""Pieces of the list of photos; each costs the driver a few milliseconds."""


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """Turn photos into a store of portraits and physical buffers."""

    photos: str
    """Folder, searched with its sub-folders (FFHQ's layout too), or s3:// prefix, or .txt file with a path a line."""
    store: str
    """Folder of the buffer store, made or continued. It lies on the driver's machine."""
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
    shard: int = 256
    """Faces a shard of the store: after the driver was killed, at most so many are done again."""
    sheet: int = 8
    """Random faces of the store to show on its contact sheet, sheet.png. 0 = no sheet."""
    seed: int = 0
    """Of that choice."""
    upload: str | None = None
    """s3:// prefix to copy the finished store to. None = nowhere."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Where it runs."""

    def __post_init__(self) -> None:
        least = {"size": 32, "limit": 1, "finders": 1, "renderers": 1, "batch": 1, "shard": 1, "sheet": 0}
        for name, value in least.items():
            given = getattr(self, name)
            if given is not None and given < value:
                raise DrigError(f"{name} is {given}; give {value} or more")
        if not self.detect and not self.aligned:
            raise DrigError("detect is false, which only FFHQ crops allow: give --aligned too, or let faces be found")


@dataclass(frozen=True)
class ExtractResult:
    """What a run added to the store, and what is in it now."""

    store: Path
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
    sheet: Path | None


def extract(config: ExtractConfig) -> ExtractResult:
    """Bring every photo of the source into the store, or on its list of rejects.

    Raises DrigError for a source without photos, a store of another kind, and when not one photo could be used.
    """
    folder = Path(absolute(config.store))
    load_estimator(config.estimator, load_head(config.head, config.head_folder))  # or an error before anything starts
    sources = find_sources(config.photos)
    keys = sorted(sources)[: config.limit]
    done = resume(folder, size=config.size, head=config.head, estimator=config.estimator)
    todo = [key for key in keys if key not in done]
    print(f"{len(keys):,} photos in {config.photos}, {len(keys) - len(todo):,} of them done before", flush=True)
    logs.event("photos_found", photos=len(keys), done_before=len(keys) - len(todo))
    several: list[str] = []
    started = time.monotonic()
    if todo:
        with ray_cluster(config.cluster):
            started = time.monotonic()
            several = _fill(config, folder, {key: sources[key] for key in todo})
    seconds = time.monotonic() - started
    store = BufferStore(folder)
    logs.event("photos_stored", faces=len(store), rejected=len(store.rejects), several_faces=len(several))
    if not len(store):
        raise DrigError(_nothing_usable(config, store.rejects))
    sheet = _write_sheet(store, config) if config.sheet else None
    if config.upload is not None:
        storage.upload_folder(folder, config.upload)
    return ExtractResult(folder, len(keys), len(keys) - len(todo), len(store), store.rejects, several, seconds, sheet)


def find_sources(photos: str) -> dict[str, str]:
    """Photos by key: the path below the folder, or the line of the list. Raises DrigError where there is none."""
    if photos.endswith(".txt"):
        lines = [line.strip() for line in storage.read_bytes(photos).decode().splitlines()]
        listed = {line: line if storage.is_s3(line) else absolute(Path(photos).parent / line) for line in lines if line}
        if not listed:
            raise DrigError(f"{photos} lists no photo; write one path or s3:// URI a line.")
        return listed
    root = absolute(photos)
    return {str(PurePosixPath(path[len(root.rstrip("/")) + 1 :])): path for path in list_photos(root, recursive=True)}


def plan_pools(config: ExtractConfig, *, cpus: int, gpus: int) -> tuple[int, int]:
    """How many processes find faces, and how many fit and render.

    One CPU is always left: Ray Data waits forever, and in silence, where its actors hold them all.
    """
    renderers = config.renderers or gpus or max(1, cpus // 4)
    return config.finders or max(1, cpus - renderers - 1), renderers


def _fill(config: ExtractConfig, folder: Path, sources: Mapping[str, str]) -> list[str]:
    """Store or reject every photo of `sources`; the keys of those with several faces."""
    several: list[str] = []
    rejected = 0
    with (
        BufferStoreWriter(
            folder, size=config.size, head=config.head, estimator=config.estimator, shard=config.shard
        ) as writer,
        progress.bar(total=len(sources), unit="photo", title="extract") as bar,
    ):
        for batch in _records(config, sources):
            for key, record, faces, reason in zip(*(batch[name] for name in COLUMNS), strict=True):
                if reason:
                    writer.reject(key, reason)
                    rejected += 1
                else:
                    writer.put_encoded(key, record)
                    several += [key] if faces > 1 else []
            bar.set_postfix(rejected=rejected, refresh=False)
            bar.update(len(batch["key"]))
    return several


def _records(config: ExtractConfig, sources: Mapping[str, str]) -> Iterator[Batch]:
    """What `BufferRenderer` gives for all photos, batch by batch as they are done."""
    from ray.data import ActorPoolStrategy, from_items

    quieten_ray_data()
    gpu = use_gpu(config.cluster)
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    finders, renderers = plan_pools(config, cpus=int(resources["CPU"]), gpus=int(resources.get("GPU", 0)) if gpu else 0)
    folder = None if config.head_folder is None else Path(absolute(config.head_folder))
    items = [{"key": key, "source": source} for key, source in sources.items()]
    batches: Any = (
        from_items(items, override_num_blocks=min(MOST_BLOCKS, -(-len(items) // config.batch)))
        .map_batches(
            _with_arguments(PortraitFinder, config.size, config.aligned, config.detect),
            compute=ActorPoolStrategy(size=finders),
            batch_size=None,
            num_cpus=1,
        )
        .map_batches(
            _with_arguments(BufferRenderer, config.head, folder, config.estimator),
            compute=ActorPoolStrategy(size=renderers),
            batch_size=config.batch,
            num_cpus=1,
            num_gpus=1 if gpu else 0,
        )
        .iter_batches(batch_size=None, batch_format="numpy")
    )
    yield from batches


def _with_arguments(mapper: Any, *arguments: object) -> Any:
    """A mapper that is made without arguments: for those that Ray Data keeps itself, Ray prints an alarm."""

    class Mapper(mapper):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(*arguments)

    Mapper.__name__ = mapper.__name__  # what Ray calls the operator and its processes
    return Mapper


def _nothing_usable(config: ExtractConfig, rejects: dict[str, str]) -> str:
    reasons = "; ".join(f"{count} x {reason}" for reason, count in Counter(rejects.values()).most_common(3))
    return f"not one of the {len(rejects)} photos in {config.photos} can be used: {reasons}. Give photos of faces."


def _write_sheet(store: BufferStore, config: ExtractConfig) -> Path:
    """Random faces of the store: the portrait, and what the network will be told of it."""
    count = min(config.sheet, len(store))
    chosen = sorted(numpy_generator(config.seed, "sheet").choice(len(store), count, replace=False).tolist())
    rows: list[list[Picture]] = []
    for index in chosen:
        image, buffers = store.read_for_network(index)
        rows.append([to_photo(image), *buffer_pictures(buffers)])
    path = store.folder / "sheet.png"
    save_png(path, contact_sheet(rows, columns=["portrait", "rendered", "normal", "albedo"]))
    return path


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
