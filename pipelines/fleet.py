"""A fleet of long-lived Ray actors that share many identities, each working on one at a time.

Not Ray Train, whose workers are one group: where one dies all are restarted, and the identities of the others lose what
they did since their last checkpoints (docs/operations.md has it measured). Here a death costs one identity its last
stretch, and one process is started; workers join as the cluster finds room for them, and leave when nothing waits.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from drig.errors import DrigError
from pipelines.identity_queue import IdentityQueue

START_ATTEMPTS = 3
"""Workers in a row that may die before their first identity."""
LOOK_S = 30.0
"""How long to wait for any news before looking whether Ray is still there."""


def run_fleet(
    start_worker: Callable[[], Any], queue: IdentityQueue, inputs: Mapping[str, Any], workers: int
) -> Iterator[tuple[str, Any]]:
    """Each identity's name with what came of it, as they are done: the result, or an Exception.

    start_worker() -> a new actor with ready() and work(name, input). One that raises is replaced too: what went wrong
    may have spoilt its process, as an error of CUDA does.

    Raises DrigError where no worker comes up, and where Ray has lost its last machine.
    """
    tasks: dict[Any, tuple[Any, str | None]] = {}  # what each worker is asked -> the worker, and the identity it has
    stillborn = 0

    def start() -> None:
        worker = start_worker()
        tasks[worker.ready.remote()] = worker, None

    for _ in range(min(workers, len(queue))):
        start()
    try:
        while queue or any(name is not None for _, name in tasks.values()):
            news, _ = ray.wait(list(tasks), num_returns=1, timeout=LOOK_S)
            if not news:
                _require_machine()
                continue
            worker, name = tasks.pop(news[0])
            try:
                result = ray.get(news[0])
            except RayTaskError as error:
                ray.kill(worker)
                if name is None:
                    raise
                yield name, error.cause or error
            except RayError as error:  # it died: a crash, too little memory, a lost machine
                ray.kill(worker)
                if name is None:
                    stillborn += 1
                    if stillborn == START_ATTEMPTS:
                        raise DrigError(f"no worker comes up: {error}. See Ray's logs.") from error
                elif not queue.died(name, blame=not (isinstance(error, RayActorError) and error.preempted)):
                    yield name, error
            else:
                stillborn = 0
                if (following := queue.take()) is not None:
                    tasks[worker.work.remote(following, inputs[following])] = worker, following
                else:
                    ray.kill(worker)
                if name is not None:
                    yield name, result
                continue
            if queue:
                start()
    finally:
        for worker, _ in tasks.values():
            ray.kill(worker)


def _require_machine() -> None:
    """Raise where none is left: Ray takes a starved machine for dead, also its own, and would wait without end."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    if not any(node["Alive"] for node in nodes):
        raise DrigError("Ray has ended on this machine, which was too busy or out of memory; give the command again")
