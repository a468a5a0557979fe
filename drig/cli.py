"""The `drig` command: parse, call, print. Every verb takes --help, --config FILE and --dry-run."""

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tqdm import tqdm

from drig import config as configs
from drig.errors import DrigError
from drig.faces.controls import Controls

if TYPE_CHECKING:
    from drig.editing import Editor

DEFAULT_RUNS = Path("runs")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `drig VERB ...`; returns the exit code: 0, or 2 for something the user can fix."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_usage("drig", VERBS))
        return 0 if words else 2
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        print(f"drig: error: unknown verb {verb!r}; choose from {', '.join(VERBS)}", file=sys.stderr)
        return 2
    # Ray reads this when it is imported: a line that Serve's stop prints although it went well.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "ServeController.graceful_shutdown failed")
    return VERBS[verb].run(f"drig {verb}", rest)


@dataclass(frozen=True)
class Verb:
    """What `drig VERB` does, and the function (prog, argv) -> exit code that does it."""

    summary: str
    run: Callable[[str, Sequence[str]], int]


@dataclass(frozen=True, kw_only=True)
class EditConfig:
    """Edit a photo: like another photo (--like, --modes), or by numbers (--controls.yaw 20)."""

    photo: Path
    """The photo to edit; the largest face in it is found and cropped."""
    like: Path | None = None
    """A photo to take light, expression, pose or the rest from."""
    modes: tuple[str, ...] = ()
    """What to take from --like, any of: light, exp, pose, latent. Empty = light,exp,pose where --like is given."""
    controls: Controls = field(default_factory=Controls)
    """Explicit numbers, applied after --like."""
    identity: str = "base"
    """Whose model edits: a personalised identity (see `drig identities`), or base, which knows nobody."""
    out: Path = Path("edited.png")
    """The edited portrait."""
    sheet: Path | None = None
    """Also write a picture of source, target, buffers and edit here."""
    steps: int = 20
    """Steps of the sampler."""
    sampler: Literal["ddim", "dpmpp", "unipc", "heun"] = "ddim"
    """How the noise is removed: ddim as in the paper, unipc or dpmpp in fewer steps, heun with two calls a step."""
    seed: int = 0
    """Seed of the start noise."""
    aligned: bool = False
    """The photos are FFHQ crops already."""
    runs: Path = DEFAULT_RUNS
    """The folder of runs that holds the identities; MLFLOW_TRACKING_URI overrides it."""

    def __post_init__(self) -> None:
        if self.like is None and not self.controls:
            raise DrigError("nothing to edit; give --like PHOTO, or a control such as --controls.yaw 20 (see --help)")


def edit(config: EditConfig) -> None:
    """Edit one photo and write the picture."""
    from drig.data.photos import read_photo, save_png
    from drig.pictures import buffer_pictures, contact_sheet

    photo, like = read_photo(config.photo), None if config.like is None else read_photo(config.like)
    editor = _load_editor(config.identity, config.runs)
    source = editor.read(photo, aligned=config.aligned)
    target = None if like is None else editor.read(like, aligned=config.aligned)
    modes = config.modes or (("light", "exp", "pose") if target else ())
    with tqdm(total=config.steps, unit="step", desc="edit", leave=False) as bar:

        def advance(done: int, *_: object) -> None:
            bar.update(done - bar.n)

        edited = editor.edit(
            source,
            target,
            modes=modes,
            controls=config.controls,
            steps=config.steps,
            sampler=config.sampler,
            seed=config.seed,
            on_step=advance,
        )
    save_png(config.out, edited.image)
    for warning in edited.warnings:
        print(f"note: {warning}")
    print(f"edited portrait: {config.out}")
    if config.sheet is not None:
        shown = None if target is None else target.portrait.image
        pictures = [source.portrait.image, shown, *buffer_pictures(edited.buffers)]
        columns = ["source", "target", "rendered", "normal", "albedo", "edit"]
        save_png(config.sheet, contact_sheet([[*pictures, edited.image]], columns=columns))
        print(f"sheet: {config.sheet}")


def _load_editor(identity: str, runs: Path) -> "Editor":
    from drig.editing import Editor
    from drig.identities import BASE, Identities
    from drig.tracking import tracking_uri

    registry = Identities(tracking_uri(runs))
    if identity == BASE:
        registry.ensure_base()
    return Editor.load(registry.fetch(identity), base=registry.fetch_base(identity))


@dataclass(frozen=True, kw_only=True)
class ShowcaseConfig:
    """Look at what a rig makes of a photo: a lamp that goes round the head, a head that turns, expressions."""

    photo: Path
    """The photo to edit; the largest face in it is found and cropped."""
    identity: str = "base"
    """Whose model edits: a personalised identity (see `drig identities`), or base, which knows nobody."""
    out: Path = Path("showcase.png")
    """The sheet."""
    steps: int = 20
    """Steps of the sampler."""
    sampler: Literal["ddim", "dpmpp", "unipc", "heun"] = "ddim"
    """As of `drig edit`."""
    seed: int = 0
    """Seed of the start noise."""
    aligned: bool = False
    """The photo is an FFHQ crop already."""
    runs: Path = DEFAULT_RUNS
    """The folder of runs that holds the identities; MLFLOW_TRACKING_URI overrides it."""


def showcase(config: ShowcaseConfig) -> None:
    """Write the sheet."""
    from drig import showcase as sheets
    from drig.data.photos import read_photo, save_png

    photo = read_photo(config.photo)
    editor = _load_editor(config.identity, config.runs)
    face = editor.read(photo, aligned=config.aligned)
    sheet = sheets.showcase(editor, face, steps=config.steps, sampler=config.sampler, seed=config.seed)
    save_png(config.out, sheet)
    print(f"sheet: {config.out}")


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Look at what is found in photos: faces, the fitted head, its buffers and how well they explain the photo."""

    photos: Path
    """A photo, or a folder, searched with its sub-folders."""
    out: Path = Path("inspection.png")
    """Picture with a row for each face."""
    size: int = 256
    """Side of the portraits in pixels."""
    aligned: bool = False
    """The photos are FFHQ crops already."""
    head: str = "open"
    """Head model: open, or flame with your own files."""
    head_folder: Path | None = None
    """Folder of the FLAME (and DECA) files. None = the one that DRIG_FACE_FILES names; the open head needs none."""
    estimator: str = "fit"
    """What estimates the face codes: fit for the open head, deca for FLAME."""


def inspect(config: InspectConfig) -> None:
    """Print a line for each photo and write the picture."""
    from drig import inspection
    from drig.data.photos import list_photos, save_png
    from drig.faces.estimators import load_estimator
    from drig.faces.head import load_head

    head = load_head(config.head, config.head_folder)
    estimator = load_estimator(config.estimator, head)
    paths = [str(config.photos)] if config.photos.is_file() else list_photos(config.photos, recursive=True)
    found = []
    for path in tqdm(paths, unit="photo", desc="inspect"):
        found += inspection.inspect([path], head, estimator, config.size, aligned=config.aligned)
    print(inspection.table(found))
    if not any(isinstance(item.outcome, inspection.Fitted) for item in found):
        raise DrigError(f"no face in {config.photos} can be used; the reasons are above")
    save_png(config.out, inspection.sheet(found))
    print(f"picture: {config.out}")


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Turn a file of the released implementation into drig's: a model into weights, a data set into a buffer store."""

    path: Path
    """A released model (modelNNNNNN.pt), or the folder of a released LMDB data set; told by content."""
    out: Path
    """The weights file or the buffer store to make. The same command continues an interrupted data set."""
    mean_shape: Path | None = None
    """mean_shape.pkl of a personalised model. None = a model of many people."""
    size: int | None = None
    """Side of a model's images in pixels. None = as its attention tells, which is right for every released model."""


def import_released(config: ImportConfig) -> None:
    """Convert and say what was found."""
    from drig.data.released import conversion

    lines = conversion.import_released(
        config.path, config.out, mean_shape=config.mean_shape, size=config.size, progress=_faces("import")
    )
    print("\n".join(lines))


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Turn drig's weights or a buffer store into the released implementation's model or data set."""

    path: Path
    """A weights file (.safetensors), or the folder of a buffer store; told by content."""
    out: Path
    """The model (.pt; mean_shape.pkl goes beside it) or the folder of the LMDB data set to make."""
    base: Path | None = None
    """The weights that a person's delta is over; the model is then the two in one."""


def export_released(config: ExportConfig) -> None:
    """Convert and say what was found."""
    from drig.data.released import conversion

    print("\n".join(conversion.export_released(config.path, config.out, base=config.base, progress=_faces("export"))))


def _faces(title: str) -> Callable[[Iterable[int], int], Iterable[int]]:
    """A progress bar around faces and their number."""
    return lambda faces, total: tqdm(faces, total=total, unit="face", desc=title)


@dataclass(frozen=True, kw_only=True)
class IdentitiesConfig:
    """List the personalised identities, register weights as one, or delete one for good."""

    register: str | None = None
    """Name under which `drig edit` and `drig serve` are to find --weights: a person, or base for the base rig."""
    weights: Path | None = None
    """The weights to register, such as `drig import` makes."""
    delete: str | None = None
    """Name of an identity to delete, with all its versions."""
    runs: Path = DEFAULT_RUNS
    """The folder of runs that holds them; MLFLOW_TRACKING_URI overrides it."""

    def __post_init__(self) -> None:
        if (self.register is None) != (self.weights is None):
            raise DrigError("--register and --weights belong together: give the name and the file")
        if self.register is not None and self.delete is not None:
            raise DrigError("--register or --delete: give one of the two")


def identities(config: IdentitiesConfig) -> None:
    """Print a table of identities, or change it."""
    from drig.identities import BASE, Identities
    from drig.tracking import tracking_uri

    registry = Identities(tracking_uri(config.runs))
    if config.register is not None and config.weights is not None:
        base = config.register == BASE
        version = (
            registry.register_base(config.weights)
            if base
            else registry.register(config.register, config.weights, album_report=None)
        )
        print(f"registered {config.register}, version {version}")
        return
    if config.delete is not None:
        registry.delete(config.delete)
        print(f"deleted {config.delete}")
        return
    row = "{:<24} {:>7} {:>6} {:>6}  {}"
    print(row.format("identity", "version", "photos", "size", "created"))
    for info in registry.list():
        photos = "-" if info.photos is None else info.photos
        print(row.format(info.name, info.version, photos, info.size, f"{info.created:%Y-%m-%d %H:%M}"))


@dataclass(frozen=True, kw_only=True)
class AlbumBuildConfig:
    """Make an album of one person: the best and most different of any photos and videos, aligned."""

    sources: tuple[str, ...]
    """Photos, videos, and folders of either."""
    out: Path
    """Folder for the portraits (00.png, 01.png, ..), album.json and sheet.png. An album that is there is replaced."""
    like: Path | None = None
    """A photo of the person. None = whoever is in the most photos."""
    least: int = 10
    """With fewer usable photos no album is made."""
    most: int = 20
    """The paper personalises with 10 to 20."""
    size: int = 256
    """Side of the portraits in pixels."""

    def __post_init__(self) -> None:
        if not 2 <= self.least <= self.most <= 100:
            raise DrigError(f"--least is {self.least} and --most {self.most}; give 2 <= least <= most <= 100")
        if self.size < 64:
            raise DrigError(f"--size is {self.size}; give 64 or more")


def album_build(config: AlbumBuildConfig) -> None:
    """Build the album, and say who and what was left out."""
    from drig.data.albums import building
    from drig.data.albums.loading import SHEET
    from drig.data.photos import read_photo
    from drig.faces.estimators import load_estimator
    from drig.faces.head import load_head

    building.check_free(config.out, config.sources)
    like = None if config.like is None else read_photo(config.like)
    head = load_head("open")
    with tqdm(unit="picture") as bar:

        def advance(step: str, done: int, total: int) -> None:
            if not bar.desc.startswith(step):
                bar.reset(total)
                bar.set_description(step)
            bar.update(done - bar.n)

        builder = building.AlbumBuilder(head=head, estimator=load_estimator("fit", head), on_progress=advance)
        found = builder.find(config.sources, config.size)
        built = builder.choose(found, least=config.least, most=config.most, like=like)
    building.write_album(built, config.out)
    for reason, count in building.count_reasons(built.left_out):
        print(f"left out {count}: {reason}")
    for note in built.notes:
        print(f"note: {note}")
    for verdict in built.check.verdicts:
        print(f"{verdict.level}: {verdict.text}")
    strangers = "1 other person was" if built.others == 1 else f"{built.others} other people were"
    others = f"; {strangers} left out" if built.others else ""
    print(f"{len(built.candidates)} portraits in {config.out}{others}. {built.check.summary}")
    print(f"look at {config.out / SHEET}; a folder of such folders is what personalize takes:")
    print(f"  drig personalize --photos {config.out.parent} --aligned")


@dataclass(frozen=True, kw_only=True)
class AlbumCheckConfig:
    """Say whether an album is fit to be trained on, and what to do about it. Exit code 0: it is, perhaps with remarks;
    1: it should not be trained on."""

    album: str
    """A folder of photos of one person, one that `drig album build` made, or a video."""
    dataset: Path | None = None
    """Buffer store that the base rig was trained on, to compare the photos with. None = the head's own statistics."""
    out: Path | None = None
    """Folder for report.html and check.json. None = the album's folder, or beside the video."""
    size: int = 256
    """Side of the portraits in pixels."""
    aligned: bool = False
    """The photos are FFHQ crops already; albums that `drig album build` made are known to be."""

    def __post_init__(self) -> None:
        if self.out is None and self.album.startswith("s3://"):
            raise DrigError(f"the report on {self.album} needs a local folder: give --out FOLDER")


def album_check(config: AlbumCheckConfig) -> int:
    """Print the findings, write them as a page and as JSON; the exit code."""
    import json

    from drig import storage
    from drig.data.albums import doctor, load_album
    from drig.data.albums.loading import ALBUM
    from drig.data.albums.page import write_page
    from drig.data.albums.typical import load_training
    from drig.data.photos import is_video
    from drig.faces.estimators import load_estimator
    from drig.faces.head import load_head
    from drig.faces.identity_embedding import IdentityEmbedder
    from drig.faces.landmarks import LandmarkDetector

    head = load_head("open")
    training = load_training(config.dataset, head)
    aligned = config.aligned or storage.exists(storage.join(config.album, ALBUM))
    album = load_album(config.album, LandmarkDetector(), config.size, aligned=aligned)
    with tqdm(total=len(album.portraits), unit="portrait", desc="fit") as bar:
        codes = doctor.fit_portraits(
            album.portraits, load_estimator("fit", head), lambda done: bar.update(done - bar.n)
        )
    check = doctor.examine(album, codes, head, IdentityEmbedder(), training)
    print(doctor.table(check))
    out = config.out or (Path(config.album).parent if is_video(config.album) else Path(config.album))
    storage.write_bytes(out / "check.json", json.dumps(check.report(), indent=1).encode())
    write_page(out / "report.html", Path(config.album).name, check, head, configs.to_yaml(config))
    print(f"report: {out / 'report.html'}")
    return 0 if check.passes else 1


def _here(
    config_class: type, program: Callable[..., int | None], *, positional: Sequence[str] = ()
) -> Callable[[str, Sequence[str]], int]:
    """A verb of this module."""
    description = config_class.__doc__ or ""
    return lambda prog, argv: configs.run(
        config_class, program, argv, prog=prog, description=description, positional=positional
    )


def _album(prog: str, argv: Sequence[str]) -> int:
    """The verb `album`, which has verbs of its own."""
    word = argv[0] if argv else "--help"
    if word in ALBUM_VERBS:
        return ALBUM_VERBS[word].run(f"{prog} {word}", argv[1:])
    if word in ("-h", "--help"):
        print(_usage(prog, ALBUM_VERBS))
        return 0 if argv else 2
    print(f"{prog}: error: unknown verb {word!r}; choose from {', '.join(ALBUM_VERBS)}", file=sys.stderr)
    return 2


def _pipeline(module: str) -> Callable[[str, Sequence[str]], int]:
    """A verb that is a pipeline's or a deployment's `main(argv, prog)`; imported only when it is called."""
    return lambda prog, argv: int(importlib.import_module(module).main(argv, prog=prog))


ALBUM_VERBS = {
    "build": Verb(
        "photos and videos -> an album of one person", _here(AlbumBuildConfig, album_build, positional=("sources",))
    ),
    "check": Verb("is an album fit to be trained on?", _here(AlbumCheckConfig, album_check, positional=("album",))),
}
VERBS = {
    "quickstart": Verb("everything once, on this machine, with a report", _pipeline("pipelines.quickstart")),
    "inspect": Verb("look at what is found in photos", _here(InspectConfig, inspect, positional=("photos",))),
    "album": Verb("build an album of one person, or check one before training", _album),
    "synth": Verb("render synthetic people", _pipeline("pipelines.synthesize")),
    "extract": Verb("photos -> store of physical buffers", _pipeline("pipelines.extract_buffers")),
    "stage1": Verb("train the base rig on many people", _pipeline("pipelines.stage1")),
    "personalize": Verb("train a rig for each of many people", _pipeline("pipelines.personalize")),
    "evaluate": Verb("measure edits whose true answers are known", _pipeline("pipelines.evaluate")),
    "edit": Verb("edit a photo", _here(EditConfig, edit, positional=("photo",))),
    "showcase": Verb("a sheet of edits of a photo", _here(ShowcaseConfig, showcase, positional=("photo",))),
    "identities": Verb("list, register or delete personalised people", _here(IdentitiesConfig, identities)),
    "import": Verb("released model or data set -> drig's", _here(ImportConfig, import_released, positional=("path",))),
    "export": Verb("drig's -> released model or data set", _here(ExportConfig, export_released, positional=("path",))),
    "serve": Verb("host every identity over HTTP", _pipeline("deployments.serve")),
}


def _usage(prog: str, verbs: Mapping[str, Verb]) -> str:
    lines = [f"  {name:<12} {verb.summary}" for name, verb in verbs.items()]
    return "\n".join([f"usage: {prog} VERB [--help] [OPTIONS]", "", *lines])


if __name__ == "__main__":
    sys.exit(main())
