"""deployments/mlflow.sh as the head of a cluster runs it: a real MLflow server over a real PostgreSQL and S3."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import psycopg
import pytest

from drig import storage
from drig.identities import Identities
from drig.tracking import Tracker
from tests.s3 import FaultyS3, new_bucket, use
from tests.test_identities import rig_file

ROOT = Path(__file__).parents[2]
PASSWORD = "made-up-by-the-test"
START_S = 240


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL of our own on loopback, with an empty database."""
    programs = find_postgres()
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: a socket lies in it
    user = unprivileged() if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    identity = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    (folder / "password").write_text(PASSWORD)
    data, port, log = folder / "data", free_port(), folder / "log"
    log.touch()
    access = ["--username=drig", f"--pwfile={folder / 'password'}", "--auth=scram-sha-256"]
    server = None
    try:
        initdb = [programs / "initdb", f"--pgdata={data}", *access, "--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **identity)  # type: ignore[call-overload]
        listen = ["-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-c", "fsync=off"]
        with log.open("w") as output:
            command = [programs / "postgres", "-D", data, *listen]
            server = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, **identity)  # type: ignore[call-overload]
        uri = f"postgresql://drig:{PASSWORD}@127.0.0.1:{port}/postgres"
        wait_for(lambda: answers(uri), lambda: f"PostgreSQL did not start:\n{log.read_text()}")
        yield uri
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # a fast shutdown: clients are cut off
            server.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def lab(s3_server: FaultyS3) -> Iterator[str]:
    """A bucket; the environment points there."""
    with pytest.MonkeyPatch.context() as patch:
        use(patch, s3_server)
        storage._new_client.cache_clear()
        yield new_bucket()
    storage._new_client.cache_clear()


@pytest.fixture(scope="module")
def server(postgres: str, lab: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of MLflow."""
    home, port = tmp_path_factory.mktemp("home"), free_port()
    (home / "mlflow.env").write_text(f"MLFLOW_BACKEND_STORE_URI={postgres}\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")} | {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_HOST": "127.0.0.1",
        "MLFLOW_PORT": str(port),
        "MLFLOW_S3_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"],
    }
    script = ["bash", str(ROOT / "deployments/mlflow.sh"), lab]
    started = subprocess.Popen(script, env=environment, cwd=ROOT, start_new_session=True)
    try:
        assert started.wait(timeout=START_S) == 0
        uri = f"http://127.0.0.1:{port}"
        wait_for(lambda: is_healthy(uri), lambda: f"MLflow did not start:\n{(home / 'mlflow.log').read_text()}")
        yield uri
        assert subprocess.run(script, env=environment, cwd=ROOT, timeout=START_S).returncode == 0  # Ray was restarted
        assert PASSWORD not in (home / "mlflow.log").read_text()
    finally:
        with suppress(ProcessLookupError):  # the server ended by itself
            os.killpg(started.pid, signal.SIGTERM)


def test_runs_are_rows_of_postgresql_and_files_on_s3(server: str, postgres: str, lab: str, tmp_path: Path) -> None:
    (tmp_path / "sheet.txt").write_text("a sheet")
    with Tracker(server, "stage1").run("base", key="s3://lab/base") as run:
        run.log_config({"training": {"samples": 16}})
        run.log_metrics({"loss": 0.5}, samples=16)
        run.log_file(tmp_path / "sheet.txt")
    assert rows(postgres, f"select status, name from runs where run_uuid = '{run.id}'") == [("FINISHED", "base")]
    assert rows(postgres, f"select step, value from metrics where run_uuid = '{run.id}'") == [(16, 0.5)]
    (sheet,) = [place for place in storage.list_files(f"{lab}/mlflow") if place.endswith("sheet.txt")]
    assert storage.read_bytes(sheet) == b"a sheet"
    assert Tracker(server, "stage1").run("base", key="s3://lab/base").id == run.id


def test_identities_come_back_from_s3_as_they_were(server: str, lab: str, tmp_path: Path) -> None:
    identities = Identities(server, cache=tmp_path / "cache")
    contents = []
    for version in (1, 2):
        file = rig_file(tmp_path, version)
        contents.append(file.read_bytes())
        assert identities.register("ada", file, album_report={"photos": version}) == version
    assert identities.get("ada").version == 2
    assert [identities.fetch("ada", version).read_bytes() for version in (1, 2)] == contents
    assert identities.album_report("ada") == {"photos": 2}
    assert [place for place in storage.list_files(f"{lab}/mlflow") if place.endswith(".safetensors")]


def find_postgres() -> Path:
    """The folder of PostgreSQL's programs; Debian keeps them out of the PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    if (found := shutil.which("initdb")) is not None:
        folders.append(Path(found).resolve().parent)
    whole = [folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()]
    if not whole:
        pytest.skip("needs PostgreSQL's initdb and postgres: on Debian `apt-get install postgresql`")
    return whole[-1]


def unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.skip("PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody`")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(uri: str) -> bool:
    try:
        psycopg.connect(uri).close()
    except psycopg.OperationalError:
        return False
    return True


def is_healthy(uri: str) -> bool:
    try:
        return httpx.get(f"{uri}/health", timeout=5).is_success
    except httpx.TransportError:
        return False


def rows(uri: str, query: str) -> list[tuple[object, ...]]:
    with closing(psycopg.connect(uri)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def wait_for(condition: Callable[[], bool], reason: Callable[[], str]) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < deadline, reason()
        time.sleep(0.2)
