"""Fixtures that every room's tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of parity fixtures and test photos, beside the checkout or named by DRIG_SHARED."""
    folder = Path(os.environ.get("DRIG_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared fixtures at {folder}")
    return folder


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """One Ray for all tests that need it, on this machine alone; starting one takes 8 s and more."""
    from pipelines.cluster import ClusterConfig, ray_cluster  # here, because most tests need no Ray

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_AUTH_MODE", "disabled")
        with ray_cluster(ClusterConfig(cpus=4)):
            yield


@pytest.fixture(scope="session")
def synthetic_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two synthetic people with three 256 px portraits each: person_000<i>/0<j>.png."""
    from drig.data.synthetic import write_people

    folder = tmp_path_factory.mktemp("people")
    list(write_people(folder, people=range(2), photos=3, size=256, seed=0))
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
