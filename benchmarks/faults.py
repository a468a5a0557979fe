"""Stage 1, killed in every way, against a run that nothing happens to.

    python benchmarks/faults.py [--only worker node ...] [--json FILE]

Every fault comes in the middle of a run of two workers, between two checkpoints: a worker or a driver gets a signal, a
node of a Ray of two leaves with the worker on it. Where the driver is gone the same command is given again. In the end
the weights are compared with those of the undisturbed run, number by number: a sample that was lost, or trained on
twice, would move them as far as a step does. A real S3 server of moto's holds the storage where the line says so.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load

from drig import config as configs
from drig import storage
from drig.data.records import Record
from drig.data.store import BufferStoreWriter
from drig.diffusion.network import Rig, RigConfig
from drig.randomness import derive_seed, numpy_generator
from drig.training.config import TrainingConfig
from drig.versions import versions
from pipelines.stage1 import Stage1Config

ROOT = Path(__file__).parents[1]
RIG = RigConfig(
    size=32, base_channels=32, channel_mult=(1, 1), blocks_per_level=1, attention_size=0,
    encoder_blocks=(1, 1, 1, 1), encoder_width=8,
)  # fmt: skip
TRAINING = TrainingConfig(
    samples=120, batch=6, learning_rate=1e-3, train_encoder=True, ema_half_life=60, precision="fp32",
    log_every=12, checkpoint_every=24,
)  # fmt: skip
PATIENCE_S = 900
Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    killed_at: str
    """The newest checkpoint when the fault came."""
    weights: Weights
    loss: float
    """Of the last report."""


class Driver:
    """The command, as a process with a Ray of its own, or on the one of `address`."""

    def __init__(self, config: Stage1Config, folder: Path, address: str | None = None) -> None:
        self.config = config
        file = configs.save(config, folder / "command")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20"}
        if address is not None:
            environment["RAY_ADDRESS"] = address
        self.log = folder / "driver.log"
        command = [sys.executable, str(ROOT / "pipelines/stage1.py"), "--config", str(file)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def wait_for_checkpoint(self) -> str:
        """Until Ray Train has registered one, and then some; its name."""
        snapshot = storage.join(self.config.storage, "ray_train", "checkpoint_manager_snapshot.json")
        deadline = time.monotonic() + PATIENCE_S
        while not storage.exists(snapshot):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no checkpoint:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)
        time.sleep(random.Random(self.config.storage).uniform(0, 1))
        found = json.loads(storage.read_bytes(snapshot))
        return str(found["latest_checkpoint_result"]["checkpoint_dir_name"])

    def finish(self) -> None:
        if self.process.wait(PATIENCE_S):
            raise RuntimeError(f"the driver ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")

    def workers(self) -> list[int]:
        """Processes of Ray Train's workers below this one."""
        table = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
        rows = [line.split(maxsplit=2) for line in table.splitlines()]
        family = [self.process.pid]
        for parent in family:
            family += [int(pid) for pid, its_parent, *_ in rows if int(its_parent) == parent]
        return [int(pid) for pid, _, *what in rows if int(pid) in family and "ray::RayTrainWorker" in "".join(what)]


def undisturbed(config: Stage1Config, folder: Path) -> Outcome:
    Driver(config, folder).finish()
    return outcome(config, "-")


def worker_killed(config: Stage1Config, folder: Path, *, every: bool) -> Outcome:
    driver = Driver(config, folder)
    killed_at = driver.wait_for_checkpoint()
    for pid in driver.workers()[: None if every else 1]:
        os.kill(pid, signal.SIGKILL)
    driver.finish()
    return outcome(config, killed_at)


def driver_killed(config: Stage1Config, folder: Path, number: signal.Signals, *, torn: bool = False) -> Outcome:
    """torn: Ray Train's list of checkpoints was being written just then."""
    driver = Driver(config, folder)
    killed_at = driver.wait_for_checkpoint()
    driver.process.send_signal(number)
    driver.process.wait(PATIENCE_S)
    time.sleep(15)  # what it started ends by itself
    if torn:
        snapshot = Path(config.storage, "ray_train", "checkpoint_manager_snapshot.json")
        snapshot.write_bytes(snapshot.read_bytes()[:100])
    Driver(config, folder).finish()
    return outcome(config, killed_at)


def node_lost(config: Stage1Config, folder: Path) -> Outcome:
    """Two nodes with a CPU each; the one that the driver is not on leaves, and training goes on with one worker."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node = cluster.add_node(num_cpus=1)
        driver = Driver(replace(config, min_workers=1), folder, cluster.address)
        killed_at = driver.wait_for_checkpoint()
        cluster.remove_node(node, allow_graceful=False)
        driver.finish()
    finally:
        cluster.shutdown()
    return outcome(config, killed_at)


@contextmanager
def s3_server() -> Iterator[None]:
    """moto's server on loopback, with one bucket, where boto3, pyarrow and Ray's workers find it."""
    import boto3

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    program = Path(sys.executable).with_name("moto_server")
    server = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        boto3.client("s3").create_bucket(Bucket="faults")
        yield
    finally:
        server.kill()
        del os.environ["AWS_ENDPOINT_URL"]


def on_s3(config: Stage1Config, folder: Path) -> Outcome:
    with s3_server():
        return driver_killed(replace(config, storage="s3://faults/run"), folder, signal.SIGKILL)


FAULTS: dict[str, tuple[str, Callable[[Stage1Config, Path], Outcome]]] = {
    "worker": ("one worker, SIGKILL", lambda c, f: worker_killed(c, f, every=False)),
    "workers": ("both workers, SIGKILL", lambda c, f: worker_killed(c, f, every=True)),
    "node": ("one of two nodes, --min_workers 1", node_lost),
    "term": ("the driver, SIGTERM", lambda c, f: driver_killed(c, f, signal.SIGTERM)),
    "kill": ("the driver, SIGKILL", lambda c, f: driver_killed(c, f, signal.SIGKILL)),
    "torn": ("the driver, as it lists checkpoints", lambda c, f: driver_killed(c, f, signal.SIGKILL, torn=True)),
    "s3": ("the driver, SIGKILL; storage on S3", on_s3),
}


def outcome(config: Stage1Config, killed_at: str) -> Outcome:
    result = json.loads(storage.read_bytes(storage.join(config.storage, "result.json")))
    assert result["samples_seen"] == config.training.total
    weights = load(storage.read_bytes(storage.join(config.storage, "weights.safetensors")))
    return Outcome(killed_at, weights, result["metrics"]["loss"])


def distance(one: Weights, other: Weights) -> float:
    """The Euclidean norm of the difference of all numbers."""
    return float(sum((one[name].double() - other[name].double()).square().sum() for name in one) ** 0.5)


def make_store(folder: Path) -> Path:
    numbers = numpy_generator(0, "faults")
    with BufferStoreWriter(folder, size=RIG.size, head="open", estimator="truth") as writer:
        for i in range(50):
            writer.put(
                Record(
                    key=f"{i}.png",
                    image=numbers.integers(0, 256, (RIG.size, RIG.size, 3), np.uint8),
                    normal=numbers.uniform(-1, 1, (3, RIG.size, RIG.size)).astype(np.float32),
                    albedo=numbers.uniform(0, 1, (3, RIG.size, RIG.size)).astype(np.float32),
                    alpha=np.ones((RIG.size, RIG.size), np.bool_),
                    codes={"light": np.ones((9, 3), np.float32)},
                    landmarks=np.zeros((68, 2), np.float32),
                )
            )
    return folder


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--json", type=Path, help="also write the table there")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="drig-faults-") as temporary:
        folder = Path(temporary)
        dataset = make_store(folder / "buffers")

        def command(name: str) -> Stage1Config:
            (folder / name).mkdir()
            run = str(folder / name / "run")
            return Stage1Config(
                dataset=str(dataset), storage=run, runs=folder, rig=RIG, training=TRAINING, grid=1, register=False
            )

        whole = undisturbed(command("undisturbed"), folder / "undisturbed")
        start = dict(Rig.from_seed(RIG, derive_seed(TRAINING.seed, "rig")).state_dict())
        moved = distance(whole.weights, start)
        print(f"{'what was killed':40}{'after':>12}{'loss':>12}{'loss differs':>14}{'weights differ':>16}", flush=True)
        for name in arguments.only:
            what, happen = FAULTS[name]
            found = happen(command(name), folder / name)
            row = {
                "fault": what,
                "after": int(found.killed_at.rpartition("_")[2]),
                "loss": found.loss,
                "loss_differs": abs(found.loss / whole.loss - 1),
                "weights_differ": distance(found.weights, whole.weights) / moved,
            }
            rows.append(row)
            numbers = f"{row['loss']:12.5f}{row['loss_differs']:14.1e}{row['weights_differ']:16.1e}"
            print(f"{what:40}{row['after']:12}{numbers}", flush=True)
    print(f"\nof {TRAINING.total} samples in batches of {TRAINING.batch}; weights: of their way in training")
    if arguments.json:
        about = {"date": datetime.now(UTC).date().isoformat(), **versions()}
        arguments.json.write_text(json.dumps({"about": about, "faults": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
