"""Stage 1: train the base rig on a store of physical buffers, on any number of workers (SPEC 1).

    python pipelines/stage1.py --preset tiny --dataset runs/buffers
    ray job submit --working-dir . -- python pipelines/stage1.py --preset ffhq256 --dataset s3://.. --storage s3://..

The same command continues an interrupted run. Ray Train starts the workers, restarts them after a failure and keeps the
checkpoints; what is trained, and how, is `drig.training`.
"""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import ray
import torch.distributed as dist
from torch.utils.data import Dataset, Subset

from drig import config as configs
from drig import storage
from drig.both_ways import MIRRORED
from drig.data.items import Item
from drig.data.mirroring import with_mirror_images
from drig.data.resident import ResidentDataset
from drig.data.store import MANIFEST, Manifest, PackedDataset, StoreDataset, StoreKind
from drig.diffusion.network import RIG_PRESETS, Rig, RigConfig
from drig.diffusion.weights import LoadedWeights, load_weights, save_weights
from drig.errors import DrigError
from drig.faces.likeness import FOLLOWS_SKIN
from drig.identities import Identities
from drig.randomness import derive_seed
from drig.shipped_base import SHIPPED_BASE
from drig.tracking import Run, Tracker, tracking_uri
from drig.training.config import CHANGEABLE, TRAINING_PRESETS, TrainingConfig
from drig.training.loop import WEIGHTS, train
from drig.versions import code_version, versions
from pipelines.cluster import ClusterConfig, ray_cluster, use_gpu
from pipelines.progress import Board, board_bar
from pipelines.ray_checkpoints import FOLDER, drop_torn_list, fetch_checkpoint
from pipelines.run_folder import absolute, open_run
from pipelines.stage1_reporter import Reporter

RESULT = "result.json"
SHIPPED = "shipped"
"""What `start` calls the base rig that drig ships."""
COPY_TIMEOUT_S = 7200
"""How long workers wait for one of them to copy the dataset to their node."""
OWN_RAY_TIMEOUT_S = 30
"""How long to wait for CPUs of a Ray of its own, which nobody adds any to."""
START_ATTEMPT_S = 60
"""After how long Ray Train begins anew to wait for CPUs or GPUs."""


@dataclass(frozen=True, kw_only=True)
class Stage1Config:
    """Train the base rig on a buffer store."""

    dataset: str
    """Buffer store, as extract_buffers writes it; a local folder or an s3:// prefix, which every node copies once."""
    storage: str = "runs/stage1"
    """Folder or s3:// prefix of this run: checkpoints, sample grids, weights. Given again, the run goes on."""
    runs: Path = Path("runs")
    """Folder of the MLflow database that records the run; MLFLOW_TRACKING_URI overrides it."""
    rig: RigConfig = RIG_PRESETS["tiny"]
    """The network."""
    start: str | None = None
    """Weights to start from instead of fresh ones: a local file, an s3:// URI, or `shipped`, drig's own base. They say
    what the rig is."""
    training: TrainingConfig = TRAINING_PRESETS["tiny-stage1"]
    """Budget and optimiser."""
    mirror: bool = False
    """Train on the portraits' mirror images too."""
    resident: bool = False
    """Keep the whole dataset in every worker's memory, of its GPU if it has one, and draw noise there: for small rigs,
    which train faster than loaders read. 70,000 portraits of 256 px take 41 GB."""
    workers: int = 2
    """Processes that train together, any number up to the batch; each has a GPU where there are any. They share each
    batch, so their number changes the speed alone."""
    min_workers: int | None = None
    """Go on with as few where machines are lost, and with more as they come back. None = wait for all `workers`."""
    start_timeout: int = 1800
    """Seconds to wait on a cluster for CPUs or GPUs, which its autoscaler may have to start: at the start, and in all
    after losses."""
    max_failures: int = 3
    """Restarts after lost workers before giving up."""
    grid: int = 8
    """Portraits of the dataset that every checkpoint reconstructs, for looking at, and by whose loss the best
    checkpoint is known. 0 = none."""
    hold_out: bool = False
    """Do not train on the portraits of the grid."""
    register: bool = True
    """Make the result the base rig that identities start from."""
    half: bool = False
    """Write the weights in half precision, half the bytes. Checkpoints stay whole."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Where it runs."""

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("start_timeout", 1), ("max_failures", 0), ("grid", 0)):
            if getattr(self, name) < least:
                raise DrigError(f"{name} is {getattr(self, name)}; give {least} or more")
        if not 1 <= self.least_workers <= self.workers:
            raise DrigError(f"min_workers is {self.min_workers}; give 1 to {self.workers}, the number of workers")
        self.training.share(0, self.workers)  # more workers than samples are an error before anything starts

    @property
    def least_workers(self) -> int:
        return self.workers if self.min_workers is None else self.min_workers


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"rig": RIG_PRESETS["tiny"], "training": TRAINING_PRESETS["tiny-stage1"], "workers": 2},
    # The network of the released base, which `make base` trains in two parts (MODEL_CARD.md).
    "small": {
        "rig": RIG_PRESETS["small"],
        "training": TRAINING_PRESETS["small-stage1"],
        "workers": 2,
        "mirror": True,
        "half": True,
    },
    # The same with one level more, for a base of 128 px; `python -m drig.training.base` trains it without Ray.
    "small128": {
        "rig": RIG_PRESETS["small128"],
        "training": TRAINING_PRESETS["small-gpu"],
        "workers": 1,
        "mirror": True,
        "resident": True,
        "half": True,
        "cluster": ClusterConfig(gpu=True),
    },
    # The released base goes on, on other photos.
    "continue": {
        "rig": RIG_PRESETS["small"],
        "training": TRAINING_PRESETS["small-continue"],
        "workers": 2,
        "start": SHIPPED,
        "mirror": True,
        "half": True,
    },
    # SPEC 1: 8 workers x 32, 12.8 M samples.
    "ffhq256": {
        "rig": RIG_PRESETS["rig256"],
        "training": TRAINING_PRESETS["paper-stage1"],
        "workers": 8,
        "cluster": ClusterConfig(gpu=True),
    },
}


@dataclass(frozen=True)
class Stage1Result:
    """What a finished run came to."""

    weights: str
    """The trained rig, a local path or s3:// URI."""
    version: int | None
    """Its version as the base rig of the identities; None if it was not registered."""
    samples_seen: int
    metrics: dict[str, float]
    """The last report, as `drig.training.loop.TrainingResult` has it."""
    run_id: str
    """Of the MLflow run."""


_CHANGEABLE = {  # what the same run may be continued with other values of
    "dataset",
    "storage",
    "runs",
    "workers",
    "min_workers",
    "start_timeout",
    "max_failures",
    "grid",
    "register",
    "cluster",
    *(f"training.{name}" for name in CHANGEABLE),
}


def fit(config: Stage1Config) -> Stage1Result:
    """Train to the end of the budget; a run that has reached it returns at once. Raises DrigError."""
    config = replace(config, dataset=absolute(config.dataset), storage=absolute(config.storage))
    if config.start is not None:
        start = config.start if config.start == SHIPPED else absolute(config.start)
        config = replace(config, start=start, rig=_weights_at(start).rig.config)
    kind = _kind(config)
    open_run(config.storage, config, changeable=_CHANGEABLE)
    if (finished := _finished(config)) is not None:
        return finished
    tracker = Tracker(tracking_uri(config.runs), "stage1")
    with tracker.run(Path(config.storage).name, key=config.storage) as run, ray_cluster(config.cluster):
        run.log_config(configs.to_dict(config))
        run.set_tags({"code": code_version(), "data.manifest": _manifest_hash(config.dataset), **_version_tags()})
        _require_room(config)
        outcome = _fit(Job(config, kind, run, Board()))
        version = _register(config, run) if config.register else None
    result = Stage1Result(storage.join(config.storage, WEIGHTS), version, run_id=run.id, **outcome)
    storage.write_bytes(storage.join(config.storage, RESULT), json.dumps(asdict(result), indent=2).encode())
    return result


def _kind(config: Stage1Config) -> StoreKind:
    """What the dataset holds. Raises DrigError if there is none, or not of the network's size."""
    if storage.is_s3(config.dataset):
        content = json.loads(storage.read_bytes(storage.join(config.dataset, MANIFEST)))
        kind = StoreKind(size=content["size"], head=content["head"], estimator=content["estimator"])
    else:
        kind = Manifest.load(Path(config.dataset)).kind
        StoreDataset(config.dataset)  # complete, and not empty
    if kind.size != config.rig.size:
        raise DrigError(
            f"{config.dataset} holds portraits of {kind.size} px and the network is for {config.rig.size} px. "
            f"Extract buffers with --size {config.rig.size}, or choose a network of {kind.size} px."
        )
    return kind


def _manifest_hash(dataset: str) -> str:
    """SHA-256 of the dataset's manifest, which names its shards: the same portraits, the same hash."""
    return hashlib.sha256(storage.read_bytes(storage.join(dataset, MANIFEST))).hexdigest()


def _version_tags() -> dict[str, str]:
    return {f"version.{name}": value for name, value in versions().items()}


def _finished(config: Stage1Config) -> Stage1Result | None:
    """The result of this run, if its budget has been reached."""
    file = storage.join(config.storage, RESULT)
    if not storage.exists(file):
        return None
    result = Stage1Result(**json.loads(storage.read_bytes(file)))
    return result if result.samples_seen >= config.training.total else None


def _register(config: Stage1Config, run: Run) -> int:
    identities = Identities(run.uri)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / WEIGHTS
        weights.write_bytes(storage.read_bytes(storage.join(config.storage, WEIGHTS)))
        return identities.register_base(weights, run_id=run.id)


@dataclass(frozen=True)
class Job:
    """What the driver sends to every worker."""

    config: Stage1Config
    kind: StoreKind
    """Of the dataset: the weights file names the head model and the estimator that they belong to."""
    run: Run
    board: Board


def _require_room(config: Stage1Config) -> None:
    """Wait for CPUs or GPUs for the least number of workers; an autoscaler sees that they are wanted.

    Raises DrigError if they don't come in time. Ray Train would wait for them without end.
    """
    from ray.util.placement_group import placement_group, remove_placement_group

    kind, least = "GPU" if use_gpu(config.cluster) else "CPU", config.least_workers
    joined = config.cluster.address or os.environ.get("RAY_ADDRESS")
    group = placement_group([{kind: 1.0}] * least)
    try:
        if group.wait(config.start_timeout if joined else OWN_RAY_TIMEOUT_S):
            return
    finally:
        remove_placement_group(group)
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    raise DrigError(
        f"{least} workers need {least} {kind}s; Ray has {resources.get(kind, 0):g}, and some may be in use. Give fewer "
        "--workers, --min_workers, or a cluster with more; --cluster.cpus are what a Ray of its own schedules on."
    )


def _fit(job: Job) -> dict[str, Any]:
    """Run the workers to the end; what rank 0 returns."""
    from ray.train import CheckpointConfig, ControllerError, FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
    from ray.train.torch import TorchConfig, TorchTrainer

    config = job.config
    drop_torn_list(config.storage)
    elastic = config.least_workers < config.workers
    # Their annotations are those of the older trainer, without elasticity and return values.
    trainer: Any = TorchTrainer(
        cast(Any, train_worker),
        train_loop_config={"job": job},
        torch_config=TorchConfig(timeout_s=COPY_TIMEOUT_S),
        scaling_config=ScalingConfig(
            num_workers=cast(Any, (config.least_workers, config.workers) if elastic else config.workers),
            use_gpu=use_gpu(config.cluster),
        ),
        run_config=RunConfig(
            name=FOLDER,
            storage_path=config.storage,
            failure_config=cast(Any, FailureConfig)(
                max_failures=config.max_failures,
                controller_failure_limit=-(-config.start_timeout // START_ATTEMPT_S),
            ),
            checkpoint_config=CheckpointConfig(num_to_keep=config.training.keep),
        ),
    )
    try:
        with board_bar(job.board, total=config.training.total, unit="sample", title="stage 1"):
            outcome: dict[str, Any] = trainer.fit().return_value
            return outcome
    except WorkerGroupError as error:
        for failure in error.worker_failures.values():
            if isinstance(failure, DrigError):
                raise failure from error
        raise
    except ControllerError as error:
        raise DrigError(
            f"the {config.workers} workers were not started again: {error.controller_failure}. The same command goes "
            "on from the last checkpoint; give fewer --workers or --min_workers where machines are gone."
        ) from error


def train_worker(loop_config: dict[str, Any]) -> dict[str, Any]:
    """What one worker does; Ray Train calls it on each."""
    from ray import train as ray_train
    from ray.train.torch import get_device

    # Config
    job: Job = loop_config["job"]
    config, context = job.config, ray_train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    # Data
    dataset = StoreDataset(_local_store(config.dataset, copy=context.get_local_rank() == 0))
    # Model
    device = get_device()
    seed = derive_seed(config.training.seed, "rig")
    rig = (Rig.from_seed(config.rig, seed) if config.start is None else _weights_at(config.start).rig).to(device)
    with tempfile.TemporaryDirectory(prefix="drig-stage1-") as scratch:
        # Restore
        workdir = Path(scratch)
        fetch_checkpoint(config.storage, workdir)
        # Loop
        grid = evenly(len(dataset), config.grid)
        kept: Dataset[Item] = PackedDataset(dataset.store)
        if config.hold_out:
            kept = Subset(kept, [i for i in range(len(dataset)) if i not in grid])
        reporter = Reporter(config.storage, config.training, job.run, job.board, [dataset[i] for i in grid], device)
        if config.resident:
            kept = ResidentDataset(kept, device, mirror=config.mirror)
        elif config.mirror:
            kept = with_mirror_images(kept)
        result = train(
            config.training,
            rig,
            kept,
            workdir=workdir,
            rank=rank,
            world_size=world_size,
            on_progress=reporter.progress,
            on_checkpoint=reporter.checkpoint,
        )
        # Report
        reporter.upload.finish()
        if rank == 0:
            assert result.weights is not None, "nothing asks the loop to stop early"
            _publish(job, result.weights)
            job.run.flush()
    return {"samples_seen": result.samples_seen, "metrics": result.metrics}


def _weights_at(place: str) -> LoadedWeights:
    """A weights file, local, on S3, or drig's own."""
    if place == SHIPPED:
        return load_weights(SHIPPED_BASE)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / WEIGHTS
        weights.write_bytes(storage.read_bytes(place))
        return load_weights(weights)


def _local_store(place: str, *, copy: bool) -> Path:
    """The dataset on this node's disk. From S3 one worker a node copies it, the others wait for it."""
    if not storage.is_s3(place):
        return Path(place)
    content = hashlib.sha256(storage.read_bytes(storage.join(place, MANIFEST))).hexdigest()
    local = Path(tempfile.gettempdir()) / f"drig-store-{content[:16]}"
    if copy and not local.exists():
        storage.download_folder(place, local)
    if dist.is_initialized():
        dist.barrier()
    return local


def _publish(job: Job, weights: Path) -> None:
    """Put the trained rig where users find it, with what it knows of the physical layer that it was trained with."""
    loaded, start = load_weights(weights), job.config.start
    metadata = {**loaded.metadata, "head": job.kind.head, "estimator": job.kind.estimator, MIRRORED: job.config.mirror}
    if start is not None and _weights_at(start).metadata.get(FOLLOWS_SKIN):  # it stays able to
        metadata[FOLLOWS_SKIN] = True
    complete = weights.with_name("complete.safetensors")
    save_weights(complete, loaded.rig, loaded.tensors, metadata, half=job.config.half)
    storage.write_bytes(storage.join(job.config.storage, WEIGHTS), complete.read_bytes())


def evenly(length: int, count: int) -> list[int]:
    """`count` places, or all, evenly over `length`."""
    count = min(count, length)
    return [i * length // count for i in range(count)]


def report(result: Stage1Result) -> None:
    """Print what came of the run and what to do next."""
    speed, loss = result.metrics["samples_per_second"], result.metrics["loss"]
    print(f"stage 1: {result.samples_seen:,} samples, loss {loss:.4f}, {speed:.1f} samples/s")
    print(f"weights: {result.weights}")
    if result.version is not None:
        print(f"base rig: version {result.version}; give it people with pipelines/personalize.py")


def main(argv: Sequence[str] | None = None, *, prog: str = "stage1") -> int:
    """The command line; returns the exit code."""
    return configs.run(
        Stage1Config,
        lambda config: report(fit(config)),
        argv,
        prog=prog,
        description="Train the base rig on a buffer store.",
        presets=PRESETS,
    )


if __name__ == "__main__":
    sys.exit(main())
