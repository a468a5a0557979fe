"""`drig import` and `drig export`: files of the released implementation."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm


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
