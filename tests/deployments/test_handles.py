"""The backend in Ray Serve, with handles that are told what happens to their replicas."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.api.errors import Overloaded
from deployments.handles import ATTEMPTS, Handles
from deployments.messages import Edited, PreviewJob, Progress, Refused

DONE = Edited(b"png", (), {}, {})


class Response:
    """Stands in for what a handle answers with: to be awaited, or read as it comes."""

    def __init__(self, outcome: Any) -> None:
        self.outcome, self.cancelled = outcome, False

    def __await__(self) -> Any:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        if isinstance(self.outcome, float):
            await asyncio.sleep(self.outcome)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def __aiter__(self) -> AsyncIterator[Any]:
        for outcome in self.outcome:
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """Stands in for a deployment's handle: one outcome after the other, whatever method is called."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes, self.responses, self.keys = list(outcomes), list[Response](), list[str]()

    def options(self, *, multiplexed_model_id: str, stream: bool = False) -> "Handle":
        self.keys.append(multiplexed_model_id)
        return self

    def __getattr__(self, method: str) -> Any:
        handle = self

        class Method:
            def remote(self, *arguments: Any) -> Response:
                handle.responses.append(Response(handle.outcomes.pop(0)))
                return handle.responses[-1]

        return Method()


def handles(edits: Handle, faces: Handle | None = None, sources: Handle | None = None) -> Handles:
    parts: list[Any] = [edits, faces or Handle(), sources or Handle()]
    return Handles(*parts)


class Unavailable(DeploymentUnavailableError):
    """As Serve raises it, whose constructor is its own affair."""

    def __init__(self) -> None:
        Exception.__init__(self)


class Info:
    name, version, sha256 = "ada", 3, "f" * 64


def edit(handle: Handle) -> Any:
    info: Any = Info()
    job: Any = None
    return asyncio.run(handles(handle).edit(info, job))


def steps(handle: Handle) -> list[Any]:
    async def watch() -> list[Any]:
        info: Any = Info()
        job: Any = None
        return [answer async for answer in handles(handle).edit_in_steps(info, job)]

    return asyncio.run(watch())


def test_a_replica_that_dies_costs_nothing_but_time() -> None:
    handle = Handle(ActorDiedError(), ActorDiedError(), DONE)
    assert edit(handle) is DONE
    assert handle.keys == ["ada@3.ffffffffffffffff"]
    step = Progress(1, 2, b"")
    assert steps(Handle([step, ActorDiedError()], [step, DONE])) == [step, step, DONE]


@pytest.mark.parametrize("run", [edit, steps])
def test_replicas_that_die_one_after_the_other_are_given_up(run: Callable[[Handle], Any]) -> None:
    lost = ActorDiedError() if run is edit else [ActorDiedError()]
    handle = Handle(*[lost] * (ATTEMPTS + 1))
    with pytest.raises(Overloaded, match="lost"):
        run(handle)
    assert len(handle.responses) == ATTEMPTS


@pytest.mark.parametrize("run", [edit, steps])
@pytest.mark.parametrize(
    "error", [BackPressureError(16, 16), DeploymentUnavailableError.__new__(DeploymentUnavailableError)]
)
def test_full_queues_are_told_at_once(run: Callable[[Handle], Any], error: Exception) -> None:
    handle = Handle(error if run is edit else [error])
    with pytest.raises(Overloaded):
        run(handle)
    assert len(handle.responses) == 1


def test_a_request_that_is_given_up_is_cancelled_behind_too() -> None:
    handle = Handle(60.0)

    async def leave() -> None:
        info: Any = Info()
        job: Any = None
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handles(handle).edit(info, job), 0.1)

    asyncio.run(leave())
    assert handle.responses[0].cancelled


def test_a_source_that_is_gone_is_no_preview_even_if_a_replica_remembers_it() -> None:
    seen: Any = object()
    job: Any = PreviewJob("token", None, Info(), (), {}, "rendered", 256)  # type: ignore[arg-type]
    kept = handles(Handle(), Handle(seen), Handle(()))
    assert asyncio.run(kept.preview(job)) is seen
    gone = asyncio.run(handles(Handle(), Handle(seen), Handle(("token",))).preview(job))
    assert isinstance(gone, Refused)
    assert gone.status == 404
