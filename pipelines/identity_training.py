"""One person: album -> portraits -> codes -> mean shape -> buffers -> stage 2 -> a weights file, and how good it is.

Runs without Ray; `pipelines/personalize.py` runs many of these at once.
"""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from drig import storage
from drig.data.albums import Album, load_album, mean_shape
from drig.data.albums.doctor import examine
from drig.data.photos import save_png
from drig.editing import Editor, Face
from drig.errors import DrigError
from drig.faces.codes import FaceCodes
from drig.faces.identity_embedding import IdentityEmbedder
from drig.metrics import psnr, ssim
from drig.personalization import album_dataset, fit_album, own_editor
from drig.pictures import Picture, buffer_pictures, contact_sheet
from drig.training.config import TrainingConfig
from drig.training.loop import WEIGHTS, TrainingResult, train
from pipelines.early_stopping import train_while_better

RESULT = "result.json"
SHEET = "sheet.png"


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How close reconstructions come to photos that the training did not see: means over the photos."""

    psnr: float
    """dB"""
    ssim: float
    """0..1"""


@dataclass(frozen=True, kw_only=True)
class IdentityResult:
    """What came of one person."""

    name: str
    album: dict[str, Any] = field(default_factory=dict)
    """Photos used, rejects with reasons, warnings, and the held-out ones."""
    before: Quality | None = None
    """Of the base rig on the held-out photos; None without any."""
    after: Quality | None = None
    """Of the person's rig."""
    samples: int = 0
    """That the weights were trained on: the budget, or where early stopping found them best."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The training's last report."""
    seconds: float = 0.0
    """Wall time; after an interruption, since then."""
    version: int | None = None
    """In the registry of identities."""
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
    device: str = "cpu",
    on_progress: Callable[[int, dict[str, float]], None] | None = None,
) -> IdentityResult:
    """Personalise the rig in `base`; leaves weights.safetensors (mean shape inside) and sheet.png in `folder`.

    With `training.delta_rank` the weights are a delta over `base`.

    holdout: photos kept from training to measure on, at most a quarter of the album.
    mirror: train on the mirror images of the photos too.
    early_stop: measure these every so many samples, and take the weights from before they get no better.

    Called again after an interruption, it goes on from the newest checkpoint in `folder`. Raises DrigError for an album
    that cannot be used.
    """
    started = time.monotonic()
    editor = Editor.load(base, device=device)
    album = load_album(source, editor.detector, editor.size, aligned=aligned)
    faces = fit_album(editor, album)
    album = replace(album, warnings=warn(album, FaceCodes.cat([face.codes for face in faces]), editor))
    held = hold_out(len(faces), holdout)
    kept = [i for i in range(len(faces)) if i not in held]
    _require_same_album(folder, [album.keys[i] for i in kept])
    shown = held or kept[:2]
    before = [editor.edit(faces[i]).image for i in shown]
    editor.mean_shape = mean_shape(FaceCodes.cat([faces[i].codes for i in kept]))
    truth = [faces[i].portrait.image for i in held]
    album_items = album_dataset(editor, [faces[i] for i in kept], mirror=mirror)

    def train_to(samples: int) -> TrainingResult:
        config = replace(training, samples=samples)
        return train(config, editor.rig, album_items, workdir=folder / "training", on_progress=on_progress)

    def measure(weights: Path) -> float:
        person = own_editor(editor, weights)
        found = quality([person.edit(faces[i]).image for i in held], truth)
        assert found is not None
        return found.psnr

    if early_stop and held:
        result = train_while_better(
            train_to, measure, total=training.total, every=early_stop, folder=folder / "training"
        )
    else:
        result = train_to(training.samples)
    assert result.weights is not None, "nothing asks the loop to stop early"
    own = own_editor(editor, result.weights)
    own.save(folder / WEIGHTS)
    after = [own.edit(faces[i]).image for i in shown]
    save_png(folder / SHEET, _sheet(own, [faces[i] for i in shown], [album.keys[i] for i in shown], before, after))
    shutil.rmtree(folder / "training")  # the checkpoints are four times the weights, and their work is done
    return IdentityResult(
        name=name,
        album={**album.report(), "trained_on": len(kept), "held_out": [album.keys[i] for i in held]},
        before=quality(before, truth),
        after=quality(after, truth),
        samples=result.samples_seen,
        metrics=result.metrics,
        seconds=time.monotonic() - started,
    )


def warn(album: Album, codes: FaceCodes, editor: Editor) -> tuple[str, ...]:
    """What the doctor says of the album, with what to do: a bad one is known before its training, not after it."""
    check = examine(album, codes, editor.head, IdentityEmbedder())
    return tuple(verdict.text for verdict in check.verdicts)


def hold_out(photos: int, count: int) -> list[int]:
    """`count` places, or of a small album every fourth, evenly over the album, whose order is often that of time."""
    count = min(count, photos // 4)
    return [int((i + 0.5) * photos / count) for i in range(count)]


def quality(made: Sequence[Picture], truth: Sequence[Picture]) -> Quality | None:
    """Means over the pictures whose truth is given; None for none."""
    if not truth:
        return None
    pairs = list(zip(made, truth, strict=False))
    return Quality(
        psnr=float(np.mean([psnr(m, t) for m, t in pairs])), ssim=float(np.mean([ssim(m, t) for m, t in pairs]))
    )


def _require_same_album(folder: Path, keys: Sequence[str]) -> None:
    """Raise where `folder` holds a training that was begun with other photos; otherwise note these."""
    file = folder / "photos.json"
    if file.exists() and json.loads(file.read_bytes()) != list(keys):
        raise DrigError(
            f"{folder} holds a training that was begun with other photos; delete it, or use another folder."
        )
    storage.write_bytes(file, json.dumps(list(keys)).encode())


def _sheet(
    own: Editor, faces: Sequence[Face], keys: Sequence[str], before: Sequence[Picture], after: Sequence[Picture]
) -> Picture:
    """Photos, their buffers with the mean shape, and reconstructions by the base rig and by the person's own."""
    rows = [
        [face.portrait.image, *buffer_pictures(own.buffers(face.codes).stacked()[0])[:2], base, personal]
        for face, base, personal in zip(faces, before, after, strict=True)
    ]
    columns = ["portrait", "rendered", "normal", "base rig", "own rig"]
    return contact_sheet(rows, columns=columns, labels=[Path(key).name for key in keys])
