"""Where runs are recorded: a small wrapper around MLflow, and the only way the project talks to its tracking store.

A `Tracker` names a store and an experiment, a `Run` is one row of it. Both are picklable: make the tracker once in the
driver (that creates the database, which is not safe to do from several processes at once) and send it, or one of its
runs, to the workers.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image

from drig import __version__, logs
from drig.errors import DrigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from mlflow import MlflowClient
    from mlflow.entities import Metric

URI_VARIABLE = "MLFLOW_TRACKING_URI"
LONGEST_PARAMETER = 500
"""Characters of a configuration value that MLflow's table shows; the whole value is in the run's config.json."""
ARTIFACTS = "artifacts"
"""The folder of all files of an SQLite store, beside its database."""
FLUSH_SECONDS, FLUSH_COUNT = 5.0, 500
"""Metrics are written together: one transaction costs as much as one metric, and workers share one SQLite file."""
LONGEST_PAUSE_S, MOST_HELD = 600.0, 100_000
"""While a store does not answer it is asked again after ever longer pauses, and so many of the newest metrics wait."""

_RECORDED = (  # where MLflow's database names files
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
# MLflow reads these when it is imported. What the user has set stays.
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",  # half a minute for a server that does not answer, instead of four
}


def tracking_uri(runs: Path) -> str:
    """MLFLOW_TRACKING_URI where it is set, else an SQLite database inside the folder of runs, by absolute path."""
    return os.environ.get(URI_VARIABLE) or f"sqlite:///{runs.resolve() / 'mlflow.db'}"


def connect(uri: str) -> "MlflowClient":
    """A quiet MLflow client for a store at sqlite:///<absolute path> or http(s)://<server>.

    Raises DrigError for any other store, and where the database's folder cannot be made.
    """
    if _sqlite_folder(uri) is not None:
        _follow_move(Path(uri.removeprefix("sqlite:///")))
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient  # here, because importing it takes seconds and reads the variables above

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def experiment_id(uri: str, name: str) -> str:
    """The id of an experiment, made where it does not exist. Raises DrigError if the store cannot be used."""
    client = connect(uri)
    folder = artifact_folder(uri)
    # MLflow's own default is relative to the current folder, which Ray changes; a server knows its own place.
    artifacts = None if folder is None else folder.as_uri()
    with store_errors(uri):
        found = client.get_experiment_by_name(name)
        if found is None:
            return str(client.create_experiment(name, artifact_location=artifacts))
    if found.lifecycle_stage != "active":
        raise DrigError(f"the MLflow experiment {name!r} was deleted from {uri}; restore it there or give another name")
    return str(found.experiment_id)


def artifact_folder(uri: str) -> Path | None:
    """Where an SQLite store keeps the files of its runs; None for a server, which knows its own place."""
    folder = _sqlite_folder(uri)
    return None if folder is None else folder / ARTIFACTS


def purge_runs(uri: str, run_ids: Sequence[str]) -> bool:
    """Erase deleted runs, with every number and word that was logged of them; whether that could be done.

    Only an SQLite store lets its users do that: a server keeps deleted runs until who runs it calls `mlflow gc`.
    """
    if _sqlite_folder(uri) is None:
        return False
    from mlflow.cli import gc

    with contextlib.redirect_stdout(io.StringIO()):
        gc.main(
            ["--tracking-uri", uri, "--backend-store-uri", uri, "--run-ids", ",".join(run_ids)], standalone_mode=False
        )
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"), timeout=60)) as connection:
        connection.execute("VACUUM")  # what was erased lies in the file until its place is used again
    return True


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """MLflow's errors inside the block become a DrigError that names the store."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise DrigError(
            f"the MLflow store {uri} cannot be used: {error}. Start that server, or unset {URI_VARIABLE} to record in "
            f"a local database."
        ) from error


def _sqlite_folder(uri: str) -> Path | None:
    """The folder of an SQLite store, made if needed; None for a server."""
    if uri.startswith(("http://", "https://")):
        return None
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or not path.is_absolute():
        raise DrigError(
            f"the MLflow store is {uri!r}; it has to be sqlite:///<absolute path of a database> or http(s)://<server>. "
            f"Set {URI_VARIABLE} to one of these, or unset it to record in a local database."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DrigError(f"runs cannot be recorded in {path.parent}: {error.strerror}. Choose another folder.") from None
    return path.parent


@functools.cache
def _follow_move(database: Path) -> None:
    """MLflow records files by absolute path: where the database was moved with its files, write where they are now."""
    here = database.parent / ARTIFACTS
    if not (database.exists() and here.is_dir()):
        return
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        try:
            places = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        except sqlite3.OperationalError:
            return  # its tables are still to be made
        for there in [place for (place,) in places if _is_gone(place)]:
            runs = "SELECT run_uuid FROM runs JOIN experiments USING (experiment_id) WHERE artifact_location = ?"
            if not any((here / run).is_dir() for (run,) in connection.execute(runs, (there,))):
                continue  # of others
            for table, column in _RECORDED:
                connection.execute(
                    f"UPDATE {table} SET {column} = :here || substr({column}, length(:there) + 1) "
                    f"WHERE {column} = :there OR substr({column}, 1, length(:there) + 1) = :there || '/'",
                    {"here": here.as_uri(), "there": there},
                )


def _is_gone(artifacts: str) -> bool:
    """Whether it is the URI of a local folder of artifacts that is not there any more."""
    url = urlsplit(artifacts)
    path = Path(unquote(url.path))
    return url.scheme == "file" and path.name == ARTIFACTS and not path.exists()


class Run:
    """One MLflow run. As a context manager it ends with the block, FINISHED, FAILED or KILLED, the error as a tag.

    Another process may log to the same run by its pickled copy, but then calls `flush` itself when it is done.
    """

    def __init__(self, uri: str, run_id: str) -> None:
        self.uri = uri
        self.id = run_id
        self._client: MlflowClient | None = None
        self._metrics: list[Metric] = []
        self._flushed = time.monotonic()
        self._pause = FLUSH_SECONDS

    def __reduce__(self) -> tuple[type["Run"], tuple[str, str]]:
        return Run, (self.uri, self.id)

    @property
    def client(self) -> "MlflowClient":
        if self._client is None:
            self._client = connect(self.uri)
        return self._client

    def log_config(self, config: "DataclassInstance | Mapping[str, Any]") -> None:
        """A dataclass or nested mapping as dotted parameters, and whole in config.json.

        MLflow never changes a parameter: where a resumed run's differs, the tag `changed.<name>` has the new value.
        """
        from mlflow.entities import Param, RunTag

        tree = config if isinstance(config, Mapping) else dataclasses.asdict(config)
        self.client.log_text(self.id, json.dumps(tree, indent=2, default=str), "config.json")
        known = self.client.get_run(self.id).data.params
        values = {name: _shorten(value) for name, value in _flatten(tree).items()}
        params = [Param(name, value) for name, value in values.items() if name not in known]
        tags = [RunTag(f"changed.{n}", v) for n, v in values.items() if n in known and known[n] != v]
        for start in range(0, max(len(params), len(tags)), 100):  # the most that MLflow takes in one call
            part = slice(start, start + 100)
            self.client.log_batch(self.id, params=params[part], tags=tags[part])

    def log_metrics(self, metrics: Mapping[str, float], *, samples: int) -> None:
        """Metrics at a point of the run, counted in samples seen. Written at the latest by `flush` or the run's end.

        A store that does not answer costs no training: the metrics wait until it does.
        """
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        self._metrics += [Metric(name, float(value), now, samples) for name, value in metrics.items()]
        answered = self._pause == FLUSH_SECONDS
        if time.monotonic() - self._flushed > self._pause or (answered and len(self._metrics) >= FLUSH_COUNT):
            with self._surviving_outages(f"{len(self._metrics)} metrics wait"):
                self.flush()

    def flush(self) -> None:
        """Write the metrics that are still held back. Raises MlflowException where the store does not answer."""
        while self._metrics:
            self.client.log_batch(self.id, metrics=self._metrics[:FLUSH_COUNT])
            del self._metrics[:FLUSH_COUNT]
        self._flushed = time.monotonic()
        self._pause = FLUSH_SECONDS

    @contextmanager
    def _surviving_outages(self, consequence: str) -> Iterator[None]:
        """MLflow's errors in the block are told, and end nothing."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, OSError) as error:  # a server's files come over HTTP, whose errors are OSErrors
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
            self._flushed = time.monotonic()
            del self._metrics[:-MOST_HELD]
            reason = " ".join(str(error).split())
            print(f"MLflow does not answer, {consequence}: {_shorten(reason)}", file=sys.stderr, flush=True)
            logs.event("tracking_unreachable", level=logging.WARNING, consequence=consequence, reason=reason)

    def log_image(self, name: str, image: np.ndarray) -> None:
        """A picture (H, W, 3) uint8 as the artifact <name>.png; name may contain folders.

        Where the store does not answer, MLflow lacks this picture.
        """
        with self._surviving_outages(f"{name}.png is not recorded there"):
            self.client.log_image(self.id, Image.fromarray(image), artifact_file=f"{name}.png")

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """A file, or a folder with all it holds, as artifacts under `folder`."""
        log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        log(self.id, str(path), folder)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Searchable labels; setting one again replaces it."""
        for name, value in tags.items():
            self.client.set_tag(self.id, name, value)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
        if kind is None:
            self.client.set_terminated(self.id, "FINISHED")
            return
        self.set_tags({"error": _shorten(f"{kind.__name__}: {error}")})
        self.client.set_terminated(self.id, "FAILED" if issubclass(kind, Exception) else "KILLED")


class Tracker:
    """An MLflow store and one of its experiments, both made where they do not exist.

    Raises DrigError if the store cannot be used.
    """

    def __init__(self, uri: str, experiment: str = "drig") -> None:
        self.uri = uri
        self.experiment = experiment
        self.experiment_id = experiment_id(uri, experiment)

    def run(
        self, name: str, *, key: str | None = None, parent: Run | None = None, tags: Mapping[str, str] | None = None
    ) -> Run:
        """Start a run, or go on with the one that has the same key.

        Args:
            key: what makes the run the same one when the command is given again, e.g. its work folder. None always
                starts a new one.
            parent: the run under which MLflow shows this one.
        """
        client = connect(self.uri)
        labels = {"drig.version": __version__, "drig.command": " ".join(sys.argv)[:LONGEST_PARAMETER], **(tags or {})}
        if parent is not None:
            labels["mlflow.parentRunId"] = parent.id
        if key is not None:
            digest = hashlib.sha256(key.encode()).hexdigest()  # a key may be long and hold quotes
            labels["drig.key"] = digest
            known = client.search_runs([self.experiment_id], f"tags.`drig.key` = '{digest}'", max_results=1)
            if known:
                run = Run(self.uri, str(known[0].info.run_id))
                client.update_run(run.id, status="RUNNING")
                run.set_tags(labels)
                return run
        created = client.create_run(self.experiment_id, tags=labels, run_name=name)
        return Run(self.uri, str(created.info.run_id))

    @property
    def how_to_open(self) -> str:
        """What a user does to look at the runs."""
        return f"mlflow ui --backend-store-uri {self.uri}" if self.uri.startswith("sqlite:") else self.uri


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_PARAMETER else text[: LONGEST_PARAMETER - 1] + "…"
