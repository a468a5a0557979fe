"""Serve the application from a program: on this machine, for the length of a block."""

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from ray import serve

from deployments.app import build
from deployments.schema import ServeConfig
from drig.errors import DrigError
from drig.identities import Identities

APP_NAME = "drig"
HEALTHY_WITHIN_SECONDS = 120.0


@contextmanager
def serving(config: ServeConfig, *, host: str = "127.0.0.1", port: int = 8000) -> Iterator[str]:
    """Ray Serve with the application on the Ray that this program is connected to; gives its URL once it is healthy.

    At the end of the block Serve is shut down, and nothing else. port 0 takes a free one.
    Raises DrigError if the port is taken, the store cannot be used, Serve runs on that Ray already, or the application
    does not start.
    """
    if serve.status().proxies:
        raise DrigError(
            "Ray Serve already runs on this Ray; add the application to it with `serve deploy deployments/serve.yaml`"
        )
    Identities(config.tracking_uri).check()  # a replica would say the same, but only after its retries
    port = _free_port(host, port)
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
