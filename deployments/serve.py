"""Serve the application on this machine: `drig serve`, or a block of another program.

A cluster is served by `serve deploy deployments/serve.yaml` instead.
"""

import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from ray import serve

from deployments.access.door import is_loopback
from deployments.app import build
from deployments.settings import ServeConfig, TrainingPreset
from drig import config as configs
from drig.errors import DrigError
from drig.identities import Identities
from drig.tracking import tracking_uri
from pipelines.cluster import ClusterConfig, ray_cluster
from pipelines.run_folder import absolute

APP_NAME = "drig"
HEALTHY_WITHIN_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class ServeCommand:
    """Host every identity of a folder of runs over HTTP, with the studio, until Ctrl-C."""

    runs: Path = Path("runs")
    """The folder of runs that holds the identities; MLFLOW_TRACKING_URI overrides it."""
    host: str = "127.0.0.1"
    """Address to listen on. Any but this machine's own wants --keys."""
    port: int = 8000
    """Port to listen on. 0 = a free one."""
    keys: str | None = None
    """File of API keys that `drig keys` makes. None = no keys are asked for."""
    training_preset: TrainingPreset = "tiny"
    """Of `drig personalize`, for identities that are made over HTTP."""
    mark: bool = True
    """Sign every edit, as a C2PA manifest in the file that says what it is."""
    credentials: Path | None = None
    """Folder of chain.pem and key.pem to sign with. None = a certificate of this machine's own, which nobody trusts."""
    gpus: float = 0
    """GPUs of an edit replica, or a share of one. 0 = edit on the CPU."""
    editors: int = 4
    """Whole rigs that a replica keeps loaded."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Where it runs."""

    def __post_init__(self) -> None:
        for name, least in (("port", 0), ("gpus", 0), ("editors", 1)):
            if getattr(self, name) < least:
                raise DrigError(f"--{name} is {getattr(self, name)}; give {least} or more")
        if self.keys is None and not is_loopback(self.host):
            raise DrigError(
                f"--host {self.host} can be reached by others, who may use everything: make keys with `drig keys --add "
                "NAME` and give --keys runs/keys.json, or listen on 127.0.0.1"
            )


def main(argv: Sequence[str] | None = None, *, prog: str = "serve") -> int:
    """Run the command; returns its exit code."""
    return configs.run(ServeCommand, host_identities, argv, prog=prog, description=ServeCommand.__doc__ or "")


def host_identities(command: ServeCommand) -> None:
    """Serve until Ctrl-C."""
    uri = tracking_uri(command.runs)
    Identities(uri).ensure_base()
    identities = Identities(uri).list()
    config = ServeConfig(
        tracking_uri=uri,
        gpus_per_replica=command.gpus,
        editors_per_replica=command.editors,
        keys=command.keys and absolute(command.keys),
        work=absolute(command.runs / "jobs"),
        preset=command.training_preset,
        mark=command.mark,
        credentials=None if command.credentials is None else absolute(command.credentials),
    )
    with ray_cluster(command.cluster), serving(config, host=command.host, port=command.port) as url:
        fields = f"-F source=@me.jpg -F light_direction=1,0.5,1 -F identity={identities[-1].name}"
        print(f"the studio: {url}")
        print(f"{len(identities)} identities for programs (every field: {url}/docs); for example")
        print(f"  curl {url}/v1/edits {fields} -o me.png")
        _wait_for_ctrl_c()
        print("stopping")


def _wait_for_ctrl_c() -> None:
    """Or for SIGTERM, which is how service managers and containers say it."""
    stop = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    stop.wait()
    for number, handler in previous.items():
        signal.signal(number, handler)


@contextmanager
def serving(config: ServeConfig, *, host: str = "127.0.0.1", port: int = 8000) -> Iterator[str]:
    """Ray Serve with the application on the Ray that this program is connected to; gives its URL once it is healthy.

    At the end of the block Serve is shut down, and nothing else. port 0 takes a free one.
    Raises DrigError if the port is taken, the store cannot be used, Serve runs on that Ray already, or the application
    does not start.
    """
    port = _free_port(host, port)
    if serve.status().proxies:
        raise DrigError(
            "Ray Serve already runs on this Ray; add the application to it with `serve deploy deployments/serve.yaml`"
        )
    Identities(config.tracking_uri).check()  # a replica would say the same, but only after its retries
    url = f"http://{host}:{port}"
    try:
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(http_options={"host": host, "port": port})
        _run(config)
        _wait_until_healthy(url)
        yield url
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]


def _run(config: ServeConfig) -> None:
    try:
        serve.run(build(config), name=APP_NAME)
    except RuntimeError as error:  # Serve's own, whose text has the replica's traceback
        raise DrigError(f"the application does not start: {error}") from error


def _free_port(host: str, port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise DrigError(f"port {port} of {host} cannot be used ({error.strerror}); choose another one") from None
        return int(probe.getsockname()[1])


def _wait_until_healthy(url: str) -> None:
    deadline = time.monotonic() + HEALTHY_WITHIN_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/healthz", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass  # the proxy is still starting
        time.sleep(0.2)
    raise DrigError(f"{url}/healthz did not answer within {HEALTHY_WITHIN_SECONDS:.0f} s; see the logs of Ray Serve")


if __name__ == "__main__":
    sys.exit(main())
