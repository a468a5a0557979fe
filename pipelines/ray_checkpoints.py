"""Checkpoints between workers and a run's folder: Ray Train's, uploaded in the background, and the best one."""

import json
import logging
import math
import os
import shutil
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drig import storage
from drig.errors import DrigError
from drig.training.checkpoints import adopt, find

if TYPE_CHECKING:
    from ray.train import Checkpoint

log = logging.getLogger(__name__)

FOLDER = "ray_train"
"""Of Ray Train's in a run's folder: `checkpoint_<samples>`, the newest ones, and `best/checkpoint_<samples>`."""
BEST = "best"
POINTER = "best.json"
LIST = "checkpoint_manager_snapshot.json"
"""Ray Train's, of the checkpoints that it has."""


def drop_torn_list(place: str) -> None:
    """Delete Ray Train's list of checkpoints in a run's folder if its writing was cut short: it would not go on.

    That happens on disks, where the list is overwritten; on S3 it is the old one or the new one.
    """
    file = Path(place, FOLDER, LIST)
    if storage.is_s3(place) or not file.exists():
        return
    try:
        json.loads(file.read_bytes())
    except ValueError:
        file.unlink()


def fetch_checkpoint(place: str, workdir: Path) -> None:
    """Bring the newest checkpoint of a run to where `train` finds it, if there is one: on every worker the same."""
    from ray import train as ray_train  # here, because importing it takes seconds, and reading options needs it not

    if (checkpoint := ray_train.get_checkpoint()) is not None:
        with checkpoint.as_directory() as folder:
            adopt(Path(folder), workdir)
        return
    if not storage.is_s3(place):  # uploaded, and the list of checkpoints lost, or not yet written
        for stored in find(Path(place, FOLDER)):
            try:
                adopt(stored, workdir)
                return
            except DrigError as error:
                log.warning("%s", error)


class CheckpointUpload:
    """How a worker hands checkpoints to Ray Train, which copies them to the run's folder and keeps the newest.

    The best one is kept beside them: by a score, the less the better.
    """

    def __init__(self, place: str) -> None:
        """place: the run's folder, local or on S3."""
        self._best = storage.join(place, FOLDER, BEST, POINTER)
        self._idle = threading.Semaphore()

    def report(self, folder: Path | None, name: str, metrics: dict[str, Any], score: float | None) -> None:
        """Call on every worker, with the folder on rank 0 alone; it may be deleted when this returns.

        Waits for the upload before, so that they never pile up. One that fails is a failed worker.
        """
        from ray import train as ray_train

        if folder is None:
            ray_train.report(metrics, checkpoint_upload_mode=ray_train.CheckpointUploadMode.ASYNC)
            return
        try:
            run = ray_train.get_context().get_storage()
        except NotImplementedError:  # Ray Train's local mode, which keeps nothing
            return
        self._idle.acquire()
        # The loop deletes old checkpoints; another name for the same files costs nothing, and Ray Train removes it.
        copy = folder.with_name(f".{folder.name}.upload")
        shutil.copytree(folder, copy, copy_function=os.link)
        ray_train.report(
            metrics,
            checkpoint=ray_train.Checkpoint.from_directory(copy),
            checkpoint_dir_name=name,
            checkpoint_upload_mode=ray_train.CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=partial(self._upload, run, score),
            delete_local_checkpoint_after_upload=True,
        )

    def finish(self) -> None:
        """Wait until nothing is on its way."""
        with self._idle:
            return

    def _upload(self, run: Any, score: float | None, checkpoint: "Checkpoint", name: str) -> Any:
        """What Ray Train calls in a thread of its own; `run` is its storage."""
        try:
            stored = run.persist_current_checkpoint(checkpoint, name)
            if score is not None and score < self._best_score():
                self._keep_best(run, score, checkpoint, name)
            return stored
        finally:
            self._idle.release()

    def _best_score(self) -> float:
        if not storage.exists(self._best):
            return math.inf
        return float(json.loads(storage.read_bytes(self._best))["score"])

    def _keep_best(self, run: Any, score: float, checkpoint: "Checkpoint", name: str) -> None:
        """Copy, then point to the copy, then delete the one before: at every moment there is a whole one."""
        from pyarrow.fs import FileSelector, FileType

        copy = run.persist_current_checkpoint(checkpoint, f"{BEST}/{name}")
        storage.write_bytes(self._best, json.dumps({"checkpoint": name, "score": score}).encode())
        for found in run.storage_filesystem.get_file_info(FileSelector(str(Path(copy.path).parent))):
            if found.type == FileType.Directory and found.base_name != name:
                run.storage_filesystem.delete_dir(found.path)
