"""The editing side without Ray Serve, with an editor that only waits: errors as values, and edits nobody waits for."""

import asyncio
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from deployments.messages import Edited, EditJob, Refused
from deployments.replicas import edits as replica
from deployments.replicas.edits import EditReplica, encode_png
from drig.errors import PhotoRejected
from drig.identities import BASE, Identities

WHITE = np.full((8, 8, 3), 255, np.uint8)


@dataclass
class WaitingEditor:
    """Stands in for Editor: its picture is the seed, its steps take 20 ms, and it finds no face in a black photo."""

    steps_done = 0
    loaded = 0

    @classmethod
    def load(cls, weights: Path, *, device: str) -> "WaitingEditor":
        assert weights.is_file()
        cls.loaded += 1
        return cls()

    def personalised(self, delta: Path) -> "WaitingEditor":
        assert delta.is_file()
        return WaitingEditor()

    def read(self, photo: np.ndarray, *, aligned: bool) -> np.ndarray:
        if not photo.any():
            raise PhotoRejected("no face was found")
        return photo

    def edit(self, *photos: np.ndarray, steps: int, seed: int, on_step: Callable[..., None], **_: Any) -> Any:
        for step in range(steps):
            time.sleep(0.02)
            type(self).steps_done += 1
            on_step(step + 1, steps, None)
        return SimpleNamespace(image=np.full((4, 4, 3), seed, np.uint8), warnings=("beware",))


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    folder = tmp_path_factory.mktemp("registry")
    registry = Identities(f"sqlite:///{folder}/mlflow.db")
    for number, name in enumerate(("ada", "lost")):
        weights = folder / "weights.safetensors"
        save_file({"w": np.full(1, number, np.float32)}, weights, metadata={"config": json.dumps({"size": 64})})
        registry.register(name, weights, album_report={"photos": 3})
    registry.fetch("lost").unlink()
    weights = folder / "base.safetensors"
    save_file({"w": np.zeros(1, np.float32)}, weights, metadata={"config": json.dumps({"size": 64})})
    registry.register_base(weights)
    base = registry.get(BASE).base
    assert base is not None
    for number, name in enumerate(("ann", "bob")):
        header = {"config": json.dumps({"size": 64}), "base": base}
        save_file({"w": np.full(1, number, np.float32)}, folder / "delta.safetensors", metadata=header)
        registry.register(name, folder / "delta.safetensors", album_report={"photos": 3})
    return registry


@pytest.fixture
def edits(identities: Identities, monkeypatch: pytest.MonkeyPatch) -> EditReplica:
    monkeypatch.setattr(replica, "_import_editor", lambda: WaitingEditor)
    WaitingEditor.steps_done = WaitingEditor.loaded = 0
    return EditReplica(identities.tracking_uri, "cpu")


def job(source: bytes = encode_png(WHITE), **changes: Any) -> EditJob:
    return EditJob(
        **(
            {"source": source, "target": None, "modes": (), "controls": {}, "steps": 1, "sampler": "ddim", "seed": 7}
            | {"aligned": False}
            | changes
        )
    )


def test_an_edit_comes_back_as_a_png(edits: EditReplica) -> None:
    answer = asyncio.run(edits.edit("ada@1", job()))
    assert isinstance(answer, Edited)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.png))), np.full((4, 4, 3), 7))
    assert answer.warnings == ("beware",)


def test_people_who_are_deltas_share_one_base(edits: EditReplica) -> None:
    async def edit_with(*people: str) -> None:
        for person in people:
            assert isinstance(await edits.edit(person, job()), Edited)

    asyncio.run(edit_with("ann@1", "bob@1", "base@1"))
    assert WaitingEditor.loaded == 1
    asyncio.run(edit_with("ada@1"))  # a whole rig
    assert WaitingEditor.loaded == 2


@pytest.mark.parametrize(
    ("identity", "request_", "status", "message"),
    [
        ("ada@1", job(encode_png(WHITE * 0)), 422, "source: no face was found"),
        ("ada@1", job(target=encode_png(WHITE * 0)), 422, "target: no face was found"),
        ("ada@1", job(b"text"), 422, "source: not a photo"),
        ("ada@1", job(b""), 422, "source: the file is empty"),
        ("ada@1", job(controls={"yaw": 200.0}), 422, "yaw is 200.0"),
        ("ada@2", job(), 404, "ada has no version 2"),
        ("eve@1", job(), 404, "no identity is called 'eve'"),
        ("lost@1", job(), 500, "the weights of lost@1 cannot be used"),
    ],
)
def test_what_cannot_be_done_is_said(
    edits: EditReplica, identity: str, request_: EditJob, status: int, message: str
) -> None:
    answer = asyncio.run(edits.edit(identity, request_))
    assert isinstance(answer, Refused)
    assert answer.status == status
    assert message in answer.message


def test_an_edit_nobody_waits_for_stops_at_its_next_step(edits: EditReplica) -> None:
    async def leave_early() -> Edited | Refused:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(edits.edit("ada@1", job(steps=1000)), timeout=0.5)
        return await edits.edit("ada@1", job(steps=1))

    assert isinstance(asyncio.run(leave_early()), Edited)
    assert 1 < WaitingEditor.steps_done < 100


def test_the_event_loop_is_free_while_an_edit_runs(edits: EditReplica) -> None:
    async def count_while_editing() -> int:
        edit, ticks = asyncio.create_task(edits.edit("ada@1", job(steps=20))), 0
        while not edit.done():
            ticks += 1
            await asyncio.sleep(0.01)
        return ticks

    assert asyncio.run(count_while_editing()) > 10
