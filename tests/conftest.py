"""Fixtures that every room's tests share."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from drig import storage
from tests.s3 import FaultyS3, new_bucket, running_s3, use


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of parity fixtures and test photos, beside the checkout or named by DRIG_SHARED."""
    folder = Path(os.environ.get("DRIG_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared fixtures at {folder}")
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[FaultyS3]:
    """An S3 server that can be made to fail; starting one takes a second."""
    with running_s3() as server:
        yield server


@pytest.fixture
def s3(s3_server: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """The server, with no faults; the environment points every client there."""
    use(monkeypatch, s3_server)
    s3_server.requests.clear()
    storage._new_client.cache_clear()
    yield s3_server
    s3_server.faults.clear()
    storage._new_client.cache_clear()


@pytest.fixture
def bucket(s3: FaultyS3) -> str:
    """The URI of a new, empty bucket."""
    return new_bucket()


@pytest.fixture(scope="session")
def ray_local(s3_server: FaultyS3) -> Iterator[None]:
    """One Ray for all tests that need it, on this machine alone; starting one takes 8 s and more.

    Its workers have the environment that it was started in, so that what they find on S3 is on the tests' server.
    """
    from pipelines.cluster import ClusterConfig, ray_cluster  # here, because most tests need no Ray

    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_AUTH_MODE", "disabled")
        with pytest.MonkeyPatch.context() as at_start:
            use(at_start, s3_server)
            stack.enter_context(ray_cluster(ClusterConfig(cpus=4)))
        yield


@pytest.fixture(scope="session")
def synthetic_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two synthetic people with three 256 px portraits each: person_000<i>/0<j>.png."""
    from drig.data.synthetic import write_people

    folder = tmp_path_factory.mktemp("people")
    list(write_people(folder, people=range(2), photos=3, size=256, seed=0))
    return folder


_LONGEST = ("pipelines", "deployments")
"""Rooms whose files take minutes: begun last, one of them would be waited for alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rooms = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(rooms).parts[0] not in _LONGEST)
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
