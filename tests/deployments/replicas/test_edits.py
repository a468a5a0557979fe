"""The editing side without Ray Serve, with an editor that only waits: errors as values, and edits nobody waits for."""

import asyncio
import io
import json
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

import drig.editing
from deployments.messages import Edited, EditJob, FoundFace, Progress, Refused, identity_key
from deployments.replicas import edits as replica
from deployments.replicas.edits import EditReplica, Loaded
from deployments.replicas.transport import encode_png
from drig.errors import DrigError
from drig.identities import BASE, Identities, IdentityInfo, UnknownIdentity
from drig.reading import Face
from tests.deployments.replicas.faces import found_face

FACE = found_face()


class WaitingEditor:
    """Stands in for Editor: its picture is the seed, its steps take 20 ms."""

    steps_done = 0
    loaded = 0
    batches: list[int] = []  # noqa: RUF012
    begun = 0
    """Batches."""
    go = Event()
    """Edits wait for it before their first step."""

    def __init__(self, rig: object, delta: object = None) -> None:
        self.rig, self.delta, self.mirrored = rig, delta, False
        self.head = SimpleNamespace(name="open")

    samples_with = drig.editing.Editor.samples_with

    @classmethod
    def load(cls, weights: Path, *, device: str) -> "WaitingEditor":
        assert weights.is_file()
        cls.loaded += 1
        return cls(weights)

    def personalised(self, delta: Path) -> "WaitingEditor":
        assert delta.is_file()
        return WaitingEditor(self.rig, delta)

    def head_mask(self, source: object, edited: object) -> np.ndarray:
        return np.ones((64, 64), bool)

    def plan(self, source: Face, target: Face | None, *, modes: Any, controls: Any, seed: int) -> Any:
        if modes and target is None:
            raise DrigError("modes take from a target photo")
        return SimpleNamespace(editor=self, seed=seed)

    @classmethod
    def edit_together(cls, plans: Sequence[Any], *, steps: int, sampler: str, on_step: Any) -> list[Any]:
        cls.begun += 1
        cls.go.wait(60)
        cls.batches.append(len(plans))
        for step in range(steps):
            time.sleep(0.02)
            cls.steps_done += 1
            on_step(step + 1, steps, torch.zeros(len(plans), 3, 4, 4))
        buffers = torch.zeros(9, 4, 4)
        return [
            SimpleNamespace(
                codes=None, image=np.full((4, 4, 3), plan.seed, np.uint8), warnings=("beware",), buffers=buffers
            )
            for plan in plans
        ]


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    folder = tmp_path_factory.mktemp("registry")
    registry = Identities(f"sqlite:///{folder}/mlflow.db")
    for number, name in enumerate(("ada", "whole")):
        weights = folder / "weights.safetensors"
        save_file({"w": np.full(1, number, np.float32)}, weights, metadata={"config": json.dumps({"size": 64})})
        registry.register(name, weights, album_report={"photos": 3})
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
    return make_replica(identities, monkeypatch)


def make_replica(
    identities: Identities, monkeypatch: pytest.MonkeyPatch, device: str = "cpu", **settings: Any
) -> EditReplica:
    monkeypatch.setattr(replica, "_import_editor", lambda: WaitingEditor)
    monkeypatch.setattr(drig.editing, "edit_together", WaitingEditor.edit_together)
    WaitingEditor.steps_done = WaitingEditor.loaded = WaitingEditor.begun = 0
    WaitingEditor.batches, WaitingEditor.go = [], Event()
    WaitingEditor.go.set()
    return EditReplica(identities.tracking_uri, device, **settings)


def job(source: FoundFace = FACE, **changes: Any) -> EditJob:
    plain: dict[str, Any] = {"target": None, "modes": (), "controls": {}, "steps": 1, "sampler": "ddim", "seed": 7}
    return EditJob(source, **(plain | changes))


def picture(answer: Edited | Refused) -> np.ndarray:
    assert isinstance(answer, Edited), answer
    return np.asarray(Image.open(io.BytesIO(answer.png)))


def test_an_edit_comes_back_as_a_png(edits: EditReplica, identities: Identities) -> None:
    answer = asyncio.run(edits.edit(identities.get("ada"), job()))
    assert np.array_equal(picture(answer), np.full((4, 4, 3), 7))
    assert isinstance(answer, Edited)
    assert (answer.warnings, answer.buffers) == (("beware",), {})
    assert set(answer.timings) == {"queue", "load", "render", "sample"}
    assert answer.timings["sample"] >= 0.02


def test_size_buffers_and_pasting_back(edits: EditReplica, identities: Identities) -> None:
    async def three() -> list[Edited | Refused]:
        ada = identities.get("ada")
        photo = encode_png(np.full((40, 60, 3), 200, np.uint8))
        return [
            await edits.edit(ada, job(size=32)),
            await edits.edit(ada, job(buffers=True)),
            await edits.edit(ada, job(photo=photo)),
        ]

    large, full, pasted = asyncio.run(three())
    assert np.array_equal(picture(large), np.full((32, 32, 3), 7))
    assert isinstance(full, Edited)
    assert set(full.buffers) == {"rendered", "normal", "albedo"}
    whole = picture(pasted)
    assert whole.shape == (40, 60, 3)
    assert (whole[20, 20] == 7).all()
    assert (whole[:, 45:] == 200).all()


def test_people_who_are_deltas_share_one_base(edits: EditReplica, identities: Identities) -> None:
    async def edit_with(*people: str) -> None:
        for person in people:
            assert isinstance(await edits.edit(identities.get(person), job()), Edited)

    assert WaitingEditor.loaded == 1  # the base, before anybody asks
    asyncio.run(edit_with("ann", "bob", "base"))
    assert WaitingEditor.loaded == 1
    asyncio.run(edit_with("ada", "ada"))  # a whole rig
    assert WaitingEditor.loaded == 2


def test_whole_rigs_make_room_for_each_other(identities: Identities, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a cache above this replica still remembers an identity whose rig is gone."""
    edits = make_replica(identities, monkeypatch, rigs=1)

    async def use() -> None:
        await edits.edit(identities.get("ada"), job())
        await edits.edit(identities.get("whole"), job())
        await edits.edit(identities.get("ada"), job())

    asyncio.run(use())
    assert WaitingEditor.loaded == 4  # with the base
    assert edits._load_rig.cache_info().currsize == 1


def test_the_registry_is_not_asked(edits: EditReplica, identities: Identities, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [identities.get(name) for name in ("ann", "base", "ada")]

    def away(*_: object) -> None:
        raise ConnectionError("nobody at home")

    monkeypatch.setattr(Identities, "_version", away)
    monkeypatch.setattr(Identities, "_base", away)

    async def all_of_them() -> list[Edited | Refused]:
        return [await edits.edit(info, job()) for info in known]

    assert all(isinstance(answer, Edited) for answer in asyncio.run(all_of_them()))


def test_a_deleted_identity_leaves_nothing_behind(
    identities: Identities, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And somebody new of that name is somebody else, though their version is the same."""
    edits = make_replica(identities, monkeypatch)
    base = identities.get(BASE).base
    assert base is not None

    def register(number: int) -> IdentityInfo:
        header = {"config": json.dumps({"size": 64}), "base": base}
        save_file({"w": np.full(1, number, np.float32)}, tmp_path / "delta.safetensors", metadata=header)
        identities.register("gus", tmp_path / "delta.safetensors", album_report={"photos": 3})
        return identities.get("gus")

    async def live_and_die() -> None:
        first = register(10)
        held = await _load(edits, first)
        person = weakref.ref(held())
        await edits.forget_deleted()
        assert isinstance(await edits.edit(first, job()), Edited)  # still there
        identities.delete("gus")
        await edits.forget_deleted()
        assert person() is None
        with pytest.raises(UnknownIdentity):
            held()
        second = register(11)
        assert second.version == first.version
        assert identity_key(first) != identity_key(second)
        assert isinstance(await edits.edit(second, job()), Edited)
        answer = await edits.edit(first, job())
        assert isinstance(answer, Refused)
        assert answer.status == 404
        await edits.forget_deleted()
        assert set(edits._told) == {identity_key(second)}
        identities.delete("gus")

    asyncio.run(live_and_die())


async def _load(edits: EditReplica, info: IdentityInfo) -> Loaded:
    edits._told[identity_key(info)] = info
    return await edits.load_editor(identity_key(info))


def test_unknown_weights_while_the_registry_is_away(
    edits: EditReplica, identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = changed(identities.get("ada"), file="gone")

    def away(*_: object) -> None:
        raise ConnectionError("nobody at home")

    monkeypatch.setattr(Identities, "_version", away)
    answer = asyncio.run(edits.edit(lost, job()))
    assert isinstance(answer, Refused)
    assert (answer.status, "not here yet" in answer.message) == (503, True)


def changed(info: IdentityInfo, **changes: Any) -> IdentityInfo:
    return IdentityInfo(**(vars(info) | changes))


@pytest.mark.parametrize(
    ("changes", "request_", "status", "message"),
    [
        ({}, job(modes=("light",)), 422, "modes take from a target"),
        ({}, job(controls={"yaw": 200.0}), 422, "yaw is 200.0"),
        ({}, job(found_face(head="flame")), 422, "trained with the head 'open'"),
        ({"version": 2, "file": "gone"}, job(), 404, "ada has no version 2"),
        ({"name": "eve", "file": "gone"}, job(), 404, "no identity is called 'eve'"),
        ({"file": "gone"}, job(), 500, "the weights of ada@1 cannot be used"),
    ],
)
def test_what_cannot_be_done_is_said(
    edits: EditReplica,
    identities: Identities,
    changes: dict[str, Any],
    request_: EditJob,
    status: int,
    message: str,
) -> None:
    answer = asyncio.run(edits.edit(changed(identities.get("ada"), **changes), request_))
    assert isinstance(answer, Refused)
    assert message in answer.message
    assert answer.status == status


def test_an_edit_nobody_waits_for_stops_at_its_next_step(edits: EditReplica, identities: Identities) -> None:
    ada = identities.get("ada")

    async def leave_early() -> Edited | Refused:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(edits.edit(ada, job(steps=1000)), timeout=0.5)
        return await edits.edit(ada, job(steps=1))

    assert isinstance(asyncio.run(leave_early()), Edited)
    assert 1 < WaitingEditor.steps_done < 100


def test_steps_are_told_and_closing_stops_the_edit(edits: EditReplica, identities: Identities) -> None:
    ada = identities.get("ada")

    async def watch() -> list[Progress | Edited | Refused]:
        found = [answer async for answer in edits.edit_in_steps(ada, job(steps=3))]
        watched = edits.edit_in_steps(ada, job(steps=1000))
        async for _ in watched:
            break
        await watched.aclose()  # type: ignore[attr-defined]
        found.append(await edits.edit(ada, job()))
        return found

    *steps, last, after = asyncio.run(watch())
    assert [(step.step, step.steps) for step in steps if isinstance(step, Progress)] == [(1, 3), (2, 3), (3, 3)]
    assert len(steps) == 3
    assert isinstance(last, Edited)
    assert isinstance(after, Edited)
    assert WaitingEditor.steps_done < 100


@pytest.mark.parametrize(("device", "largest"), [("cuda", 3), ("cpu", 2)])
def test_those_who_wait_are_sampled_together(
    identities: Identities, monkeypatch: pytest.MonkeyPatch, device: str, largest: int
) -> None:
    """People of one base are, on a CPU each for themselves; the base, whole rigs and other steps go apart.

    All get their own picture.
    """
    edits = make_replica(identities, monkeypatch, device=device, batch=4)
    people = ["ann", "bob", "ann", "base", "ada", "bob"]

    async def all_at_once() -> list[Edited | Refused]:
        infos = [identities.get(name) for name in people]
        at_hand = {identity_key(info): await _load(edits, info) for info in infos}

        async def from_cache(key: str) -> Loaded:  # as Serve's
            return at_hand[key]

        monkeypatch.setattr(edits, "load_editor", from_cache)
        WaitingEditor.go.clear()
        first = asyncio.create_task(edits.edit(infos[0], job(seed=99)))
        await _until(lambda: bool(WaitingEditor.begun))
        tasks = [
            asyncio.create_task(edits.edit(info, job(seed=seed, steps=2 if seed == 5 else 1)))
            for seed, info in enumerate(infos)
        ]
        await _until(lambda: len(edits._sampling._waiting) == len(people))
        WaitingEditor.go.set()
        await first
        return list(await asyncio.gather(*tasks))

    answers = asyncio.run(all_at_once())
    assert [int(picture(answer)[0, 0, 0]) for answer in answers] == list(range(len(people)))
    assert max(WaitingEditor.batches) == largest
    assert sum(WaitingEditor.batches) == len(people) + 1


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.01)


def test_the_event_loop_is_free_while_an_edit_runs(edits: EditReplica, identities: Identities) -> None:
    ada = identities.get("ada")

    async def count_while_editing() -> int:
        edit, ticks = asyncio.create_task(edits.edit(ada, job(steps=20))), 0
        while not edit.done():
            ticks += 1
            await asyncio.sleep(0.01)
        return ticks

    assert asyncio.run(count_while_editing()) > 10
