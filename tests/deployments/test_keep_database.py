import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from deployments.keep_database import copy_database, main, restore
from tests.s3 import FaultyS3


def rows(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        (count,) = connection.execute("select count(*) from runs").fetchone()
    return int(count)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table runs (id integer)")
        connection.executemany("insert into runs values (?)", [(i,) for i in range(100)])
        connection.commit()
    return path


def test_a_new_head_begins_with_the_copy(database: Path, bucket: str) -> None:
    copy, elsewhere = f"{bucket}/mlflow.db", database.with_name("other.db")
    assert main([f"--database={elsewhere}", f"--copy={copy}", "--restore"]) == 0
    assert not elsewhere.exists()  # there was no copy yet: MLflow makes a new one
    assert main([f"--database={database}", f"--copy={copy}", "--every=0"]) == 0
    assert main([f"--database={elsewhere}", f"--copy={copy}", "--restore"]) == 0
    assert rows(elsewhere) == 100


def test_a_copy_has_what_is_committed_while_somebody_writes(database: Path, bucket: str) -> None:
    copy, elsewhere = f"{bucket}/mlflow.db", database.with_name("other.db")
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("insert into runs values (100)")
        copy_database(database, copy)
        writer.commit()
    restore(elsewhere, copy)
    assert rows(elsewhere) == 100


def test_a_database_that_is_there_is_never_replaced(database: Path, bucket: str) -> None:
    copy_database(database, f"{bucket}/mlflow.db")
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("insert into runs values (100)")
        writer.commit()
    restore(database, f"{bucket}/mlflow.db")
    assert rows(database) == 101


def test_a_copy_that_fails_leaves_the_older_one(
    database: Path, s3: FaultyS3, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy_database(database, f"{bucket}/mlflow.db")
    s3.fail("denied", "PUT", "mlflow.db")
    assert main([f"--database={database}", f"--copy={bucket}/mlflow.db", "--every=0"]) == 2
    assert "access denied" in capsys.readouterr().err
    restore(database.with_name("other.db"), f"{bucket}/mlflow.db")
    assert rows(database.with_name("other.db")) == 100
