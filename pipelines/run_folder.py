"""A run's folder, local or on S3: where the same command finds its run again, and another command is told so."""

import hashlib
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from drig import logs, storage
from drig.config import flatten, to_yaml
from drig.errors import DrigError

CONFIG = "config.yaml"
LOCK_S = 120
"""How long to wait for who works on the same: a worker outlives its killed driver by seconds."""


def absolute(place: str | Path) -> str:
    """A path that means the same in every process: Ray's workers have working folders of their own."""
    return str(place) if storage.is_s3(place) else str(Path(place).expanduser().resolve())


def open_run(place: str, config: Any, *, changeable: Collection[str]) -> None:
    """Begin or continue a run: write `config` to the folder's config.yaml.

    changeable: dotted names of options that a run may be continued with other values of, `training.samples`, or all of
    a component, `cluster`. A setting that the folder's config.yaml lacks is newer than the run, and no difference.
    Raises DrigError, naming what differs, where the folder holds a run with other settings.
    """
    wanted = flatten(config)
    if found := settings(place):
        differences = [
            f"{name} {found.get(name)} there, {value} here"
            for name, value in wanted.items()
            if found.get(name, value) != value and not {name, name.partition(".")[0]} & set(changeable)
        ]
        if differences:
            raise DrigError(
                f"{place} holds a run with other settings: {'; '.join(differences)}. "
                "Give the same settings to continue it, or another folder for a new run."
            )
        logs.event("run_resumed", place=place)
    storage.write_bytes(storage.join(place, CONFIG), to_yaml(config).encode())


def settings(place: str) -> dict[str, Any]:
    """Those of the run in a folder, by dotted names; empty where there is no run."""
    file = storage.join(place, CONFIG)
    return _flat(yaml.safe_load(storage.read_bytes(file))) if storage.exists(file) else {}


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Work in a folder that no other process works in; the system frees it when the process ends, however it ends.

    Raises DrigError where another one keeps it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.with_name(f".{folder.name}.lock"), timeout=LOCK_S):
            yield
    except Timeout:
        raise DrigError(
            f"another process works in {folder}; wait for it, or end it, and give the command again"
        ) from None


def work_folder(place: str) -> Path:
    """Where work on `place` is done: there or, where that is on S3, in a folder on this node's disk.

    There a restarted worker finds its checkpoints, as long as the node is there.
    """
    if not storage.is_s3(place):
        return Path(place)
    return Path(tempfile.gettempdir()) / f"drig-work-{hashlib.sha256(place.encode()).hexdigest()[:16]}"


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
