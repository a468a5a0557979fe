"""A real S3 server on loopback, behind a proxy that can throttle, break connections and cut answers short."""

import http.client
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import boto3
import pytest

Kind = Literal["throttle", "reset", "lost answer", "cut answer", "denied"]
_ERRORS = {"throttle": (503, "SlowDown"), "denied": (403, "AccessDenied")}
_HOP = {"connection", "transfer-encoding", "keep-alive"}
"""Headers that concern one connection only."""


@dataclass
class Fault:
    """What goes wrong with the next `times` requests of a method whose path and query hold `part`."""

    kind: Kind
    method: str
    part: str = ""
    times: int = 1


class FaultyS3(ThreadingHTTPServer):
    """The proxy. `endpoint` is where clients go; `requests` is what came: method, path and query, fault."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, str]] = []
        self._lock = threading.Lock()

    def fail(self, kind: Kind, method: str, part: str = "", times: int = 1) -> None:
        self.faults.append(Fault(kind, method, part, times))

    def choose_fault(self, method: str, path: str) -> str:
        """What goes wrong with this request; empty for nothing."""
        with self._lock:
            for fault in self.faults:
                if fault.times and fault.method == method and fault.part in path:
                    fault.times -= 1
                    self.requests.append((method, path, fault.kind))
                    return fault.kind
            self.requests.append((method, path, ""))
            return ""

    def environment(self) -> dict[str, str]:
        """What points every S3 client of a process here."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "secret-of-the-tester",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def shutdown_request(self, request: Any) -> None:
        """Close without the polite end that the base class sends: a connection may be about to be reset."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyS3

    def log_message(self, format: str, *args: Any) -> None:
        """Not on the terminal."""

    def _answer(self) -> None:
        fault = self.server.choose_fault(self.command, self.path)
        body = self._body()
        if fault in _ERRORS:
            status, code = _ERRORS[fault]
            content = f"<Error><Code>{code}</Code><Message>made up by the test</Message></Error>".encode()
            self._send(status, {"Content-Type": "application/xml"}, content)
        elif fault == "reset":
            self._reset()
        else:
            status, headers, content = self._ask(body)
            if fault == "lost answer":
                self._reset()
            elif fault == "cut answer":
                self._send(status, headers, content, sent=len(content) // 2)
                self._reset()
            else:
                self._send(status, headers, content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        host = self.server.upstream.removeprefix("http://")
        headers = {k: v for k, v in self.headers.items() if k.lower() not in {*_HOP, "expect", "content-length"}}
        connection = http.client.HTTPConnection(host)
        try:
            connection.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def _send(self, status: int, headers: dict[str, str], content: bytes, sent: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in {*_HOP, "content-length"}:
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content[:sent])
        self.wfile.flush()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


@contextmanager
def running_s3() -> Iterator[FaultyS3]:
    """An S3 server of our own on free loopback ports, without faults until they are asked for."""
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    proxy = FaultyS3(f"http://{host}:{port}")
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
        moto.stop()


def new_bucket() -> str:
    """The URI of a new, empty bucket of the server that the environment names."""
    client = boto3.client("s3")
    name = f"lab-{len(client.list_buckets()['Buckets'])}"
    client.create_bucket(Bucket=name)
    return f"s3://{name}"


def use(patch: pytest.MonkeyPatch, server: FaultyS3) -> None:
    """Point this process, and those that it starts, to the server."""
    for name, value in server.environment().items():
        patch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"):
        if name in os.environ:
            patch.delenv(name)
