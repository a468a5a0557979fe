"""What the ingress knows of the registry, also while it is away."""

import asyncio
import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from deployments.api.errors import Overloaded
from deployments.catalogue import Catalogue
from drig.errors import DrigError
from drig.identities import Identities, IdentityInfo, UnknownIdentity


class Registry(Identities):
    """Counts what it is asked, and can be away."""

    away = False
    asked: int = 0

    def list(self) -> list[IdentityInfo]:
        self.asked += 1
        if self.away:
            raise ConnectionError("nobody at home")
        return super().list()

    def get(self, name: str, version: int | str = "live") -> IdentityInfo:
        self.asked += 1
        if self.away:
            raise ConnectionError("nobody at home")
        return super().get(name, version)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a registry with a base and a person: seconds to make, and quick to copy."""
    folder = tmp_path_factory.mktemp("registry")
    registry = Identities(f"sqlite:///{folder}/mlflow.db")
    registry.register_base(weights(folder, 0))
    registry.register("ada", weights(folder, 1), album_report={"photos": 3})
    return folder / "mlflow.db"


@pytest.fixture
def registry(database: Path, tmp_path: Path) -> Registry:
    shutil.copyfile(database, tmp_path / "mlflow.db")
    return Registry(f"sqlite:///{tmp_path}/mlflow.db")


def weights(folder: Path, number: int) -> Path:
    file = folder / "weights.safetensors"
    save_file({"w": np.full(1, number, np.float32)}, file, metadata={"config": json.dumps({"size": 64})})
    return file


def version(catalogue: Catalogue, name: str) -> int:
    return asyncio.run(catalogue.get(name)).version


def test_the_known_are_not_asked_for(registry: Registry) -> None:
    catalogue = Catalogue(registry, fresh=60)
    catalogue.refresh()
    assert [info.name for info in catalogue.list()] == ["base", "ada"]
    assert (version(catalogue, "ada"), version(catalogue, "base"), catalogue.largest) == (1, 1, 64)
    assert registry.asked == 1
    assert catalogue.problem is None


def test_the_unknown_are_asked_for_once(registry: Registry, tmp_path: Path) -> None:
    catalogue = Catalogue(registry, fresh=60)
    catalogue.refresh()
    registry.register("eve", weights(tmp_path, 2), album_report={"photos": 3})
    asked = registry.asked
    assert (version(catalogue, "eve"), version(catalogue, "eve")) == (1, 1)
    assert registry.asked == asked + 1
    with pytest.raises(UnknownIdentity, match="did you mean ada"):
        version(catalogue, "adda")
    with pytest.raises(DrigError, match="letters"):
        version(catalogue, "../x")


def test_while_the_registry_is_away_the_known_go_on(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    catalogue = Catalogue(registry, fresh=60)
    registry.away = True
    catalogue.refresh()
    assert catalogue.problem is not None
    with pytest.raises(Overloaded):
        catalogue.list()
    registry.away = False
    catalogue.refresh()
    assert catalogue.stale_seconds == 0
    assert len(catalogue.list()) == 2
    registry.away = True
    catalogue.refresh()
    assert version(catalogue, "ada") == 1
    assert catalogue.stale_seconds > 0
    asked = registry.asked
    with pytest.raises(Overloaded, match="'eve' is not among"):
        version(catalogue, "eve")
    assert registry.asked == asked  # nobody waits for a registry that is known to be away
    assert "2 identities are served as they were known last: nobody at home" in capsys.readouterr().err
    registry.away = False
    catalogue.refresh()
    assert catalogue.stale_seconds == 0
    assert "answers again" in capsys.readouterr().err


def test_an_outage_is_first_seen_by_whoever_asks(registry: Registry) -> None:
    catalogue = Catalogue(registry, fresh=60)
    catalogue.refresh()
    registry.away = True
    with pytest.raises(Overloaded):
        version(catalogue, "eve")
    assert catalogue.stale_seconds > 0


def test_who_is_in_use_is_asked_for_again(registry: Registry, tmp_path: Path) -> None:
    catalogue = Catalogue(registry, fresh=0)
    catalogue.refresh()
    registry.register("ada", weights(tmp_path, 5), album_report={"photos": 3})
    assert version(catalogue, "ada") == 2
    registry.away = True
    assert version(catalogue, "ada") == 2
    asked = registry.asked
    assert version(catalogue, "ada") == 2
    assert registry.asked == asked  # it is known to be away
    registry.away = False
    catalogue.refresh()
    registry.delete("ada")
    with pytest.raises(UnknownIdentity):
        version(catalogue, "ada")
    assert [info.name for info in catalogue.list()] == ["base"]


def test_a_list_that_was_begun_before_a_change_does_not_undo_it(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = Catalogue(registry, fresh=60)
    catalogue.refresh()
    before = registry.list()

    def slow_list() -> list[IdentityInfo]:
        catalogue.forget("ada")
        registry.register("eve", weights(tmp_path, 6), album_report={"photos": 3})
        assert version(catalogue, "eve") == 1
        return before

    monkeypatch.setattr(registry, "list", slow_list)
    catalogue.refresh()
    assert [info.name for info in catalogue.list()] == ["base", "eve"]
    monkeypatch.undo()
    catalogue.refresh()
    assert [info.name for info in catalogue.list()] == ["base", "ada", "eve"]  # it was not deleted, as it turns out


def test_nobody_waits_long_for_a_registry_that_hangs(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue, answered = Catalogue(registry, fresh=60, patience=0.2), threading.Event()
    catalogue.refresh()
    monkeypatch.setattr(registry, "get", lambda name: answered.wait(60))
    with pytest.raises(Overloaded, match="'eve' is not among"):
        version(catalogue, "eve")
    assert version(catalogue, "ada") == 1
    answered.set()


def test_new_versions_and_deletions_are_seen_in_the_background(registry: Registry, tmp_path: Path) -> None:
    catalogue = Catalogue(registry, every=0.05, fresh=60)
    catalogue.start()
    try:
        registry.register("ada", weights(tmp_path, 3), album_report={"photos": 3})
        within_seconds(lambda: version(catalogue, "ada") == 2)
        registry.register("eve", weights(tmp_path, 4), album_report={"photos": 3})
        within_seconds(lambda: len(catalogue.list()) == 3)
        registry.delete("eve")
        within_seconds(lambda: len(catalogue.list()) == 2)
    finally:
        catalogue.close()


def test_what_was_deleted_here_is_forgotten_at_once(registry: Registry) -> None:
    catalogue = Catalogue(registry, fresh=60)
    catalogue.refresh()
    registry.delete("ada")
    catalogue.forget("ada")
    with pytest.raises(UnknownIdentity):
        version(catalogue, "ada")


def within_seconds(true: object) -> None:
    assert callable(true)
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
