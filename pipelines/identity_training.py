"""One person: album -> portraits -> codes -> mean shape -> buffers -> stage 2 -> a weights file, and how good it is.

Runs without Ray; `pipelines/personalize.py` runs many of these at once.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from drig import storage
from drig.data.albums import Album, load_album
from drig.data.albums.doctor import examine
from drig.data.albums.verdicts import Level
from drig.data.items import Item
from drig.data.photos import save_png
from drig.editing import Editor
from drig.errors import DrigError
from drig.faces.codes import FaceCodes
from drig.faces.identity_embedding import IdentityEmbedder
from drig.faces.portraits import Portrait
from drig.metrics import psnr, ssim
from drig.personalization import album_dataset, fit_album, own_editor
from drig.pictures import Picture, buffer_pictures, contact_sheet
from drig.reading import Face
from drig.training.config import TrainingConfig
from drig.training.loop import WEIGHTS, OnCheckpoint, OnProgress, TrainingResult, train
from pipelines.album_list import fingerprint
from pipelines.early_stopping import train_while_better
from pipelines.time_budget import TimeBudget
from pipelines.training_backup import backed_up

RESULT = "result.json"
SHEET = "sheet.png"
TRAINING = "training"
"""Folder of checkpoints, in one for each album that was begun with."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How close the faces of reconstructions, brows to chin, come to those of photos that the training did not see:
    means over the photos. Of a whole portrait most is background, which tells nothing of the person."""

    psnr: float
    """dB"""
    ssim: float
    """0..1"""


@dataclass(frozen=True, kw_only=True)
class LiveVersion:
    """The version of a person that is served while a newer one is trained."""

    version: int
    weights: Path
    base: Path | None
    """The base rig that they are a delta over; None for a whole rig."""
    trained_on: frozenset[str]
    """Keys of its photos."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A new version beside the one that was live, on held-out photos that neither was trained on."""

    photos: int
    live: int
    """Number of the one that was live."""
    live_psnr: float
    """dB of the face"""
    own_psnr: float

    @property
    def fell(self) -> bool:
        return self.own_psnr < self.live_psnr


@dataclass(frozen=True, kw_only=True)
class IdentityResult:
    """What came of one person."""

    name: str
    album: dict[str, Any] = field(default_factory=dict)
    """Photos used, rejects with reasons, warnings, the held-out ones, and the fingerprint of the folder."""
    before: Quality | None = None
    """Of the base rig on the held-out photos; None without any."""
    after: Quality | None = None
    """Of the person's rig."""
    beside_live: Comparison | None = None
    """None where there was no live version, or no photo to compare on."""
    samples: int = 0
    """That the weights were trained on: the budget, or where early stopping found them best, or time was up."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The training's last report."""
    seconds: float = 0.0
    """Wall time; after an interruption, since then."""
    cpu_seconds: float = 0.0
    """Of the process, likewise."""
    version: int | None = None
    """In the registry of identities; None while it is not registered."""
    folder: str = ""
    """Where the weights and the sheet are, a local path or s3:// URI."""
    error: str = ""
    """Why there is no rig for this person; empty if there is."""

    def measures(self) -> dict[str, float]:
        """before_psnr, before_ssim, after_psnr, after_ssim; empty where nothing was held out."""
        pairs = (("before", self.before), ("after", self.after))
        return {f"{when}_{name}": value for when, found in pairs if found for name, value in asdict(found).items()}

    @classmethod
    def from_json(cls, content: bytes) -> "IdentityResult":
        values = json.loads(content)
        for name in ("before", "after"):
            values[name] = Quality(**values[name]) if values[name] else None
        if values.get("beside_live"):
            values["beside_live"] = Comparison(**values["beside_live"])
        return cls(**values)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=2).encode()


def train_identity(
    name: str,
    source: str,
    base: Path,
    training: TrainingConfig,
    *,
    holdout: int,
    aligned: bool,
    folder: Path,
    mirror: bool = False,
    early_stop: int | None = None,
    minutes: float | None = None,
    force: bool = False,
    live: LiveVersion | None = None,
    backup: str | None = None,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
) -> IdentityResult:
    """Personalise the rig in `base`; leaves weights.safetensors (mean shape inside), sheet.png and result.json in
    `folder`.

    With `training.delta_rank` the weights are a delta over `base`.

    holdout: photos kept from training to measure on, at most a quarter of the album.
    mirror: train on the mirror images of the photos too.
    early_stop: measure these every so many samples, and take the weights from before they get no better.
    minutes: of training, at most; the weights are those of then. Counted over interruptions.
    force: train although the album doctor finds faults.
    live: what to compare with on the held-out photos.
    backup: s3:// prefix that gets the checkpoints too, under `training`, for another machine to go on from.

    Called again after an interruption, it goes on from the newest checkpoint in `folder` or `backup`; with a changed
    album it begins anew; when all is done it returns the result. Raises DrigError for an album that cannot be used.
    """
    started, cpu_started = time.monotonic(), time.process_time()
    mark = fingerprint(source)
    if (done := read_result(str(folder))) and done.album.get("fingerprint") == mark:
        shutil.rmtree(folder / TRAINING, ignore_errors=True)
        return done
    editor = Editor.load(base, device=device)
    album, faces = _examined(source, editor, aligned=aligned, force=force)
    held = hold_out(len(faces), holdout)
    kept = [i for i in range(len(faces)) if i not in held]
    workdir = _workdir(folder, mark, [album.keys[i] for i in kept])
    shown = held or kept[:2]
    before = [editor.edit(faces[i]).image for i in shown]
    editor, known = editor.of_person([faces[i] for i in kept])
    truth = [faces[i].portrait for i in held]

    def measure(weights: Path) -> float:
        person = own_editor(editor, weights, mirror=mirror)
        found = quality([person.edit(faces[i]).image for i in held], truth)
        assert found is not None
        return found.psnr

    items = album_dataset(editor, known, mirror=mirror)
    with backed_up(workdir, storage.join(backup, TRAINING, workdir.name) if backup else None) as on_checkpoint:
        budget = TimeBudget(workdir / "minutes.txt", minutes)
        train_to = _trainer(editor, items, training, budget, workdir, on_progress, on_checkpoint)
        if early_stop and held:
            result = train_while_better(train_to, measure, total=training.total, every=early_stop, folder=workdir)
        else:
            result = train_to(training.samples)
    assert result.weights is not None
    own = own_editor(editor, result.weights, mirror=mirror)
    own.save(folder / WEIGHTS)
    after = [own.edit(faces[i]).image for i in shown]
    save_png(folder / SHEET, _sheet(own, [faces[i] for i in shown], [album.keys[i] for i in shown], before, after))
    split = {"trained_on": len(kept), "held_out": [album.keys[i] for i in held]}
    done = IdentityResult(
        name=name,
        album={**album.report(), **split, "fingerprint": mark},
        before=quality(before, truth),
        after=quality(after, truth),
        beside_live=_compare(live, own, album, dict(zip(held, after, strict=False))) if live else None,
        samples=result.samples_seen,
        metrics=result.metrics,
        seconds=time.monotonic() - started,
        cpu_seconds=time.process_time() - cpu_started,
    )
    storage.write_bytes(folder / RESULT, done.to_json())
    shutil.rmtree(folder / TRAINING)  # the checkpoints are four times the weights, and their work is done
    return done


def read_result(place: str) -> IdentityResult | None:
    """What a person's folder, or s3:// prefix, says has come of them; None while nothing has."""
    file = storage.join(place, RESULT)
    return IdentityResult.from_json(storage.read_bytes(file)) if storage.exists(file) else None


def _examined(source: str, editor: Editor, *, aligned: bool, force: bool) -> tuple[Album, list[Face]]:
    """The album with what the doctor says of it as its warnings, and its faces; a bad one is known before its training.

    Raises DrigError for one that has faults, unless forced.
    """
    album = load_album(source, editor.detector, editor.size, aligned=aligned)
    faces = fit_album(editor, album)
    check = examine(album, FaceCodes.cat([face.codes for face in faces]), editor.head, IdentityEmbedder())
    if not (check.passes or force):
        faults = "; ".join(verdict.text for verdict in check.verdicts if verdict.level == Level.FAULT)
        raise DrigError(f"the album is not good enough to train on: {faults}. Mend it, or train all the same: --force")
    return replace(album, warnings=tuple(verdict.text for verdict in check.verdicts)), faces


def _trainer(
    editor: Editor,
    items: Dataset[Item],
    training: TrainingConfig,
    budget: TimeBudget,
    workdir: Path,
    on_progress: OnProgress | None,
    on_checkpoint: OnCheckpoint | None,
) -> Callable[[int], TrainingResult]:
    """Trains on to so many samples in all, or less when the time is spent; no less than the warm-up."""
    seen = 0

    def progress(samples: int, metrics: dict[str, float]) -> None:
        nonlocal seen
        seen = samples
        budget.note()
        if on_progress:
            on_progress(samples, metrics)

    def train_on(samples: int) -> TrainingResult:
        return train(
            replace(training, samples=samples),
            editor.rig,
            items,
            workdir=workdir,
            on_progress=progress,
            on_checkpoint=on_checkpoint,
            should_stop=lambda: budget.is_spent and seen >= max(1, training.warmup),
        )

    def train_to(samples: int) -> TrainingResult:
        result = train_on(samples)
        return result if result.weights else train_on(result.samples_seen)  # stopped there: that is all it gets

    return train_to


def _workdir(folder: Path, mark: str, keys: Sequence[str]) -> Path:
    """That of the training on these photos; what was begun with others is of no use and goes."""
    name = hashlib.sha256("\n".join([mark, *keys]).encode()).hexdigest()[:16]
    for other in (folder / TRAINING).glob("*"):
        if other.name != name:
            storage.remove(other)  # files lie there too where an earlier drig began
    return folder / TRAINING / name


def _compare(live: LiveVersion, own: Editor, album: Album, made: Mapping[int, Picture]) -> Comparison | None:
    """On the held-out photos, whose reconstructions by the new version are `made`, by their place in the album."""
    unseen = [i for i in made if album.keys[i] not in live.trained_on]
    if not unseen:
        return None
    other = Editor.load(live.weights, base=live.base, device=str(own.device))
    if other.size != own.size:
        return None
    faces = fit_album(other, album)  # as its own head and estimator see them
    truth = [faces[i].portrait for i in unseen]
    theirs = quality([other.edit(faces[i]).image for i in unseen], truth)
    ours = quality([made[i] for i in unseen], truth)
    assert theirs is not None
    assert ours is not None
    return Comparison(photos=len(unseen), live=live.version, live_psnr=theirs.psnr, own_psnr=ours.psnr)


def hold_out(photos: int, count: int) -> list[int]:
    """`count` places, or of a small album every fourth, evenly over the album, whose order is often that of time."""
    count = min(count, photos // 4)
    return [int((i + 0.5) * photos / count) for i in range(count)]


def quality(made: Sequence[Picture], truth: Sequence[Portrait]) -> Quality | None:
    """Means over the pictures whose truth is given; None for none."""
    if not truth:
        return None
    pairs = [(picture, portrait.image, portrait.face) for picture, portrait in zip(made, truth, strict=False)]
    return Quality(
        psnr=float(np.mean([psnr(*pair) for pair in pairs])), ssim=float(np.mean([ssim(*pair) for pair in pairs]))
    )


def _sheet(
    own: Editor, faces: Sequence[Face], keys: Sequence[str], before: Sequence[Picture], after: Sequence[Picture]
) -> Picture:
    """Photos, their buffers with the mean shape, and reconstructions by the base rig and by the person's own."""
    rows = [
        [face.portrait.image, *buffer_pictures(own.buffers(own.reread(face).codes).stacked()[0])[:2], base, personal]
        for face, base, personal in zip(faces, before, after, strict=True)
    ]
    columns = ["portrait", "rendered", "normal", "base rig", "own rig"]
    return contact_sheet(rows, columns=columns, labels=[Path(key).name for key in keys])
