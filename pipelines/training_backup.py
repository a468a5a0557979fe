"""What another machine needs to go on with a training, kept on S3 while it runs on this one."""

import logging
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from drig import logs, storage
from drig.errors import DrigError
from drig.training.checkpoints import PREFIX, PROGRESS
from drig.training.loop import WEIGHTS, OnCheckpoint

Stamp = tuple[int, int]
"""Inode and time of change, which tell a file from a newer one of that name."""


@contextmanager
def backed_up(folder: Path, place: str | None) -> Iterator[OnCheckpoint | None]:
    """Copy a work folder of `train` to an s3:// prefix after each checkpoint: gives what `train` is to call then.

    Before, the folder is brought to what S3 has, if another machine got further meanwhile. Copies are made in the
    background; one that fails is told, and the next has everything. place: None for no backup.
    """
    if place is None:
        yield None
        return
    backup = _Backup(folder, place)
    backup.fetch()
    try:
        yield lambda *_: backup.store()
    finally:
        backup.finish()


class _Backup:
    def __init__(self, folder: Path, place: str) -> None:
        self._folder = folder
        self._place = place
        self._there: dict[str, Stamp] = {}
        self._thread = ThreadPoolExecutor(1)
        self._upload: Future[None] | None = None

    def fetch(self) -> None:
        there = storage.list_files(self._place) if storage.exists(self._place) else []
        names = [file.removeprefix(f"{self._place}/") for file in there]
        whole = {name.partition("/")[0] for name in names if name.endswith(f"/{PROGRESS}")}
        here = {file.parent.name for file in self._folder.glob(f"{PREFIX}*/{PROGRESS}")}
        self._there = dict.fromkeys(names, (0, 0))  # no file has such a stamp: what is here is newer
        if max(whole, default="") <= max(here, default=""):
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        storage.download_folder(self._place, self._folder)  # a checkpoint that is not whole is passed over
        self._there |= _stamps(self._folder)

    def store(self) -> None:
        """Waits for the upload before, so that they never pile up."""
        self._wait()
        # The loop deletes old checkpoints; other names for the same files cost nothing.
        copy = self._folder.with_name(f".{self._folder.name}.backup")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._folder, copy, copy_function=os.link, ignore=shutil.ignore_patterns(".*", WEIGHTS))
        self._upload = self._thread.submit(self._send, copy)

    def finish(self) -> None:
        self._wait()
        self._thread.shutdown()

    def _wait(self) -> None:
        if self._upload:
            self._upload.result()

    def _send(self, copy: Path) -> None:
        try:
            files = _stamps(copy)
            for name in sorted(files, key=_order):
                if self._there.get(name) != files[name]:
                    storage.upload_file(copy / name, storage.join(self._place, name))
                    self._there[name] = files[name]
            for name in self._there.keys() - files.keys():
                storage.remove(storage.join(self._place, name))
            self._there = files
        except DrigError as error:
            print(f"the backup of a training failed, it goes on: {error}", file=sys.stderr, flush=True)
            logs.event("backup_failed", level=logging.WARNING, place=self._place, reason=str(error))
        finally:
            shutil.rmtree(copy)


def _stamps(folder: Path) -> dict[str, Stamp]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    stats = {path.relative_to(folder).as_posix(): path.stat() for path in files}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def _order(name: str) -> tuple[bool, bool, str]:
    """First best.safetensors, then curve.json, which names it; of checkpoints the file that makes them whole last."""
    return "/" in name, name.endswith(f"/{PROGRESS}"), name
