"""`drig inspect`."""

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from drig.errors import DrigError


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
