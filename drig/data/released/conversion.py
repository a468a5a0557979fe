"""What `drig import` and `drig export` do: tell by content what was given, convert it, say what was done."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import numpy as np

from drig.data.records import encode
from drig.data.released.dataset import ReleasedDataset, ReleasedDatasetWriter, ReleasedFace, key_of
from drig.data.released.rigs import read_mean_shape, read_rig, write_rig
from drig.data.store import MANIFEST, BufferStore, BufferStoreWriter
from drig.diffusion.deltas import load_merged
from drig.diffusion.network import RIG_PRESETS, RigConfig
from drig.diffusion.weights import save_weights
from drig.errors import DrigError, PhotoRejected

Item = TypeVar("Item")
Progress = Callable[[Iterable[Item], int], Iterable[Item]]
"""Draws a progress bar around (items, how many there are)."""

HEAD, ESTIMATOR = "flame", "deca"
"""What every released model and data set was made with."""
_LMDB_MAGIC = b"\xde\xc0\xef\xbe"  # at byte 16 of its file


def import_released(
    path: Path, out: Path, *, mean_shape: Path | None, size: int | None, progress: Progress[int]
) -> list[str]:
    """A released model -> weights file, or a released data set -> buffer store. Lines that say what was done.

    Raises DrigError for anything else, and for options that do not belong to what was given.
    """
    if not path.exists():
        raise DrigError(f"there is nothing at {path}; check the path.")
    if _is_lmdb(path):
        if mean_shape is not None or size is not None:
            raise DrigError(f"{path} is a data set: --mean_shape and --size are for models, leave them out.")
        return import_dataset(path, out, progress)
    if path.is_dir():
        ours = " It is a buffer store, which needs no import." if (path / MANIFEST).is_file() else ""
        raise DrigError(f"{path} is a folder without a released data set (data.mdb).{ours}")
    return import_rig(path, out, mean_shape, size)


def export_released(path: Path, out: Path, *, base: Path | None, progress: Progress[int]) -> list[str]:
    """The inverse of `import_released`: weights file -> released model, or buffer store -> released data set.

    base: the weights that a delta is over, for then the released model is the two in one.
    """
    if path.is_dir():
        return export_dataset(path, out, progress)
    return export_rig(path, out, base)


def import_rig(path: Path, out: Path, mean_shape: Path | None, size: int | None) -> list[str]:
    """Released model [+ mean shape] -> weights file."""
    rig = read_rig(path, size)
    extra = {} if mean_shape is None else {"mean_shape": read_mean_shape(mean_shape)}
    out.parent.mkdir(parents=True, exist_ok=True)
    save_weights(out, rig, extra, {"head": HEAD, "estimator": ESTIMATOR})
    count = sum(parameter.numel() for parameter in rig.parameters())
    return [
        f"{path}: released model, {_in_words(rig.config)}, {count:,} parameters"
        + ("" if mean_shape is None else f", with the mean shape of {mean_shape}"),
        f"weights of head {HEAD}, estimator {ESTIMATOR}: {out}",
    ]


def export_rig(path: Path, out: Path, base: Path | None) -> list[str]:
    """Weights file, or delta and base -> released model [+ mean shape]."""
    loaded = load_merged(path, base)
    files = write_rig(out, loaded.rig, loaded.tensors.get("mean_shape"))
    lines = [f"{path}: weights, {_in_words(loaded.rig.config)}", f"released model: {', '.join(map(str, files))}"]
    head = loaded.metadata.get("head")
    if head != HEAD:
        lines.append(f"note: it was trained on head {head}; the released implementation renders FLAME's")
    return lines


def import_dataset(path: Path, out: Path, progress: Progress[int]) -> list[str]:
    """Released data set -> buffer store; the same command again continues. Faces that no light explains are rejects."""
    with ReleasedDataset(path) as dataset:
        size = _first_face(dataset).image.shape[0]
        with BufferStoreWriter(out, size=size, head=HEAD, estimator=ESTIMATOR) as writer:
            _check_begun(dataset, out, writer.done)
            todo = [index for index in range(len(dataset)) if key_of(index) not in writer.done]
            for index in progress(todo, len(todo)):
                key = key_of(index)
                try:
                    face = dataset.read(index)
                    if len(face.image) != size:
                        raise PhotoRejected(f"it has {len(face.image)} px, the first face {size}")
                    writer.put_encoded(key, encode(face.record(key, f"{path.name}/{key}")))
                except PhotoRejected as reason:
                    writer.reject(key, str(reason))
        store = BufferStore(out)
        reasons = Counter(store.rejects.values()).most_common()
        lines = [f"  rejected {count:,}: {reason}" for reason, count in reasons]
        if not len(store):
            some = "\n".join(lines[:3])
            raise DrigError(f"not one of the {len(dataset):,} faces in {path} can be used:\n{some}")
        return [
            f"{path}: released data set, {len(dataset):,} faces of {size} px",
            f"{len(store):,} faces in {out}, {len(store.rejects):,} rejected; their light was solved for, codes and "
            "landmarks are not in the data set",
            *lines[:5],
        ]


def export_dataset(path: Path, out: Path, progress: Progress[int]) -> list[str]:
    """Buffer store -> released data set; the same command again continues."""
    store = BufferStore(path)
    with ReleasedDatasetWriter(out) as writer:
        if len(writer) and not (len(store) and writer.begins_with(store.read(0))):
            raise DrigError(f"{out}.partial was begun from another store; remove it, or name another folder.")
        for index in progress(range(len(writer), len(store)), len(store) - len(writer)):
            writer.add(store.read(index))
    return [f"{path}: buffer store, {len(store):,} faces of {store.size} px", f"released data set: {out}"]


def _first_face(dataset: ReleasedDataset) -> ReleasedFace:
    """The first that can be read, which tells the size of all."""
    reason = "it holds none"
    for index in range(len(dataset)):
        try:
            return dataset.read(index)
        except PhotoRejected as error:
            reason = str(error)
    raise DrigError(f"not one of the {len(dataset):,} faces in {dataset.path} can be read: {reason}.")


def _check_begun(dataset: ReleasedDataset, folder: Path, done: set[str]) -> None:
    """Raise DrigError for a store that holds other faces, whose keys may be the same."""
    if not done:
        return
    store = BufferStore(folder)
    known = {key_of(index) for index in range(len(dataset))}
    if not done <= known or (len(store) and not _holds(dataset, store)):
        raise DrigError(f"{folder} holds other faces than {dataset.path}; name another folder.")


def _holds(dataset: ReleasedDataset, store: BufferStore) -> bool:
    """Whether the store's first face is that of the same number in the data set."""
    record = store.read(0)
    return np.array_equal(record.image, dataset.read(int(record.key)).image)


def _is_lmdb(path: Path) -> bool:
    file = path / "data.mdb" if path.is_dir() else path
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(20)[16:] == _LMDB_MAGIC


def _in_words(config: RigConfig) -> str:
    presets = [name for name, preset in RIG_PRESETS.items() if preset == config]
    return f"{config.size} px, {f'preset {presets[0]}' if presets else 'of no preset'}"
