"""Edits whose true answers are known, by baselines, the base rig and personalised rigs; a report and a verdict.

    python pipelines/evaluate.py
    python pipelines/evaluate.py --base runs/stage1/weights.safetensors --photos me/
    python pipelines/evaluate.py --methods all --against benchmarks/results/evaluation.json

Every person is one row of Ray Data: rendered, personalised for, edited and measured on one worker. The same command
goes on with the people that are not done.
"""

import dataclasses
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ray
import torch

from drig import config as configs
from drig import logs, storage
from drig.data.albums import Album, load_album
from drig.editing import Editor
from drig.errors import DrigError
from drig.evaluation.measures import Measures
from drig.evaluation.methods import METHODS, Maker
from drig.evaluation.subjects import Subject, left_out, synthetic_subject
from drig.evaluation.summary import EDITS, Change, Gains, Interval, Summary, changes, gains, summarise
from drig.evaluation.trials import Answered, answer
from drig.shipped_base import SHIPPED_BASE
from drig.training.config import TRAINING_PRESETS, TrainingConfig
from drig.versions import versions
from pipelines.cluster import ClusterConfig, quieten_ray_data, ray_cluster, use_gpu
from pipelines.evaluation_report import evaluation_report
from pipelines.progress import Board, board_bar
from pipelines.run_folder import absolute, open_run, work_folder

RESULT, ROWS, PICTURES, REPORT = "result.json", "rows.csv", "pictures.npz", "report.html"
PERSONALISED = "personalised"
USUAL = ("truth", "copy", "buffers", "own_buffers", "plain_base", "base", PERSONALISED, "told")


_SHOWN = ("face_psnr", "psnr", "face_ssim", "features", "light", "exp", "pose", "identity")  # on the terminal


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Measure edits whose true answers are known."""

    base: Path = SHIPPED_BASE
    """Weights of the base rig, on every node; without it, the one that drig ships."""
    out: str = "runs/evaluation"
    """Folder or s3:// prefix for the result and the report, which all nodes reach. Given again, the run goes on."""
    people: int = 8
    """Synthetic people, whom no rig has met. 0 = none."""
    album: int = 20
    """Photos of each that personalisation learns from."""
    unseen: int = 12
    """Photos of each that are edited: reconstructed, and edited like the next one in seven ways."""
    photos: str | None = None
    """Also a real person: a folder of photos. Each is made from the one before it by a rig that has not seen it."""
    aligned: bool = False
    """The photos are FFHQ crops already."""
    methods: tuple[str, ...] = USUAL
    """Who answers, any of: truth, copy, buffers, own_buffers, plain_base, base, personalised, told, 10_photos,
    5_photos, 1_photo, same_light, whole_rig; or all. Each that trains takes minutes a person, and is left out where the
    album is too small for it."""
    training: TrainingConfig = TRAINING_PRESETS["tiny-stage2-delta"]
    """Of the personalised ones."""
    whole: TrainingConfig = TRAINING_PRESETS["tiny-stage2"]
    """Of whole_rig."""
    mirror: bool = True
    """Train on mirror images too."""
    steps: int | None = None
    """Of the sampler. None = as many as the rig needs."""
    sampler: str = "ddim"
    """ddim, dpmpp, unipc or heun."""
    against: Path | None = None
    """result.json of an earlier run: exit code 1 if a measure is worse than its confidence interval there."""
    workers: int = 2
    """People at the same time; each on a GPU where there are any."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Where it runs."""

    def __post_init__(self) -> None:
        for name, least in (("people", 0), ("album", 2), ("unseen", 2), ("steps", 1), ("workers", 1)):
            given = getattr(self, name)
            if given is not None and given < least:
                raise DrigError(f"{name} is {given}; give {least} or more")
        if not self.people and self.photos is None:
            raise DrigError("nobody to evaluate on; give --people or --photos")
        unknown = sorted(set(self.methods) - {*METHODS, "all"})
        if unknown or not self.methods:
            raise DrigError(f"methods {', '.join(unknown) or 'are none'}; choose from {', '.join(METHODS)}, or all")
        for path in (self.base, self.against):
            if path is not None and not path.exists():
                raise DrigError(f"{path} does not exist")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The methods, in the order of METHODS."""
        return tuple(name for name in METHODS if "all" in self.methods or name in self.methods)


_CHANGEABLE = {"people", "photos", "out", "against", "workers", "cluster"}


@dataclass(frozen=True)
class Result:
    """What was measured."""

    rows: pd.DataFrame
    """Every answer, `drig.evaluation.trials`."""
    summary: Summary
    """Of the synthetic people."""
    real: Summary
    """Of the real person; every photo counts as a person."""
    gains: Gains
    """What personalisation has more of than the others, synthetic people."""
    folder: str
    changes: list[Change]
    """Against the earlier result, if one was given."""
    errors: dict[str, str]
    """Subject that could not be evaluated -> why."""


@dataclass(frozen=True)
class Person:
    """Somebody to evaluate on, as a row of Ray Data."""

    name: str
    index: int
    real: bool


def evaluate(config: EvaluateConfig) -> Result:
    """Evaluate, or go on with it. Raises DrigError for unusable input, and where nobody could be evaluated."""
    config = dataclasses.replace(config, out=absolute(config.out), base=Path(absolute(config.base)))
    earlier = read_summary(config.against) if config.against else {}
    open_run(config.out, config, changeable=_CHANGEABLE)
    editor = Editor.load(config.base)
    album = None
    if config.photos is not None:
        album = load_album(config.photos, editor.detector, editor.size, aligned=config.aligned)
    people = [Person(f"person_{i:04d}", i, False) for i in range(config.people)]
    people += [Person(f"photo_{i:04d}", i, True) for i in range(len(album.keys) if album else 0)]
    todo = [person for person in people if not storage.exists(storage.join(config.out, person.name, ROWS))]
    print(f"{len(people)} people and photos to evaluate on, {len(people) - len(todo)} of them done before", flush=True)
    errors = _run(config, album, todo) if todo else {}
    done = [person for person in people if person.name not in errors]
    if not done:
        raise DrigError(f"nobody could be evaluated: {next(iter(errors.values()))}")
    tables = {person: _table(config.out, person.name) for person in done}
    rows = pd.concat(
        [table.assign(real=person.real, folder=person.name) for person, table in tables.items()], ignore_index=True
    )
    summary, real = (summarise(rows[rows["real"] == flag]) for flag in (False, True))
    gained = gains(rows[~rows["real"]], PERSONALISED)
    result = Result(rows, summary, real, gained, config.out, list(changes(summary, earlier)), errors)
    _write(config, result)
    return result


def _run(config: EvaluateConfig, album: Album | None, todo: Sequence[Person]) -> dict[str, str]:
    """Evaluate on everybody, files in their folders; why somebody could not be."""
    from ray.data import from_items

    errors: dict[str, str] = {}
    with ray_cluster(config.cluster):
        quieten_ray_data()
        board = Board()

        def work(row: dict[str, Any]) -> dict[str, Any]:
            return {"name": row["name"], "error": _evaluate_one(config, album, Person(**row), board)}

        gpus = 1 if use_gpu(config.cluster) else 0
        data: Any = from_items([asdict(person) for person in todo], override_num_blocks=len(todo))
        data = data.map(work, num_cpus=1, num_gpus=gpus, concurrency=config.workers)
        data.context.execution_no_progress_timeout_s = -1  # a person with many methods may take hours
        with board_bar(board, total=len(todo) * len(config.chosen), unit="method", title="evaluate"):
            for row in data.iter_rows():
                logs.event("subject_failed" if row["error"] else "subject_finished", subject=row["name"])
                if row["error"]:
                    errors[row["name"]] = row["error"]
                    print(f"\n{row['name']}: {row['error']}", file=sys.stderr, flush=True)
    return errors


def _evaluate_one(config: EvaluateConfig, album: Album | None, person: Person, board: Board) -> str:
    """One person's table and pictures into their folder; returns why not, or nothing."""
    device = "cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
    place, done = storage.join(config.out, person.name), 0

    def on_method(_: str) -> None:
        nonlocal done
        done += 1
        board.put({person.name: done})

    try:
        base = Editor.load(config.base, device=device)
        subject = _subject(config, album, person, base)
        methods = [name for name in config.chosen if METHODS[name].is_possible(subject)]
        maker = Maker(
            base,
            subject,
            config.training,
            config.whole,
            work_folder(storage.join(place, "training")),
            mirror=config.mirror,
            steps=config.steps,
            sampler=config.sampler,
        )
        answered = answer(maker, Measures(base, [face.portrait for face in subject.album]), methods, on_method)
    except DrigError as error:
        return str(error)
    _save(place, answered)
    return ""


def _subject(config: EvaluateConfig, album: Album | None, person: Person, base: Editor) -> Subject:
    if person.real:
        assert album is not None
        return left_out(base, album, person.index)
    return synthetic_subject(base, person.index, album=config.album, unseen=config.unseen)


def _save(place: str, answered: Answered) -> None:
    """The table last: where it is, everything is."""
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **answered.pictures)
    storage.write_bytes(storage.join(place, PICTURES), packed.getvalue())
    storage.write_bytes(storage.join(place, ROWS), answered.rows.to_csv(index=False).encode())


def _table(place: str, name: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(storage.read_bytes(storage.join(place, name, ROWS))))


def _pictures(place: str, name: str) -> dict[str, np.ndarray]:
    return dict(np.load(io.BytesIO(storage.read_bytes(storage.join(place, name, PICTURES)))))


def read_summary(path: Path) -> Summary:
    """The synthetic people's summary of a result.json. Raises DrigError for another file."""
    try:
        return {
            method: {
                edit: {measure: Interval(**values) for measure, values in measures.items()}
                for edit, measures in edits.items()
            }
            for method, edits in json.loads(path.read_bytes())["summary"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DrigError(f"{path} is no result of drig evaluate ({error}): give its {RESULT}") from None


def _write(config: EvaluateConfig, result: Result) -> None:
    """result.json, rows.csv and report.html."""
    about = {"date": date.today().isoformat(), **versions()}
    content = {
        **about,
        "people": config.people,
        "config": configs.to_dict(config),
        "summary": _plain(result.summary),
        "real": _plain(result.real),
        "gains": _plain({PERSONALISED: result.gains})[PERSONALISED],
    }
    page = evaluation_report(
        result.rows,
        result.summary,
        result.real,
        result.gains,
        pictures=lambda name: _pictures(result.folder, name),
        about=about,
        config=configs.to_yaml(config),
        changes=result.changes,
    )
    files = {ROWS: result.rows.to_csv(index=False), RESULT: json.dumps(content, indent=1), REPORT: page}
    for name, text in files.items():
        storage.write_bytes(storage.join(result.folder, name), text.encode())


def _plain(summary: Summary) -> dict[str, Any]:
    return {
        method: {edit: {name: asdict(value) for name, value in values.items()} for edit, values in edits.items()}
        for method, edits in summary.items()
    }


def report(result: Result) -> int:
    """Print the table of all edits together; exit code 1 where a measure got worse, or somebody failed."""
    for title, summary in (("synthetic people", result.summary), ("the real person, photos left out", result.real)):
        if summary:
            print(f"\nedits of {title}: mean ± 95% confidence")
            print("\n".join(_lines(summary)))
    for other, gained in result.gains.items():
        found = ", ".join(f"{name} {gained[name]:+}" for name in _SHOWN if name in gained)
        print(f"{PERSONALISED} against {other}: {found}")
    for change in result.changes:
        print(f"{'WORSE' if change.worse else 'better'}: {change}")
    for name, error in result.errors.items():
        print(f"failed: {name}: {error}", file=sys.stderr)
    print(f"\nlook at {storage.join(result.folder, REPORT)}; numbers in {RESULT} and {ROWS} beside it")
    return int(any(change.worse for change in result.changes) or bool(result.errors))


def _lines(summary: Summary) -> Iterator[str]:
    yield f"{'':14}" + "".join(f"{name:>16}" for name in _SHOWN)
    for method, edits in summary.items():
        cells = (str(edits[EDITS].get(name, "-")) for name in _SHOWN)
        yield f"{method:14}" + "".join(f"{cell:>16}" for cell in cells)


def main(argv: Sequence[str] | None = None, *, prog: str = "evaluate") -> int:
    """The command line; returns the exit code."""
    return configs.run(
        EvaluateConfig,
        lambda config: report(evaluate(config)),
        argv,
        prog=prog,
        description="Measure edits whose true answers are known.",
    )


if __name__ == "__main__":
    sys.exit(main())
