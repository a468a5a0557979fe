"""Keep a copy of an SQLite database on S3, and begin with that copy where there is no database.

    python -m deployments.keep_database --database ~/mlflow.db --copy s3://BUCKET/mlflow.db --restore true
    python -m deployments.keep_database --database ~/mlflow.db --copy s3://BUCKET/mlflow.db

A copy is of one moment, also while MLflow writes, and the newest is overwritten whole.
"""

import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from drig import config as configs
from drig import logs, storage
from drig.errors import DrigError


@dataclass(frozen=True, kw_only=True)
class KeepConfig:
    """Keep a copy of an SQLite database on S3."""

    database: Path
    """The database."""
    copy: str
    """Where its copy is, an s3:// URI or a path."""
    every: float = 600.0
    """Seconds between copies. 0 = one copy, and end."""
    restore: bool = False
    """Begin with the copy, where there is one and no database yet, and end."""


def keep(config: KeepConfig) -> None:
    """Copy until the process is ended; an S3 that does not answer is tried again at the next time."""
    if config.restore:
        restore(config.database, config.copy)
        return
    while True:
        try:
            copy_database(config.database, config.copy)
            logs.event("database_copied", copy=config.copy)
        except (DrigError, sqlite3.Error) as error:
            if not config.every:
                raise
            print(f"no copy this time: {error}", file=sys.stderr, flush=True)
        if not config.every:
            return
        time.sleep(config.every)


def copy_database(database: Path, copy: str) -> None:
    """Write one moment of the database to `copy`. Raises DrigError where it is missing, or S3 fails."""
    if not database.is_file():
        raise DrigError(f"{database} does not exist yet; start MLflow, which makes it")
    with tempfile.TemporaryDirectory() as folder:
        moment = Path(folder) / "moment.db"
        with closing(sqlite3.connect(database)) as live, closing(sqlite3.connect(moment)) as still:
            live.backup(still)
        storage.write_bytes(copy, moment.read_bytes())


def restore(database: Path, copy: str) -> None:
    """Make the database from its copy, if there is one; a database that is there stays as it is."""
    if not database.exists() and storage.exists(copy):
        storage.write_bytes(database, storage.read_bytes(copy))


def main(argv: Sequence[str] | None = None, *, prog: str = "keep_database") -> int:
    """The command line; returns the exit code."""
    return configs.run(KeepConfig, keep, argv, prog=prog, description=KeepConfig.__doc__ or "")


if __name__ == "__main__":
    sys.exit(main())
