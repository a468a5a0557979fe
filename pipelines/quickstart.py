"""Everything once, on this machine: albums -> personalised people -> edits; buffers -> stage 1; HTTP; a report.

    drig quickstart
    drig quickstart --photos my_album/

The steps are the real ones, on the base rig that drig ships: people are personalised over it, and stage 1 continues it.
Each goes on where an earlier run of the same command stopped.
"""

import io
import platform
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import httpx
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from deployments.api.photos import PORTRAIT_SIZE
from deployments.serve import serving
from deployments.settings import ServeConfig
from drig import config as configs
from drig.data.albums import Album, load_album
from drig.data.photos import read_photo, save_png
from drig.data.synthetic import render_portrait, sample_person, sample_shot
from drig.editing import Editor
from drig.errors import DrigError, PhotoRejected
from drig.faces.controls import Controls
from drig.faces.landmarks import LandmarkDetector
from drig.faces.open_head import OpenHead
from drig.faces.portraits import Portrait, find_portrait
from drig.identities import BASE, Identities
from drig.personalization import fit_album
from drig.reading import FaceReader
from drig.report import write_report
from drig.tracking import Tracker, tracking_uri
from drig.training.config import TRAINING_PRESETS, TrainingConfig
from drig.training.loop import WEIGHTS
from pipelines import personalize, stage1
from pipelines.cluster import ClusterConfig, ray_cluster
from pipelines.edit_sheet import EditSheet, edit_sheet
from pipelines.extract_buffers import ExtractConfig, extract
from pipelines.extract_buffers import report as print_extraction
from pipelines.identity_training import IdentityResult
from pipelines.quickstart_report import (
    Served,
    buffers_section,
    edits_section,
    people_section,
    serving_section,
    stage1_section,
    time_section,
)
from pipelines.synthesize import PHOTO_SIZE, render_people

RIG = stage1.PRESETS["continue"]["rig"]
ALBUM_SEED = 1_000_003
"""Added to the seed for the people of the albums, so that stage 1 has met none of them."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much of everything: the difference between the quickstart and its --fast version."""

    identities: int
    """Synthetic people to personalise."""
    album: int
    """Portraits in each of their albums, the held-out ones included."""
    holdout: int
    """Portraits of each album that are kept from training, to edit and to measure on."""
    stage2: TrainingConfig
    people: int
    """Synthetic people that stage 1 goes on with."""
    photos: int
    """Portraits of each."""
    stage1: TrainingConfig


_STAGE1, _STAGE2 = TRAINING_PRESETS["small-continue"], TRAINING_PRESETS["tiny-stage2-delta"]
FULL = Budget(
    identities=2,
    album=16,
    holdout=4,
    stage2=_STAGE2,
    people=20,
    photos=4,
    stage1=replace(_STAGE1, samples=1_600, warmup=160, cooldown=800, checkpoint_every=800),
)
FAST = Budget(
    identities=2,
    album=6,
    holdout=2,
    stage2=replace(_STAGE2, samples=160, warmup=16, checkpoint_every=80, log_every=16),
    people=3,
    photos=4,
    stage1=replace(_STAGE1, samples=96, warmup=16, cooldown=32, checkpoint_every=48, log_every=16),
)


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig:
    """The whole system once, on this machine, with a report to look at."""

    photos: Path | None = None
    """A person of yours beside the synthetic ones: a folder of 10 to 20 photos of one person, or a video."""
    fast: bool = False
    """The same steps at the smallest sizes: to see that everything works, not to see good pictures."""
    runs: Path | None = None
    """Folder for everything that is made. None = runs, or runs/fast with --fast."""
    seed: int = 0
    """Of the synthetic people and of the training."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """The Ray to run on."""

    def __post_init__(self) -> None:
        if self.photos is not None and not self.photos.exists():
            raise DrigError(f"--photos {self.photos} does not exist; give a folder of one person's photos, or a video")

    @property
    def budget(self) -> Budget:
        return FAST if self.fast else FULL

    @property
    def folder(self) -> Path:
        return (self.runs or Path("runs/fast" if self.fast else "runs")).resolve()

    @property
    def own_name(self) -> str | None:
        """The name under which the person of `photos` is registered: the folder's."""
        return None if self.photos is None else re.sub(r"[^A-Za-z0-9_-]+", "-", self.photos.resolve().stem).strip("-_")


class Clock:
    """Wall time of each step, printed as the run goes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        print(f"\n== {len(self.seconds) + 1}. {name}", flush=True)
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start
        print(f"   {name}: {self.seconds[name]:.0f} s", flush=True)

    @property
    def total(self) -> float:
        """Seconds of all steps so far."""
        return sum(self.seconds.values())

    def metrics(self) -> dict[str, float]:
        """The seconds by names that MLflow takes."""
        return {f"seconds/{name.partition(' (')[0]}": seconds for name, seconds in self.seconds.items()}


def quickstart(config: QuickstartConfig) -> Path:
    """Run every step; the path of the report. Raises DrigError for albums that cannot be used."""
    folder, budget, clock = config.folder, config.budget, Clock()
    own_album = None if config.photos is None else _check_album(config.photos)
    configs.save(config, folder)
    tracker = Tracker(tracking_uri(folder), "quickstart")
    with ray_cluster(config.cluster), tracker.run("quickstart", key=str(folder)) as run:
        run.log_config(config)
        with clock.step("albums of synthetic people (Ray)"):
            albums = render_people(folder / "albums", budget.identities, budget.album, config.seed + ALBUM_SEED)
        with clock.step("personalisation (Ray)"):
            people = personalize.personalize(_personalization(config, albums))
            personalize.report(people)
        with clock.step("edits"):
            sheets = edit_people(config, people)
        print(f"   {clock.total:.0f} s to the first edits:")
        _say_sheets(config, sheets)
        with clock.step("an edit over HTTP (Ray Serve)"):
            served = edit_over_http(config, next(person for person in people if person.name != config.own_name))
        with clock.step("more portraits and their physical buffers (Ray Data)"):
            population = render_people(folder / "population", budget.people, budget.photos, config.seed)
            extracted = extract(_extraction(config, population))
            print_extraction(extracted)
        with clock.step("stage 1 continued on them (Ray Train)"):
            base = stage1.fit(_stage1(config))
        sections = [
            edits_section(sheets),
            people_section(people, own_album),
            serving_section(served),
            buffers_section(extracted.sheet),
            stage1_section(folder / "stage1", base, tracker.uri),
            time_section(clock.seconds),
        ]
        report = folder / "report.html"
        write_report(
            report,
            title="drig quickstart",
            lead=f"{date.today()} · {platform.processor() or platform.machine()}, {torch.get_num_threads()} threads · "
            f"{'--fast: smallest sizes, pictures are not meant to be good' if config.fast else f'{RIG.size} px'}",
            sections=sections,
            config=configs.to_yaml(config),
        )
        run.log_file(report)
        for sheet in sheets:
            run.log_image(f"edits/{sheet.identity}", sheet.picture)
        run.log_metrics(clock.metrics(), samples=base.samples_seen)
    _say_where(config, report, tracker, sheets)
    return report


def _check_album(photos: Path) -> Album:
    """The user's album, read before anything long starts. Raises DrigError if it cannot be used."""
    album = load_album(photos, LandmarkDetector(), RIG.size)
    print(f"{photos}: {len(album.portraits)} portraits, {len(album.rejects)} photos rejected")
    for key, reason in album.rejects.items():
        print(f"  rejected {key}: {reason}")
    for warning in album.warnings:
        print(f"  {warning}")
    return album


def _extraction(config: QuickstartConfig, population: Path) -> ExtractConfig:
    return ExtractConfig(
        photos=str(population),
        store=str(config.folder / "buffers"),
        size=RIG.size,
        aligned=True,
        finders=1,
        renderers=1,
        runs=config.folder,
        cluster=config.cluster,
    )


def _stage1(config: QuickstartConfig) -> stage1.Stage1Config:
    return stage1.Stage1Config(
        dataset=str(config.folder / "buffers"),
        storage=str(config.folder / "stage1"),
        runs=config.folder,
        register=False,  # the people stay over the base that drig ships, and so does whoever comes next
        **stage1.PRESETS["continue"] | {"training": replace(config.budget.stage1, seed=config.seed)},
        cluster=config.cluster,
    )


def _personalization(config: QuickstartConfig, albums: Path) -> personalize.PersonalizeConfig:
    mine = () if config.photos is None else (f"{config.own_name}={config.photos}",)
    return personalize.PersonalizeConfig(
        albums=(str(albums), *mine),
        storage=str(config.folder / "people"),
        runs=config.folder,
        training=replace(config.budget.stage2, seed=config.seed),
        holdout=config.budget.holdout,
        force=True,  # the report shows what the doctor says; --fast has few photos
        cluster=config.cluster,
    )


def edit_people(config: QuickstartConfig, people: Sequence[IdentityResult]) -> list[EditSheet]:
    """A sheet of edits for each person; its picture lies beside the person's weights."""
    base = Editor.load(Identities(tracking_uri(config.folder)).fetch(BASE))
    sheets = []
    for person in tqdm(people, unit="person", desc="edits"):
        place = str(config.photos) if person.name == config.own_name else str(config.folder / "albums" / person.name)
        own = Editor.load(Path(person.folder) / WEIGHTS, base=base)
        album = load_album(place, own.detector, own.size)
        faces = dict(zip(album.keys, fit_album(own, album), strict=True))
        truth = None if person.name == config.own_name else _Truth(person.name, config.seed + ALBUM_SEED, own)
        sources = person.album["held_out"] or person.album["used"]
        sheet = edit_sheet(person.name, base, own, faces, sources, seed=config.seed, truth=truth)
        save_png(Path(person.folder) / "edits.png", sheet.picture)
        sheets.append(sheet)
    return sheets


class _Truth:
    """The true answer of an edit of a synthetic person: the photo that would have been taken with the target's light,
    face or pose, as a portrait like those of the album."""

    def __init__(self, name: str, seed: int, editor: Editor) -> None:
        self.head = OpenHead.load()
        self.person = sample_person(self.head, seed, int(name.removeprefix("person_")))
        self.editor = editor

    def __call__(self, source: str, target: str, mode: str) -> Portrait | None:
        shot, other = (sample_shot(self.person, int(Path(key).stem)) for key in (source, target))
        photo = render_portrait(self.head, self.person, shot.with_attributes(other, {mode}), PHOTO_SIZE).image
        try:
            return find_portrait(photo, self.editor.detector, self.editor.size)
        except PhotoRejected:
            return None


def edit_over_http(config: QuickstartConfig, person: IdentityResult) -> Served:
    """Serve the identities, ask for an edit of one, compare it with the Editor's, stop. DrigError if it fails."""
    photo = config.folder / "albums" / person.name / person.album["held_out"][0]
    controls = Controls(yaw=15, light_direction=(1.0, 0.5, 0.7))
    fields = {"identity": person.name, "yaw": "15", "light_direction": "1,0.5,0.7", "seed": "7"}
    settings = ServeConfig(tracking_uri=tracking_uri(config.folder), work=str(config.folder.resolve() / "jobs"))
    with serving(settings, port=0) as url:
        seconds = []
        for _ in range(2):
            start = time.monotonic()
            with photo.open("rb") as file:
                answer = httpx.post(f"{url}/v1/edits", data=fields, files={"source": file}, timeout=120)
            if answer.is_error:
                raise DrigError(f"{url}/v1/edits answered {answer.status_code}: {answer.text}")
            seconds.append(time.monotonic() - start)
    over_http = np.asarray(Image.open(io.BytesIO(answer.content)))
    base = Identities(tracking_uri(config.folder)).fetch(BASE)
    editor = Editor.load(Path(person.folder) / WEIGHTS, base=base)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the server reads it: sums over more end in other bits, and an edge in another pixel
    face = FaceReader(editor.head, editor.estimator).read(read_photo(photo), PORTRAIT_SIZE)
    torch.set_num_threads(threads)
    here = editor.edit(face, controls=controls, seed=7).image
    difference = int(np.abs(over_http.astype(int) - here).max())
    print(f"   {seconds[1]:.2f} s an edit; largest difference to the same edit made here: {difference} of 255")
    return Served(seconds=seconds[0], again=seconds[1], largest_difference=difference)


def _say_where(config: QuickstartConfig, report: Path, tracker: Tracker, sheets: Sequence[EditSheet]) -> None:
    """Where to look and what to try next."""
    runs = "" if config.folder == Path("runs").resolve() else f" --runs {config.folder}"
    person = sheets[-1].identity if config.own_name is None else config.own_name
    print(f"\nreport    {report}")
    _say_sheets(config, sheets)
    print(f"runs      {tracker.how_to_open}")
    print("\nnext, for example:")
    print(f"  drig edit me.jpg --like sunset.jpg --modes light --identity {person}{runs}")
    print(f"  drig personalize --albums me=my_photos/ --storage {config.folder / 'me'}{runs}")
    print(f"  drig serve{runs}")


def _say_sheets(config: QuickstartConfig, sheets: Sequence[EditSheet]) -> None:
    for sheet in sheets:
        print(f"edits     {config.folder / 'people' / sheet.identity / 'edits.png'}")


def main(argv: Sequence[str] | None = None, *, prog: str = "quickstart") -> int:
    """The command line; returns the exit code."""
    return configs.run(
        QuickstartConfig,
        lambda config: _ignore(quickstart(config)),
        argv,
        prog=prog,
        description=QuickstartConfig.__doc__ or "",
    )


def _ignore(_: Path) -> None:
    """`configs.run` wants a program without a result."""


if __name__ == "__main__":
    sys.exit(main())
