"""`drig edit` and `drig showcase`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tqdm import tqdm

from drig.errors import DrigError
from drig.faces.controls import Controls

if TYPE_CHECKING:
    from drig.editing import Editor


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
    """The edited portrait, or with --paste_back the edited photo."""
    sheet: Path | None = None
    """Also write a picture of source, target, buffers and edit here."""
    steps: int | None = None
    """Steps of the sampler. None = as many as the rig needs: 20 as in the paper, 8 with the shipped base."""
    sampler: Literal["ddim", "dpmpp", "unipc", "heun"] = "ddim"
    """How the noise is removed: ddim as in the paper, unipc or dpmpp in fewer steps, heun with two calls a step."""
    seed: int = 0
    """Seed of the start noise."""
    aligned: bool = False
    """The photos are FFHQ crops already."""
    paste_back: bool = False
    """Write the whole photo, the edited portrait back in its place, instead of the portrait alone."""
    mark: bool = True
    """Sign it, as a C2PA manifest in the file that says that it is an edit."""
    runs: Path = Path("runs")
    """The folder of runs that holds the identities; MLFLOW_TRACKING_URI overrides it."""
    server: str | None = None
    """Address of a running `drig serve`, which then edits, with its own identities instead of those of --runs. The API
    key is that of DRIG_API_KEY."""

    def __post_init__(self) -> None:
        if self.like is None and not self.controls:
            raise DrigError("nothing to edit; give --like PHOTO, or a control such as --controls.yaw 20 (see --help)")

    @property
    def modes_taken(self) -> tuple[str, ...]:
        """What is taken from --like."""
        return self.modes or (("light", "exp", "pose") if self.like is not None else ())


def edit(config: EditConfig) -> None:
    """Edit one photo and write the picture."""
    if config.server is not None:
        from drig.commands.remote import edit_on_server

        edit_on_server(config, config.server)
        return
    from drig.data.photos import encode_png, read_photo, save_png
    from drig.pasting import pasted
    from drig.pictures import SHEET_COLUMNS, buffer_pictures, contact_sheet
    from drig.provenance import write_edit

    photo, like = read_photo(config.photo), None if config.like is None else read_photo(config.like)
    editor = load_editor(config.identity, config.runs)
    source = editor.read(photo, aligned=config.aligned)
    target = None if like is None else editor.read(like, aligned=config.aligned)
    with tqdm(unit="step", desc="edit", leave=False) as bar:

        def advance(done: int, steps: int, *_: object) -> None:
            bar.total = steps
            bar.update(done - bar.n)

        edited = editor.edit(
            source,
            target,
            modes=config.modes_taken,
            controls=config.controls,
            steps=config.steps,
            sampler=config.sampler,
            seed=config.seed,
            on_step=advance,
        )
    head = editor.head_mask(source.codes, edited.codes)
    picture = pasted(photo, source.portrait, edited.image, head) if config.paste_back else edited.image
    changed = (*config.modes_taken, *config.controls.given())
    write_edit(config.out, encode_png(picture), "image/png", changed, mark=config.mark)
    for warning in edited.warnings:
        print(f"note: {warning}")
    print(f"edited {'photo' if config.paste_back else 'portrait'}: {config.out}")
    if config.sheet is not None:
        shown = None if target is None else target.portrait.image
        pictures = [source.portrait.image, shown, *buffer_pictures(edited.buffers)]
        save_png(config.sheet, contact_sheet([[*pictures, edited.image]], columns=SHEET_COLUMNS))
        print(f"sheet: {config.sheet}")


def load_editor(identity: str, runs: Path) -> "Editor":
    """The editor of an identity in a folder of runs. Raises UnknownIdentity."""
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
    steps: int | None = None
    """Steps of the sampler. None = as many as the rig needs: 20 as in the paper, 8 with the shipped base."""
    sampler: Literal["ddim", "dpmpp", "unipc", "heun"] = "ddim"
    """As of `drig edit`."""
    seed: int = 0
    """Seed of the start noise."""
    aligned: bool = False
    """The photo is an FFHQ crop already."""
    runs: Path = Path("runs")
    """The folder of runs that holds the identities; MLFLOW_TRACKING_URI overrides it."""


def showcase(config: ShowcaseConfig) -> None:
    """Write the sheet."""
    from drig import showcase as sheets
    from drig.data.photos import read_photo, save_png

    photo = read_photo(config.photo)
    editor = load_editor(config.identity, config.runs)
    face = editor.read(photo, aligned=config.aligned)
    sheet = sheets.showcase(editor, face, steps=config.steps, sampler=config.sampler, seed=config.seed)
    save_png(config.out, sheet)
    print(f"sheet: {config.out}")
