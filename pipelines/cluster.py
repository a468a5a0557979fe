"""Start or join Ray the same way in every pipeline.

Three situations: inside `ray job submit` or on a node of a cluster (`RAY_ADDRESS` is set) the program joins that
cluster; otherwise it starts a Ray of its own on this machine and ends it with itself; under a program that already runs
Ray (the quickstart, the tests) it uses what is there.
"""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from tqdm import tqdm

from drig import logs
from drig.errors import DrigError

WATCH_S = 20.0
"""Time between looks at whether nodes were lost."""
_ENVIRONMENT = {  # read by Ray when it starts; what the user has set stays
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # at the default of 2 s, a finished run is noticed 2 s late
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one process less a run; a lost worker is restarted all the same
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # Serve kills a proxy that is not up by then: 5 s on a busy machine
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default; without it every start prints a warning
}
_REMEDY = "Start one with `ray start --head`, correct the address, or unset RAY_ADDRESS."


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Where a pipeline runs."""

    address: str | None = None
    """Ray to join, "auto" or host:port. None = `RAY_ADDRESS` if set, otherwise a Ray of its own on this machine."""
    cpus: int | None = None
    """CPUs that an own Ray schedules on. None = this machine's, at least 4: two pools and a writer need three."""
    dashboard: bool = True
    """Ray's web page on this machine, for an own Ray."""
    gpu: bool | None = None
    """Work on GPUs. None = if there are any now; say true where the autoscaler starts GPU nodes on demand."""
    worker_output: bool = False
    """Copy what workers print to this terminal. Errors reach it either way."""

    def __post_init__(self) -> None:
        if self.cpus is not None and self.cpus < 3:
            raise DrigError(f"cluster.cpus is {self.cpus}; give 3 or more (they are shares, not cores).")
        if self.cpus is not None and self.address is not None:
            raise DrigError("cluster.cpus is for a Ray of its own and cluster.address joins another; give one of them.")


@contextmanager
def ray_cluster(config: ClusterConfig) -> Iterator[None]:
    """Ray for the length of the block. Raises DrigError where the address does not answer."""
    if ray.is_initialized():
        yield
        return
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    address = config.address or os.environ.get("RAY_ADDRESS")
    if address is not None:
        _require_listener(address)
    else:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # a Ray of its own listens on this machine only
    _connect(config, address)
    if threading.current_thread() is threading.main_thread():
        # Before this handler, which raises SystemExit, Ray's library has put one that prints a stack and aborts after
        # 3 s whatever is still being cleaned up.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    try:
        yield
    finally:
        ray.shutdown()


def _connect(config: ClusterConfig, address: str | None) -> None:
    """Join Ray, or start an own one: twice, since on a busy machine its processes may miss each other's deadlines."""
    for last in (address is not None, True):
        try:
            ray.init(
                address=address or "local",
                num_cpus=config.cpus or max(4, os.cpu_count() or 1) if address is None else None,
                include_dashboard=config.dashboard if address is None else None,
                log_to_driver=config.worker_output,
                logging_level=logging.ERROR,
                runtime_env={"worker_process_setup_hook": "drig.logs.configure"} if logs.wanted() else None,
            )
            return
        except Exception as error:  # that is what Ray raises for a deadline, and its subclasses for the rest
            ray.shutdown()
            if last:
                where = f"at {address}" if address else "on this machine"
                raise DrigError(f"no Ray {where}: {error}. {_REMEDY}") from error


def _require_listener(address: str) -> None:
    """Raise DrigError where nothing listens at host:port; Ray's own answer to that is to end the process."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():
        return  # "auto": Ray looks for it
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise DrigError(f"no Ray at {address}: {error.strerror or error}. {_REMEDY}") from error


def use_gpu(config: ClusterConfig) -> bool:
    """Whether workers get a GPU each, on the cluster that Ray is connected to."""
    if config.gpu is not None:
        return config.gpu
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get("GPU", 0) > 0


@contextmanager
def reserve(config: ClusterConfig, *, cpus: int, gpus: int) -> Iterator[None]:
    """For the length of the block, say on the terminal when the cluster lacks CPUs or GPUs that are needed at once.

    Ray waits for them without end and in silence: a node may still come, or come back. A Ray of its own gets no more,
    so there it is a DrigError.
    """
    lack = _lack(cpus, gpus)
    if lack and config.address is None and "RAY_ADDRESS" not in os.environ:
        raise DrigError(f"{lack}. Ask for fewer processes, or say that there are more with cluster.cpus.")
    _tell(lack)
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(cpus, gpus, lack, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _watch(cpus: int, gpus: int, told: str, ended: threading.Event) -> None:
    while not ended.wait(WATCH_S):
        lack = _lack(cpus, gpus)
        if lack != told:
            _tell(lack)
        told = lack


def _tell(lack: str) -> None:
    if lack:
        tqdm.write(f"waiting: {lack}. Add nodes, or end this and ask for fewer processes.", file=sys.stderr)


def _lack(cpus: int, gpus: int) -> str:
    """What the cluster lacks, in words; empty where it lacks nothing."""
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return "; ".join(
        f"{needed} {name}s are needed, {there.get(name, 0):.0f} are there"
        for name, needed in (("CPU", cpus), ("GPU", gpus))
        if needed > there.get(name, 0)
    )


def quieten_ray_data() -> None:
    """Ray Data's own progress would be drawn over ours."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for handler in logging.getLogger("ray.data").handlers:
        if handler.name == "console":
            handler.setLevel(logging.ERROR)
