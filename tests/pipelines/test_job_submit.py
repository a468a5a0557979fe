"""The four pipelines as jobs of a Ray that was started from the command line, with all data on S3, as on a cluster.

In the order of a lab's work, each on what the one before left: photos, buffers, base rig, a person's rig, numbers. One
run is ended by Ctrl-C and one by `ray job stop`, and both go on. S3 throttles, resets connections and loses answers.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from drig import config as configs
from drig import storage
from drig.data.photos import save_png
from drig.diffusion.weights import load_weights
from drig.identities import BASE, Identities
from drig.tracking import connect, tracking_uri
from drig.training.config import TrainingConfig
from pipelines.evaluate import EvaluateConfig
from pipelines.extract_buffers import ExtractConfig
from pipelines.personalize import PersonalizeConfig
from pipelines.stage1 import Stage1Config
from tests.pipelines.conftest import RIG, heads
from tests.s3 import FaultyS3, Kind, new_bucket, use

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
START_ATTEMPTS = 3
JOB_S = 400
TRAINING = TrainingConfig(samples=8, batch=4, learning_rate=1e-3, train_encoder=False, warmup=0, log_every=8)


@dataclass(frozen=True)
class Head:
    """A running `ray start --head`."""

    address: str
    """Of Ray itself, for drivers."""
    jobs: str
    """URL of its job server."""
    logs: Path
    """What its workers write."""
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Lab:
    """A head, a bucket and a folder for the MLflow database, with what the pipelines have left there so far."""

    head: Head
    bucket: str
    folder: Path

    def config(self, name: str, config: Any) -> list[str]:
        """The command line of a pipeline."""
        file = configs.save(config, self.folder / name)
        return [f"pipelines/{name}.py", "--config", str(file)]

    def submit(self, words: list[str]) -> "Job":
        client = JobSubmissionClient(self.head.jobs)
        job = client.submit_job(entrypoint=f"python {' '.join(words)}", runtime_env={"working_dir": str(ROOT)})
        return Job(client, job)


@dataclass(frozen=True)
class Job:
    client: JobSubmissionClient
    name: str

    def has_ended(self) -> bool:
        return self.client.get_job_status(self.name).is_terminal()

    def end(self) -> tuple[JobStatus, str]:
        """How it ended, and its log."""
        wait_for(self.has_ended)
        return self.client.get_job_status(self.name), self.client.get_job_logs(self.name)


@pytest.fixture(scope="module")
def head(s3_server: FaultyS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A Ray on loopback with ports and a folder of its own, ended process by process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    environment = {
        **inherited,
        **s3_server.environment(),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "DRIG_LOG": "json",
        "TMPDIR": str(tmp_path_factory.mktemp("scratch")),
    }
    folder = tempfile.mkdtemp(prefix="ray")  # short: sockets lie in it
    gcs, dashboard, agent, client = free_ports(4)
    ports = [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    command = [str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=4", f"--temp-dir={folder}"]
    command += ["--node-ip-address=127.0.0.1", *ports, f"--ray-client-server-port={client}"]
    process = None
    try:
        for attempt in range(START_ATTEMPTS):
            output = tmp_path_factory.mktemp("head") / f"ray_start_{attempt}.txt"
            with output.open("w") as file:
                process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
            if has_started(process, output):
                jobs, logs = f"http://127.0.0.1:{dashboard}", Path(folder, "session_latest", "logs")
                yield Head(f"127.0.0.1:{gcs}", jobs, logs, environment)
                return
            end(process)
        pytest.fail(f"ray start did not come up:\n{output.read_text()}")
    finally:
        if process is not None:
            end(process)
        forget(f"127.0.0.1:{gcs}")
        shutil.rmtree(folder, ignore_errors=True)


FAULTS: Sequence[tuple[Kind, str, str]] = (
    ("throttle", "GET", "/photos/"),
    ("cut answer", "GET", "/photos/"),
    ("reset", "PUT", "/buffers/"),
    ("reset", "GET", "/buffers/"),
    ("throttle", "PUT", "/base/ray_train/"),  # checkpoints, by Ray Train
    ("lost answer", "PUT", "/base/weights"),
    ("throttle", "PUT", "/people/"),
    ("reset", "PUT", "/evaluation/"),
    ("lost answer", "PUT", "/evaluation/"),
)
"""What S3 fails at twice each: every pipeline has to live with it."""


@pytest.fixture(scope="module")
def lab(head: Head, s3_server: FaultyS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """With four photos of one person on an S3 that fails now and then."""
    with pytest.MonkeyPatch.context() as patch:
        use(patch, s3_server)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        storage._new_client.cache_clear()
        lab = Lab(head, new_bucket(), tmp_path_factory.mktemp("lab"))
        for i, picture in enumerate(heads(4, 192)):
            save_png(f"{lab.bucket}/photos/{i}.png", picture)
        for kind, method, part in FAULTS:
            s3_server.fail(kind, method, part, times=2)
        yield lab
        s3_server.faults.clear()
        storage._new_client.cache_clear()


@pytest.fixture(scope="module")
def buffers(lab: Lab) -> str:
    """What `ray job submit` of the extraction leaves on S3."""
    there = f"{lab.bucket}/buffers"
    config = ExtractConfig(photos=f"{lab.bucket}/photos", store=there, size=RIG.size, batch=2, sheet=0, runs=lab.folder)
    submit = ["job", "submit", f"--address={lab.head.jobs}", "--working-dir=.", "--"]
    done = subprocess.run(
        [str(BIN / "ray"), *submit, "python", *lab.config("extract_buffers", config)],
        cwd=ROOT,
        env=lab.head.environment,
        capture_output=True,
        text=True,
        timeout=JOB_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    stored = last_event(done.stdout, "photos_stored")
    assert (stored["faces"], stored["rejected"]) == (4, 0)
    return there


@pytest.fixture(scope="module")
def base(lab: Lab, buffers: str) -> Path:
    """The base rig of stage 1, which Ctrl-C ended once."""
    config = Stage1Config(
        dataset=buffers,
        storage=f"{lab.bucket}/base",
        runs=lab.folder,
        rig=RIG,
        training=replace(TRAINING, samples=1_000_000, checkpoint_every=40, train_encoder=True),
        workers=1,
        grid=1,
    )
    command = [sys.executable, *lab.config("stage1", config)]
    driver = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**lab.head.environment, "RAY_ADDRESS": lab.head.address},
        stderr=subprocess.PIPE,
        text=True,
    )
    listed = f"{lab.bucket}/base/ray_train/checkpoint_manager_snapshot.json"  # by Ray Train, once there is a checkpoint
    wait_for(lambda: storage.exists(listed) or driver.poll() is not None)
    driver.send_signal(signal.SIGINT)
    _, told = driver.communicate(timeout=JOB_S)
    assert driver.returncode == 130, told
    assert "stage1: interrupted" in told
    assert last_event(told, "run_interrupted")["command"] == "stage1"
    assert statuses(lab, "stage1") == ["KILLED"]
    seen = checkpoints(lab.bucket)
    job = lab.submit(lab.config("stage1", replace(config, training=replace(config.training, samples=max(seen) + 40))))
    status, told = job.end()
    assert status == JobStatus.SUCCEEDED, told
    assert last_event(told, "run_resumed")["place"] == f"{lab.bucket}/base"
    assert last_event(worker_logs(lab), "training_continued")["samples"] in seen
    assert statuses(lab, "stage1") == ["FINISHED"]
    weights = lab.folder / "base.safetensors"
    weights.write_bytes(storage.read_bytes(f"{lab.bucket}/base/weights.safetensors"))
    return weights


def test_stage1_goes_on_from_s3_after_ctrl_c(lab: Lab, base: Path) -> None:
    assert load_weights(base).rig.config == RIG
    assert Identities(tracking_uri(lab.folder)).get(BASE).version == 1
    sheets = storage.list_files(f"{lab.bucket}/base/samples")
    assert len(sheets) >= 2


def has_checkpoint(place: str) -> bool:
    return storage.exists(place) and any(file.endswith("progress.json") for file in storage.list_files(place))


def test_a_person_goes_on_after_ray_job_stop_on_another_machine(lab: Lab, base: Path) -> None:
    """One that has nothing of what the first had on its disk."""
    training = replace(TRAINING, samples=800, checkpoint_every=80)
    config = PersonalizeConfig(
        albums=(f"ann={lab.bucket}/photos",),
        storage=f"{lab.bucket}/people",
        runs=lab.folder,
        training=training,
        force=True,  # four photos are too few
    )
    command = lab.config("personalize", config)
    job = lab.submit(command)
    person = f"{lab.bucket}/people/ann"
    wait_for(lambda: has_checkpoint(f"{person}/training") or job.has_ended())
    job.client.stop_job(job.name)
    status, told = job.end()
    assert status == JobStatus.STOPPED, told
    assert "personalize: interrupted" in told
    assert not storage.exists(f"{person}/result.json")
    (work,) = Path(lab.head.environment["TMPDIR"]).glob("drig-work-*")
    work.rename(work.with_name("lost"))
    status, told = lab.submit(command).end()
    assert status == JobStatus.SUCCEEDED, told
    assert json.loads(storage.read_bytes(f"{person}/result.json"))["samples"] == 800
    assert not storage.exists(f"{person}/training")
    assert last_event(worker_logs(lab), "training_continued")["samples"] >= 80
    assert last_event(worker_logs(lab), "identity_finished")["identity"] == "ann"
    assert Identities(tracking_uri(lab.folder)).get("ann").version == 1


def test_evaluation_leaves_its_report_on_s3(lab: Lab, base: Path) -> None:
    config = EvaluateConfig(
        base=base,
        out=f"{lab.bucket}/evaluation",
        people=1,
        album=2,
        unseen=2,
        steps=2,
        methods=("truth", "base", "personalised"),
        training=TRAINING,
    )
    status, told = lab.submit(lab.config("evaluate", config)).end()
    assert status == JobStatus.SUCCEEDED, told
    result = json.loads(storage.read_bytes(f"{lab.bucket}/evaluation/result.json"))
    assert list(result["summary"]) == ["truth", "base", "personalised"]
    assert last_event(told, "run_finished")["command"] == "evaluate"


def test_s3_failed_all_of_them(lab: Lab, s3_server: FaultyS3, base: Path) -> None:
    """Or the tests before have shown less than they say."""
    assert [fault for fault in s3_server.faults if fault.times] == []


def test_no_log_holds_a_secret(lab: Lab, buffers: str) -> None:
    assert lab.head.environment["AWS_SECRET_ACCESS_KEY"] not in worker_logs(lab)


def checkpoints(bucket: str) -> set[int]:
    """The samples that the run's checkpoints had seen."""
    places = storage.list_files(f"{bucket}/base/ray_train")
    return {int(place.split("/checkpoint_")[1].split("/")[0]) for place in places if "/checkpoint_0" in place}


def statuses(lab: Lab, experiment: str) -> list[str]:
    """Of the experiment's runs in MLflow."""
    client = connect(tracking_uri(lab.folder))
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return [run.info.status for run in client.search_runs([found.experiment_id])]


def worker_logs(lab: Lab) -> str:
    """All that the workers and drivers of the head wrote."""
    return "\n".join(path.read_text(errors="replace") for path in lab.head.logs.glob("**/*") if path.is_file())


def last_event(log: str, name: str) -> dict[str, Any]:
    """The newest event of this name. Workers' logs are not in order, their times are."""
    lines = [line[line.index("{") :] for line in log.splitlines() if f'"event": "{name}"' in line]
    assert lines, f"no event {name} in:\n{log[-5000:]}"
    return max((json.loads(line) for line in lines), key=lambda found: found["time"])


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + JOB_S
    while not condition():
        assert time.monotonic() < deadline, f"did not come true within {JOB_S} s"
        time.sleep(0.5)  # each look costs the server or S3 some work of the processors that the job needs


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
