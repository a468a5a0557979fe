"""A pipeline as a job of a Ray that was started from the command line, as on a cluster."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from drig import config as configs
from drig.diffusion.weights import load_weights
from drig.identities import BASE, Identities
from drig.tracking import tracking_uri
from drig.training.config import TrainingConfig
from pipelines.stage1 import Stage1Config
from tests.pipelines.conftest import RIG

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
START_ATTEMPTS = 3
JOB_S = 400


@dataclass(frozen=True)
class Head:
    """A running `ray start --head`."""

    jobs: str
    """URL of its job server."""
    environment: Mapping[str, str]


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    """A Ray on loopback with ports and a folder of its own, ended process by process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    environment = {
        **inherited,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    folder = tempfile.mkdtemp(prefix="ray")  # short: sockets lie in it
    gcs, dashboard, agent, client = free_ports(4)
    ports = [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    command = [str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=4", f"--temp-dir={folder}"]
    command += ["--node-ip-address=127.0.0.1", *ports, f"--ray-client-server-port={client}"]
    process = None
    try:
        for attempt in range(START_ATTEMPTS):
            output = tmp_path / f"ray_start_{attempt}.txt"
            with output.open("w") as file:
                process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
            if has_started(process, output):
                yield Head(f"http://127.0.0.1:{dashboard}", environment)
                return
            end(process)
        pytest.fail(f"ray start did not come up:\n{output.read_text()}")
    finally:
        if process is not None:
            end(process)
        forget(f"127.0.0.1:{gcs}")
        shutil.rmtree(folder, ignore_errors=True)


def test_stage1_as_a_job(store: Path, tmp_path: Path, head: Head) -> None:
    config = Stage1Config(
        dataset=str(store),
        storage=str(tmp_path / "run"),
        runs=tmp_path,
        rig=RIG,
        training=TrainingConfig(samples=16, batch=4, learning_rate=1e-3, train_encoder=True, log_every=8),
        workers=1,
        grid=2,
    )
    file = configs.save(config, tmp_path / "config")
    submit = ["job", "submit", f"--address={head.jobs}", "--working-dir=.", "--"]
    done = subprocess.run(
        [str(BIN / "ray"), *submit, "python", "pipelines/stage1.py", "--config", str(file)],
        cwd=ROOT,
        env=head.environment,
        capture_output=True,
        text=True,
        timeout=JOB_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert "stage 1: 100%" in done.stdout  # the bar reaches the log of the job
    assert load_weights(tmp_path / "run/weights.safetensors").rig.config == RIG
    assert [path.name for path in (tmp_path / "run/samples").iterdir()] == ["000000000016.png"]
    assert Identities(tracking_uri(tmp_path)).get(BASE).version == 1


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, all different."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def has_started(process: subprocess.Popen[bytes], output: Path) -> bool:
    """Wait until Ray says that it runs, or has ended: busy machines are sometimes too slow for its timeout of 30 s."""
    while process.poll() is None:
        if "Ray runtime started" in output.read_text():
            return True
        time.sleep(0.2)
    return False


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started, and nothing else."""
    family = [*descendants(process.pid), process.pid]
    for pid in family:
        send(pid, signal.SIGTERM)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(send(pid, 0) for pid in family):
        process.poll()
        time.sleep(0.1)
    for pid in family:
        send(pid, signal.SIGKILL)  # Ray's daemons often outlive a polite request
    process.wait()


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in table.splitlines()]
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in pairs if its_parent == parent]
    return found[1:]


def send(pid: int, number: int) -> bool:
    """Whether the process was there to get the signal."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def forget(address: str) -> None:
    """Ray notes the last cluster that was started; without its head the note misleads every later `ray.init`."""
    note = Path(tempfile.gettempdir()) / "ray" / "ray_current_cluster"
    if note.is_file() and note.read_text().strip() == address:
        note.unlink()
