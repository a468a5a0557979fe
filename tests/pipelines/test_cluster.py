import subprocess
import sys

import pytest
import ray

from drig.errors import DrigError
from pipelines.cluster import ClusterConfig, ray_cluster, reserve, use_gpu


def test_rejects_contradictory_settings() -> None:
    with pytest.raises(DrigError, match="give one of them"):
        ClusterConfig(address="auto", cpus=4)
    with pytest.raises(DrigError, match="give 3 or more"):
        ClusterConfig(cpus=2)


def test_uses_a_ray_that_runs_and_leaves_it_running(ray_local: None) -> None:
    with ray_cluster(ClusterConfig(cpus=8)):
        assert ray.cluster_resources()["CPU"] == 4  # type: ignore[no-untyped-call]
    assert ray.is_initialized()


def test_gpu_is_what_there_is_unless_it_is_said(ray_local: None) -> None:
    assert not use_gpu(ClusterConfig())
    assert use_gpu(ClusterConfig(gpu=True))


def test_what_the_cluster_lacks_is_told_while_it_may_still_come(
    ray_local: None, capfd: pytest.CaptureFixture[str]
) -> None:
    with reserve(ClusterConfig(address="auto"), cpus=9, gpus=1):
        pass
    assert "waiting: 9 CPUs are needed, 4 are there; 1 GPUs are needed, 0 are there" in capfd.readouterr().err
    with reserve(ClusterConfig(), cpus=4, gpus=0):
        pass
    assert "waiting" not in capfd.readouterr().err
    with pytest.raises(DrigError, match="9 CPUs are needed, 4 are there"), reserve(ClusterConfig(), cpus=9, gpus=0):
        pass


def test_an_address_where_nothing_listens_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(DrigError, match=r"no Ray at 127\.0\.0\.1:1: .*unset RAY_ADDRESS"):
        ray_cluster(ClusterConfig(address="127.0.0.1:1")).__enter__()


def test_an_own_ray_that_misses_its_deadline_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[str] = []

    def init(*, address: str, **_: object) -> None:
        attempts.append(address)
        if len(attempts) < 2:
            raise RuntimeError("The current node timed out during startup")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with ray_cluster(ClusterConfig()):
        assert attempts == ["local", "local"]


ENDED = """
import time
from pipelines.cluster import ClusterConfig, ray_cluster
with ray_cluster(ClusterConfig(dashboard=False)):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        time.sleep(4)
        print("cleaned up")
"""


def test_sigterm_leaves_time_to_clean_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with subprocess.Popen([sys.executable, "-c", ENDED], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        program.terminate()
        told, errors = program.communicate(timeout=60)
    assert told == b"cleaned up\n"
    assert b"SIGTERM received" not in errors
    assert program.returncode == 15  # of SystemExit, which `drig.config.run` makes 130 of
