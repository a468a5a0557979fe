"""Stage 2 for many people at once: each gets a rig of their own, registered under their name (SPEC 1, 6).

    python pipelines/personalize.py --albums people/ --holdout 2
    python pipelines/personalize.py --albums ann=photos/ann,bob=bob.mp4
    ray job submit --working-dir . -- python pipelines/personalize.py --preset paper --albums s3://.. --workers 16

A fleet of workers shares all people. One who fails is reported and the others finish; where a worker dies another one
goes on with that person from the person's own checkpoint, and the others do not notice. The same command again does
what is still to be done: people who are new, who failed, or whose album has changed.
"""

import json
import shutil
import sys
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import ray
import torch

from drig import config as configs
from drig import logs, storage
from drig.diffusion.deltas import content_hash
from drig.diffusion.weights import load_weights
from drig.errors import DrigError
from drig.identities import BASE, FOLDER_TAG, Identities, consent_tags
from drig.tracking import Run, Tracker, tracking_uri
from drig.training.config import CHANGEABLE, TRAINING_PRESETS, TrainingConfig
from drig.training.loop import WEIGHTS
from pipelines.album_list import AlbumPlace, find_albums, fingerprint
from pipelines.cluster import ClusterConfig, ray_cluster, use_gpu
from pipelines.fleet import run_fleet
from pipelines.identity_queue import IdentityQueue
from pipelines.identity_training import (
    RESULT,
    SHEET,
    TRAINING,
    IdentityResult,
    LiveVersion,
    read_result,
    train_identity,
)
from pipelines.progress import Board, board_bar
from pipelines.run_folder import absolute, alone, open_run, settings, work_folder

FAILURES = "failures.json"
"""In the run's folder: name -> why there is no rig of this person."""
READERS = 16
"""Threads that read the results of people who are done."""


@dataclass(frozen=True, kw_only=True)
class PersonalizeConfig:
    """Train a rig for each of many people."""

    albums: tuple[str, ...] = ()
    """Any of, with commas between: a folder or s3:// prefix with a folder or video of each person, whose names become
    the identities'; list.csv with the columns name, album and, if wanted, priority (more = earlier); NAME=PATH of one
    person's folder or video."""
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
    """Measure the faces of held-out photos every so many samples, and take the weights from before these got no better.
    None = the whole budget."""
    minutes: float | None = None
    """Train each person for so long at most, and take the weights as they are then. None = the whole budget."""
    force: bool = False
    """Train also where the album doctor finds a fault. Without, these people fail, and it is said why."""
    aligned: bool = False
    """The photos are FFHQ crops already."""
    consent_by: str | None = None
    """Who says that these people have agreed to it; kept with each version, with the time."""
    workers: int = 2
    """People trained at the same time, each in a process of its own."""
    gpus_per_worker: float = 1.0
    """Share of a GPU for each, where there are any: with 0.25, four people train on one."""
    attempts: int = 3
    """Workers that may die on one person before that person is given up."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Where it runs."""

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("attempts", 1), ("holdout", 0)):
            if getattr(self, name) < least:
                raise DrigError(f"{name} is {getattr(self, name)}; give {least} or more")
        if not self.albums:
            raise DrigError("no people to personalise; give --albums FOLDER, or --albums NAME=PATH")
        if self.training.train_encoder:
            raise DrigError("stage 2 keeps the encoder as stage 1 left it; set training.train_encoder to false")
        if not 0 < self.gpus_per_worker <= 1:
            raise DrigError(f"gpus_per_worker is {self.gpus_per_worker}; give a share of one GPU, above 0 and up to 1")
        if self.minutes is not None and (self.minutes <= 0 or self.training.cooldown):
            raise DrigError(
                f"minutes is {self.minutes} and training.cooldown {self.training.cooldown}; give more than 0 minutes, "
                "and no cool-down, which has to know the end"
            )
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
    "albums",
    "storage",
    "runs",
    "force",
    "consent_by",
    "workers",
    "gpus_per_worker",
    "attempts",
    "cluster",
    *(f"training.{name}" for name in CHANGEABLE - {"samples"}),
}


def personalize(config: PersonalizeConfig, *, board: Board | None = None) -> list[IdentityResult]:
    """One result a person, in the order of their names; those that failed say why. Raises DrigError for bad input.

    board: where others watch how many samples were trained on.
    """
    albums = find_albums(config.albums)
    config = replace(config, storage=absolute(config.storage))
    config = replace(config, base=_name_base(config))
    open_run(config.storage, config, changeable=_CHANGEABLE)
    results = _finished(config.storage, albums)
    todo = {name: album for name, album in albums.items() if name not in results}
    print(f"{len(albums):,} people, {len(results):,} of them done before", flush=True)
    if todo:
        tracker = Tracker(tracking_uri(config.runs), "stage2")
        with tracker.run(Path(config.storage).name, key=config.storage) as run, ray_cluster(config.cluster):
            run.log_config(config)
            results |= _run_fleet(Job(config, tracker, run, board or Board()), todo)
            failures = {name: result.error for name, result in results.items() if result.error}
            storage.write_bytes(storage.join(config.storage, FAILURES), json.dumps(failures, indent=2).encode())
            done = {"people": len(results) - len(failures), "people_failed": len(failures)}
            run.log_metrics(done, samples=sum(result.samples for result in results.values()))
    return [results[name] for name in sorted(results)]


def _name_base(config: PersonalizeConfig) -> str:
    """The rig that all start from, a file or `base:VERSION`: a later run can tell whether it is the same one."""
    if config.base is not None:
        rig = load_weights(config.base).rig
        if config.training.delta_rank is not None:  # who edits with the deltas will look for their base there
            Identities(tracking_uri(config.runs)).check_base(content_hash(rig.state_dict()))
        return absolute(config.base)
    begun = settings(config.storage).get("base")
    if begun and begun.startswith(f"{BASE}:"):
        return str(begun)  # the run goes on with the base that it began with, also when there is a newer one
    return f"{BASE}:{Identities(tracking_uri(config.runs)).ensure_base().version}"


def _finished(place: str, albums: Mapping[str, AlbumPlace]) -> dict[str, IdentityResult]:
    """The results of earlier runs that are of the albums as they are now."""
    there = {PurePosixPath(file).parent.name for file in storage.list_files(place) if file.endswith(f"/{RESULT}")}

    def read(name: str) -> IdentityResult | None:
        try:
            album = albums[name].fingerprint()
        except DrigError:  # it is not there any more; what came of it is
            album = None
        return _done(storage.join(place, name), album)

    names = [name for name in albums if name in there]
    with ThreadPoolExecutor(READERS) as threads:
        return {name: result for name, result in zip(names, threads.map(read, names), strict=True) if result}


def _done(place: str, album: str | None) -> IdentityResult | None:
    """The result in a person's folder, if it is registered and of the album with that fingerprint; None = of any."""
    result = read_result(place)
    if result is None or result.version is None:
        return None
    known = result.album.get("fingerprint")  # results from before there were any have none
    return result if None in (album, known) or album == known else None


@dataclass(frozen=True)
class Job:
    """What the driver sends to every worker."""

    config: PersonalizeConfig
    tracker: Tracker
    run: Run
    board: Board


def _run_fleet(job: Job, todo: Mapping[str, AlbumPlace]) -> dict[str, IdentityResult]:
    """A result for each identity."""
    config, results, failed = job.config, dict[str, IdentityResult](), 0
    queue = IdentityQueue({name: album.priority for name, album in todo.items()}, config.attempts)
    gpus = config.gpus_per_worker if use_gpu(config.cluster) else 0
    start = partial(ray.remote(num_cpus=1, num_gpus=gpus)(PersonWorker).remote, job)
    with board_bar(job.board, total=len(todo) * config.training.total, unit="sample", title="stage 2"):
        for name, came in run_fleet(start, queue, {name: album.place for name, album in todo.items()}, config.workers):
            result = results[name] = _failure(name, came, config.attempts) if isinstance(came, Exception) else came
            if result.error:
                failed += 1
                print(f"\n{name}: {result.error}", file=sys.stderr, flush=True)
            logs.event(
                "identity_failed" if result.error else "identity_finished",
                identity=name,
                reason=result.error or None,
                rejected_photos=len(result.album.get("rejects", {})),
                seconds=round(result.seconds, 3),
            )
            job.board.put({}, {"people": f"{len(results) - failed}/{len(todo)}", "failed": str(failed)})
    return results


def _failure(name: str, error: Exception, attempts: int) -> IdentityResult:
    if isinstance(error, ray.exceptions.RayError):
        why = str(error).strip().splitlines()[-1]
        return IdentityResult(name=name, error=f"its worker died {attempts} times, often of too little memory: {why}")
    return IdentityResult(name=name, error=f"{type(error).__name__}: {error}")


class PersonWorker:
    """Trains one person after the other; runs as an actor."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._device = "cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu"

    def ready(self) -> None:
        """Answers when the process is up."""

    def work(self, name: str, album: str) -> IdentityResult:
        """Raises what goes wrong, but for bad input, which is a result too: it does not spoil the process."""
        try:
            return personalize_one(self._job, name, album, self._device)
        except DrigError as error:
            return IdentityResult(name=name, error=str(error))
        except Exception:
            traceback.print_exc()  # into the worker's log, which has the line
            raise


def personalize_one(job: Job, name: str, album: str, device: str) -> IdentityResult:
    """Train a person and register the result. Raises DrigError for an album that cannot be used."""
    config, place = job.config, storage.join(job.config.storage, name)
    folder = work_folder(place)
    with alone(folder), job.tracker.run(name, key=place, parent=job.run, tags={"identity": name}) as run:
        if done := _done(place, fingerprint(album)):  # by a worker, or for a driver, that was killed then
            _drop_backup(place)
            return done

        def report(samples: int, metrics: dict[str, float]) -> None:
            job.board.put({name: samples}, {"loss": f"{metrics['loss']:.4f}"})
            run.log_metrics(metrics, samples=samples)

        identities = Identities(run.uri)
        result = train_identity(
            name,
            album,
            _base_weights(config, identities),
            config.training,
            holdout=config.holdout,
            mirror=config.mirror,
            early_stop=config.early_stop,
            minutes=config.minutes,
            force=config.force,
            aligned=config.aligned,
            live=_live(identities, name),
            folder=folder,
            backup=place if storage.is_s3(place) else None,
            device=device,
            on_progress=report,
        )
        run.log_metrics(result.measures(), samples=result.samples)
        version = identities.register(
            name,
            folder / WEIGHTS,
            album_report=result.album,
            files=[folder / SHEET, folder / RESULT],
            run_id=run.id,
            tags={FOLDER_TAG: place, **consent_tags(config.consent_by)},
            live=not (result.beside_live and result.beside_live.fell),
        )
        result = replace(result, version=version, folder=place)
        if storage.is_s3(place):
            storage.upload_folder(folder, place)
            shutil.rmtree(folder)
        storage.write_bytes(storage.join(place, RESULT), result.to_json())  # with it the person is done
        _drop_backup(place)
    job.board.put({name: config.training.total})
    return result


def _drop_backup(place: str) -> None:
    """Like the checkpoints on the machine, it is four times the weights, and its work is done."""
    if storage.is_s3(place):
        storage.remove(storage.join(place, TRAINING))


def _live(identities: Identities, name: str) -> LiveVersion | None:
    """The version to compare with; None where there is none, or none that could be served."""
    try:
        info, report = identities.get(name), identities.album_report(name)
        if "used" not in report:
            return None  # registered by hand: nobody knows which photos it has seen
        return LiveVersion(
            version=info.version,
            weights=identities.fetch(name, info.version),
            base=identities.fetch_base(name, info.version),
            trained_on=frozenset(report["used"]) - frozenset(report["held_out"]),
        )
    except DrigError:
        return None


def _base_weights(config: PersonalizeConfig, identities: Identities) -> Path:
    """The rig to start from, as a file on this node."""
    assert config.base is not None, "the driver names it"
    name, _, version = config.base.rpartition(":")
    if name == BASE:
        return identities.fetch(BASE, int(version))
    return Path(config.base)


def report(results: Sequence[IdentityResult]) -> None:
    """Print a line a person. Raises DrigError if any of them failed, after the others have been told."""
    row = "{:<24} {:>7} {:>6} {:>8} {:>8} {:>14} {:>14}"
    print(row.format("identity", "version", "photos", "samples", "seconds", "face PSNR dB", "face SSIM"))
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
        if (beside := result.beside_live) and beside.fell:
            print(
                f"  version {beside.live} stays live: {beside.live_psnr:.2f} dB of the face on {beside.photos} photos "
                f"that neither was trained on, version {result.version} {beside.own_psnr:.2f} dB"
            )
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
