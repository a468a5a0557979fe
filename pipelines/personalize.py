"""Stage 2 for many people at once: each gets a rig of their own, registered under their name (SPEC 1, 6).

    python pipelines/personalize.py --photos people/ --holdout 2
    python pipelines/personalize.py --albums ann=photos/ann,bob=bob.mp4
    ray job submit --working-dir . -- python pipelines/personalize.py --preset paper --photos .. --workers 16

One Ray Train run for all, since starting one takes longer than training a small rig: its workers take identities
from a queue until there is none left. An identity that fails is reported and the others finish; a worker that dies is
restarted and goes on with its identity from that one's own checkpoint. The same command again does what is still to be
done.
"""

import shutil
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import ray

from drig import config as configs
from drig import logs, storage
from drig.data.photos import is_video
from drig.diffusion.deltas import content_hash
from drig.diffusion.weights import load_weights
from drig.errors import DrigError
from drig.identities import BASE, Identities, check_name
from drig.tracking import Run, Tracker, tracking_uri
from drig.training.config import CHANGEABLE, TRAINING_PRESETS, TrainingConfig
from drig.training.loop import WEIGHTS
from pipelines.cluster import ClusterConfig, ray_cluster, use_gpu
from pipelines.identity_queue import IdentityQueue
from pipelines.identity_training import RESULT, SHEET, IdentityResult, train_identity
from pipelines.progress import Board, board_bar
from pipelines.run_folder import absolute, open_run, work_folder


@dataclass(frozen=True, kw_only=True)
class PersonalizeConfig:
    """Train a rig for each of many people."""

    photos: str | None = None
    """Folder with a folder or a video of each person; their names become the identities'."""
    albums: tuple[str, ...] = ()
    """NAME=PATH,NAME=PATH: more people, or a few only. A path is a folder of photos or a video."""
    base: str | None = None
    """Weights file of the rig to start from. None = the registry's base rig, at first the one that drig ships."""
    storage: str = "runs/personalize"
    """Folder or s3:// prefix for a folder of each person. Given again, the run goes on."""
    runs: Path = Path("runs")
    """Folder of the MLflow database that holds runs and identities; MLFLOW_TRACKING_URI overrides it."""
    training: TrainingConfig = TRAINING_PRESETS["tiny-stage2-delta"]
    """Budget and optimiser of each person; with `delta_rank` a delta over the base, otherwise a whole rig."""
    holdout: int = 0
    """Photos of each album, at most a quarter of them, that are kept from training to measure reconstructions on."""
    mirror: bool = True
    """Train on the photos' mirror images too: twice the album. false for a face that differs from side to side."""
    early_stop: int | None = None
    """Measure the held-out photos every so many samples, and take the weights from before they got no better. None =
    the whole budget."""
    aligned: bool = False
    """The photos are FFHQ crops already."""
    workers: int = 2
    """People trained at the same time; each on a GPU where there are any."""
    attempts: int = 3
    """Workers that may die on one person before that person is given up."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Where it runs."""

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("attempts", 1), ("holdout", 0)):
            if getattr(self, name) < least:
                raise DrigError(f"{name} is {getattr(self, name)}; give {least} or more")
        if self.photos is None and not self.albums:
            raise DrigError("no people to personalise; give --photos FOLDER, or --albums NAME=PATH")
        if self.training.train_encoder:
            raise DrigError("stage 2 keeps the encoder as stage 1 left it; set training.train_encoder to false")
        if self.early_stop is not None:
            if not self.holdout:
                raise DrigError("early_stop measures photos that are kept from training; give --holdout, say 2, too")
            least = max(1, self.training.warmup)
            if self.early_stop < least:
                raise DrigError(f"early_stop is {self.early_stop} samples; give {least} (the warm-up) or more")


_PAPER: dict[str, Any] = {"workers": 8, "mirror": False, "cluster": ClusterConfig(gpu=True)}

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"training": TRAINING_PRESETS["tiny-stage2-delta"]},
    "tiny-full": {"training": TRAINING_PRESETS["tiny-stage2"]},
    # SPEC 1: batches of 4, 20,000 samples.
    "paper": _PAPER | {"training": TRAINING_PRESETS["paper-stage2"]},
    "paper-delta": _PAPER | {"training": TRAINING_PRESETS["paper-stage2-delta"]},
}
_CHANGEABLE = {  # what the same run may be continued with other values of
    "photos",
    "albums",
    "storage",
    "runs",
    "workers",
    "attempts",
    "cluster",
    *(f"training.{name}" for name in CHANGEABLE - {"samples"}),
}


def personalize(config: PersonalizeConfig) -> list[IdentityResult]:
    """One result a person, in the order of their names; those that failed say why. Raises DrigError for bad input."""
    albums = find_albums(config)
    config = replace(config, storage=absolute(config.storage), base=_name_base(config))
    open_run(config.storage, config, changeable=_CHANGEABLE)
    results = {name: result for name in albums if (result := _finished(config, name)) is not None}
    todo = [name for name in albums if name not in results]
    print(f"{len(albums):,} people, {len(results):,} of them done before", flush=True)
    if todo:
        tracker = Tracker(tracking_uri(config.runs), "stage2")
        with tracker.run(Path(config.storage).name, key=config.storage) as run, ray_cluster(config.cluster):
            run.log_config(config)
            queue = ray.remote(num_cpus=0)(IdentityQueue).remote(todo, config.attempts)
            results |= _run_workers(Job(config, albums, tracker, run, queue, Board()), todo)
    return [results[name] for name in sorted(results)]


def _name_base(config: PersonalizeConfig) -> str:
    """The rig that all start from, a file or `base:VERSION`: a later run can tell whether it is the same one."""
    if config.base is not None:
        rig = load_weights(config.base).rig
        if config.training.delta_rank is not None:  # who edits with the deltas will look for their base there
            Identities(tracking_uri(config.runs)).check_base(content_hash(rig.state_dict()))
        return absolute(config.base)
    return f"{BASE}:{Identities(tracking_uri(config.runs)).ensure_base().version}"


def _finished(config: PersonalizeConfig, name: str) -> IdentityResult | None:
    """The result of an earlier run."""
    file = storage.join(config.storage, name, RESULT)
    return IdentityResult.from_json(storage.read_bytes(file)) if storage.exists(file) else None


def find_albums(config: PersonalizeConfig) -> dict[str, str]:
    """Album places by the identity's name. Raises DrigError for names and places that cannot be used."""
    albums: dict[str, str] = {}
    if config.photos is not None:
        root = Path(absolute(config.photos))
        if not root.is_dir():
            raise DrigError(f"{root} is not a folder; give one that holds a folder or a video of each person")
        places = [path for path in sorted(root.iterdir()) if not path.name.startswith(".")]
        albums = {
            path.name if path.is_dir() else path.stem: str(path) for path in places if path.is_dir() or is_video(path)
        }
        if not albums:
            raise DrigError(
                f"{root} holds no folder and no video of a person. For the photos of one person, give "
                f"--albums NAME={config.photos}"
            )
    for album in config.albums:
        name, equals, place = album.partition("=")
        if not equals or not name or not place:
            raise DrigError(f"--albums {album!r} is not NAME=PATH")
        if name in albums:
            raise DrigError(f"two albums are called {name!r}; an identity has one: give them different names")
        if not storage.exists(place):
            raise DrigError(f"the album of {name}, {place}, does not exist; check the path")
        albums[name] = absolute(place)
    for name in albums:
        check_name(name)
        if name == BASE:
            raise DrigError(f"the name {BASE!r} is kept for the base rig; choose another name for this person")
    return albums


@dataclass(frozen=True)
class Job:
    """What the driver sends to every worker."""

    config: PersonalizeConfig
    albums: Mapping[str, str]
    tracker: Tracker
    run: Run
    queue: Any
    """The IdentityQueue's actor."""
    board: Board


def _run_workers(job: Job, todo: Sequence[str]) -> dict[str, IdentityResult]:
    """Run the workers until the queue is empty; a result for each identity."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    # What TorchTrainer is made of, without its process group: these workers have nothing to say to each other.
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    config = job.config
    trainer = DataParallelTrainer(
        cast(Any, personalize_worker),
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(num_workers=min(config.workers, len(todo)), use_gpu=use_gpu(config.cluster)),
        run_config=RunConfig(
            name="ray_train",
            storage_path=config.storage,
            failure_config=FailureConfig(max_failures=config.attempts * len(todo)),
            callbacks=[_blame(job.queue)],
        ),
    )
    with board_bar(job.board, total=len(todo) * config.training.total, unit="sample", title="stage 2"):
        trainer.fit()
    finished: dict[str, bytes] = ray.get(job.queue.results.remote())
    died = f"its worker died {config.attempts} times; see Ray's logs, the reason is often too little memory"
    return {
        name: IdentityResult.from_json(finished[name]) if name in finished else IdentityResult(name=name, error=died)
        for name in todo
    }


def _blame(queue: Any) -> Any:
    """A callback of Ray Train's controller that tells the queue which workers died, when it restarts all of them."""
    from ray.train import UserCallback

    class Blame(UserCallback):
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            for rank in worker_exceptions:
                ray.get(queue.died.remote(rank))

    return Blame()


def personalize_worker(loop_config: dict[str, Any]) -> None:
    """What one worker does: identities from the queue until there is none left."""
    from ray import train as ray_train
    from ray.train.torch import get_device

    job: Job = loop_config["job"]
    rank, device = ray_train.get_context().get_world_rank(), str(get_device())
    while (name := ray.get(job.queue.take.remote(rank))) is not None:
        try:
            result = _personalize_one(job, name, device)
        except DrigError as error:
            result = IdentityResult(name=name, error=str(error))
        except Exception as error:  # a mistake of ours: the other people must not suffer for it
            traceback.print_exc()
            result = IdentityResult(name=name, error=f"{type(error).__name__}: {error}")
        logs.event(
            "identity_failed" if result.error else "identity_finished",
            identity=name,
            reason=result.error or None,
            rejected_photos=len(result.album.get("rejects", {})),
            seconds=round(result.seconds, 3),
        )
        ray.get(job.queue.finish.remote(rank, result.to_json()))


def _personalize_one(job: Job, name: str, device: str) -> IdentityResult:
    config, place = job.config, storage.join(job.config.storage, name)
    with job.tracker.run(name, key=place, parent=job.run, tags={"identity": name}) as run:

        def report(samples: int, metrics: dict[str, float]) -> None:
            job.board.put({name: samples}, {"loss": f"{metrics['loss']:.4f}"})
            run.log_metrics(metrics, samples=samples)

        folder = work_folder(place)
        result = train_identity(
            name,
            job.albums[name],
            _base_weights(config, run.uri),
            config.training,
            holdout=config.holdout,
            mirror=config.mirror,
            early_stop=config.early_stop,
            aligned=config.aligned,
            folder=folder,
            device=device,
            on_progress=report,
        )
        run.log_metrics(result.measures(), samples=result.samples)
        run.log_file(folder / SHEET)
        version = Identities(run.uri).register(name, folder / WEIGHTS, album_report=result.album, run_id=run.id)
    result = replace(result, version=version, folder=place)
    if storage.is_s3(place):
        storage.upload_folder(folder, place)
        shutil.rmtree(folder)
    storage.write_bytes(storage.join(place, RESULT), result.to_json())
    return result


def _base_weights(config: PersonalizeConfig, uri: str) -> Path:
    """The rig to start from, as a file on this node."""
    assert config.base is not None, "the driver names it"
    name, _, version = config.base.rpartition(":")
    if name == BASE:
        return Identities(uri).fetch(BASE, int(version))
    return Path(config.base)


def report(results: Sequence[IdentityResult]) -> None:
    """Print a line a person. Raises DrigError if any of them failed, after the others have been told."""
    row = "{:<24} {:>7} {:>6} {:>8} {:>8} {:>14} {:>14}"
    print(row.format("identity", "version", "photos", "samples", "seconds", "PSNR dB", "SSIM"))
    for result in results:
        if result.error:
            print(f"{result.name:<24} failed: {result.error}")
            continue
        psnr, ssim = "-", "-"
        if result.before and result.after:
            psnr = f"{result.before.psnr:.2f} > {result.after.psnr:.2f}"
            ssim = f"{result.before.ssim:.3f} > {result.after.ssim:.3f}"
        made = (str(result.version), result.album["photos"], f"{result.samples:,}", f"{result.seconds:.0f}")
        print(row.format(result.name, *made, psnr, ssim))
        for warning in result.album["warnings"]:
            print(f"  {warning}")
        for key, reason in result.album["rejects"].items():
            print(f"  rejected {key}: {reason}")
    failed = [result.name for result in results if result.error]
    if failed:
        raise DrigError(
            f"{len(failed)} of {len(results)} people failed ({', '.join(failed[:5])}); the reasons are above"
        )


def main(argv: Sequence[str] | None = None, *, prog: str = "personalize") -> int:
    """The command line; returns the exit code."""
    return configs.run(
        PersonalizeConfig,
        lambda config: report(personalize(config)),
        argv,
        prog=prog,
        description="Train a rig for each of many people.",
        presets=PRESETS,
    )


if __name__ == "__main__":
    sys.exit(main())
