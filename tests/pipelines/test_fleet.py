"""The fleet with workers that do next to nothing, and so start in a second."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import ray
from ray.exceptions import RayError

from drig.errors import DrigError
from pipelines.fleet import START_ATTEMPTS, run_fleet
from pipelines.identity_queue import IdentityQueue

pytestmark = pytest.mark.usefixtures("ray_local")


class Worker:
    """Does what its input says, and notes its process and whom it worked for in a file of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / f"{os.getpid()}").touch()

    def ready(self) -> None: ...

    def work(self, name: str, what: str) -> str:
        with (self.folder / f"{os.getpid()}").open("a") as file:
            file.write(f"{name}\n")
        if what == "raise":
            raise ZeroDivisionError(name)
        if what == "die":
            os._exit(1)
        return name.upper()


class Stillborn(Worker):
    def ready(self) -> None:
        (self.folder / f"{os.getpid()}").touch()
        os._exit(1)


def start(kind: type[Worker], folder: Path) -> Callable[[], Any]:
    return partial(ray.remote(num_cpus=0.1)(kind).remote, folder)


def test_many_need_no_more_workers_than_are_asked_for(tmp_path: Path) -> None:
    names = {f"person_{i:03d}": 0.0 for i in range(300)}
    starts = Mock(side_effect=start(Worker, tmp_path))
    done = dict(run_fleet(starts, IdentityQueue(names, attempts=1), dict.fromkeys(names, "work"), workers=2))
    assert done == {name: name.upper() for name in names}
    assert starts.call_count == 2
    worked = [name for file in tmp_path.iterdir() for name in file.read_text().split()]
    assert sorted(worked) == sorted(names)


def test_who_raises_or_kills_gets_a_new_worker_for_the_others(tmp_path: Path) -> None:
    inputs = {"ann": "work", "bob": "raise", "cem": "die", "dan": "work"}
    queue = IdentityQueue(dict.fromkeys(inputs, 0.0), attempts=2)
    done = dict(run_fleet(start(Worker, tmp_path), queue, inputs, workers=1))
    assert (done["ann"], done["dan"]) == ("ANN", "DAN")
    assert isinstance(done["bob"], ZeroDivisionError)
    assert isinstance(done["cem"], RayError)
    worked = [file.read_text().split() for file in tmp_path.iterdir()]
    assert sorted(worked) == [["ann", "bob"], ["cem"], ["cem"], ["dan"]]


def test_workers_that_never_come_up_are_an_error(tmp_path: Path) -> None:
    queue = IdentityQueue({"ann": 0.0}, attempts=1)
    with pytest.raises(DrigError, match="no worker comes up"):
        dict(run_fleet(start(Stillborn, tmp_path), queue, {"ann": "work"}, workers=1))
    assert len(list(tmp_path.iterdir())) == START_ATTEMPTS


def test_without_a_machine_nobody_waits_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ray leaves it where its only machine was too busy to answer it."""
    monkeypatch.setattr("pipelines.fleet.LOOK_S", 0.01)
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": False}])
    queue = IdentityQueue({"ann": 0.0}, attempts=1)
    with pytest.raises(DrigError, match="give the command again"):
        dict(run_fleet(start(Worker, tmp_path), queue, {"ann": "work"}, workers=1))
