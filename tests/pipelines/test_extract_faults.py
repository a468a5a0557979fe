"""Exactly once: whatever is killed, the same command ends with the store of a run that nothing disturbed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

from drig import config as configs
from drig.data.photos import save_png
from drig.data.store import BufferStore, Manifest
from pipelines.cluster import ClusterConfig
from pipelines.extract_buffers import ExtractConfig, extract
from tests.pipelines.conftest import heads
from tests.pipelines.test_job_submit import ROOT, descendants

PHOTOS = 160
WAIT_S = 240


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ExtractConfig:
    """Crops that are taken at their word, since finding faces takes longer than all the rest; one cannot be used."""
    folder = tmp_path_factory.mktemp("many")
    pictures = heads(8, 32)
    for i in range(PHOTOS - 1):
        save_png(folder / "photos" / f"{i:03}.png", pictures[i % 8] // 2 + np.uint8(i // 8))
    save_png(folder / "photos" / "wide.png", np.zeros((32, 64, 3), np.uint8))
    return ExtractConfig(
        photos=str(folder / "photos"),
        store=str(folder / "undisturbed"),
        runs=folder,
        size=32,
        aligned=True,
        detect=False,
        batch=4,
        shard=8,
        sheet=0,
        finders=1,
        renderers=1,
    )


@pytest.fixture(scope="module")
def undisturbed(config: ExtractConfig, ray_local: None) -> dict[str, bytes]:
    assert extract(config).records == PHOTOS - 1
    return records(config)


def records(config: ExtractConfig) -> dict[str, bytes]:
    """Every record of a store, in which each is once."""
    store = BufferStore(config.store)
    assert sum(shard.count for shard in store.manifest.shards) == len(store)
    assert set(store.rejects) == {"wide.png"}
    keys = store.keys()
    return {key: store._content(key)[1] for key in keys}


def committed(config: ExtractConfig) -> int:
    """Records that the store holds for good."""
    manifest = Path(config.store, "manifest.json")
    return sum(shard.count for shard in Manifest.load(manifest.parent).shards) if manifest.exists() else 0


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for does not come"
        time.sleep(0.02)


def workers(parent: int, mapper: str) -> list[int]:
    """The processes below `parent` in which Ray Data runs a mapper."""
    table = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    named = {int(line.split()[0]) for line in table.splitlines() if f"Map({mapper})" in line}
    return [pid for pid in descendants(parent) if pid in named]


@contextmanager
def meanwhile(disturb: Callable[[], None]) -> Iterator[None]:
    """Run `disturb` beside the block; its errors are the block's."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            disturb()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()
    if errors:
        raise errors[0]


def test_a_killed_driver_and_killed_workers_leave_no_trace(
    config: ExtractConfig, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    config = replace(config, store=str(tmp_path / "store"))
    joining = replace(config, cluster=ClusterConfig(address=ray.get_runtime_context().gcs_address))
    command = [sys.executable, str(ROOT / "pipelines/extract_buffers.py"), "--config"]
    file = configs.save(joining, tmp_path / "config")
    with subprocess.Popen([*command, str(file)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) as driver:
        wait(lambda: committed(config) > 0)
        driver.kill()
    before = committed(config)
    assert 0 < before < PHOTOS - 1
    wait(lambda: not workers(os.getpid(), "CarefulFinder") + workers(os.getpid(), "BufferRenderer"))

    def kill_workers() -> None:
        wait(lambda: bool(workers(os.getpid(), "CarefulFinder")))
        os.kill(workers(os.getpid(), "CarefulFinder")[0], signal.SIGKILL)
        wait(lambda: committed(config) >= before + 40)
        os.kill(workers(os.getpid(), "BufferRenderer")[0], signal.SIGKILL)

    with meanwhile(kill_workers):
        result = extract(config)
    assert result.known >= before
    assert records(config) == undisturbed


def test_a_lost_node_leaves_no_trace(config: ExtractConfig, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    config = replace(config, store=str(tmp_path / "store"))
    file = configs.save(config, tmp_path / "config")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    subprocess.run(
        [sys.executable, "-m", "tests.pipelines.losing_a_node", str(file)],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=2 * WAIT_S,
    )
    assert records(config) == undisturbed
