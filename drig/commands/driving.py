"""`drig drive`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from drig.errors import DrigError
from drig.faces.controls import Controls


@dataclass(frozen=True, kw_only=True)
class DriveConfig:
    """Let a video drive a photo: each of its frames gives the photo light, expression or pose; writes a video."""

    photo: Path
    """The photo to edit; the largest face in it is found and cropped."""
    video: Path
    """Whose face drives it, an MP4 or another video."""
    modes: tuple[Literal["light", "exp", "pose"], ...] = ("exp", "pose")
    """What to take from the video, any of: light, exp, pose."""
    controls: Controls = field(default_factory=Controls)
    """Explicit numbers, for every frame."""
    identity: str = "base"
    """Whose model edits: a personalised identity (see `drig identities`), or base, which knows nobody."""
    out: Path = Path("driven.mp4")
    """The edited video."""
    size: int | None = None
    """Its height in pixels. None = the rig's, and 256 at least."""
    fps: float | None = None
    """Its frames a second. None = the driving video's."""
    seconds: float | None = None
    """How much of the driving video to follow. None = all of it."""
    steps: int | None = None
    """Steps of the sampler. None = as many as the rig needs: 20 as in the paper, 8 with the shipped base."""
    sampler: Literal["ddim", "dpmpp", "unipc", "heun"] = "ddim"
    """As of `drig edit`."""
    seed: int = 0
    """Seed of the start noise, which all frames share."""
    aligned: bool = False
    """The photo is an FFHQ crop already."""
    mark: bool = True
    """Sign it, as a C2PA manifest in the file that says that it is an edit."""
    runs: Path = Path("runs")
    """The folder of runs that holds the identities; MLFLOW_TRACKING_URI overrides it."""

    def __post_init__(self) -> None:
        for name in ("size", "fps", "seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise DrigError(f"{name} is {value}; give more than 0")


def drive(config: DriveConfig) -> None:
    """Edit frame by frame and write the video."""
    from drig.commands.editing import load_editor
    from drig.data.photos import read_photo, steady_frames, video_rate, video_seconds
    from drig.data.video_writing import write_mp4
    from drig.driving import DriveReader, edit_frames
    from drig.pictures import Picture
    from drig.provenance import write_edit

    photo, fps = read_photo(config.photo), config.fps or video_rate(config.video)
    seconds = min(config.seconds or float("inf"), video_seconds(config.video))
    limit = max(1, round(seconds * fps))
    editor = load_editor(config.identity, config.runs)
    source = editor.read(photo, aligned=config.aligned)
    reader = DriveReader(editor)
    for frame in tqdm(
        steady_frames(config.video, fps, limit=limit), total=limit, unit="frame", desc="read", leave=False
    ):
        reader.add(frame)
    driven = reader.drive(fps)
    frames = edit_frames(
        editor,
        source,
        driven,
        modes=config.modes,
        controls=config.controls,
        steps=config.steps,
        sampler=config.sampler,
        seed=config.seed,
    )
    made: list[Picture] = list(tqdm(frames, total=len(driven), unit="frame", desc="edit", leave=False))
    video, changed = write_mp4(made, fps=fps, size=config.size), (*config.modes, *config.controls.given())
    write_edit(config.out, video, "video/mp4", changed, mark=config.mark)
    if driven.unseen:
        print(f"note: {driven.unseen} of {len(driven)} frames show no face; they follow the others")
    print(f"edited video: {config.out}")
