"""How long a client waits for a busy server, and how it reads a stream: what both clients share beside the calls."""

import json
import os
import time
from typing import Any

import httpx

from drig.client import answers
from drig.client.answers import Edited, Job, Progress
from drig.client.errors import Busy, JobFailed, error_of, problems_of, refused

KEY_VARIABLE = "DRIG_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_PATIENCE = 60.0
DEFAULT_PAUSE = 2.0
"""Seconds, where a busy server does not say how long."""
TIMEOUT = httpx.Timeout(30.0, read=600.0)
"""An edit of many steps on a slow machine takes minutes."""


def settings(url: str, key: str | None) -> dict[str, Any]:
    """What both clients give to httpx. The key is that of the environment unless one is given."""
    key = key or os.environ.get(KEY_VARIABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {"base_url": url.rstrip("/") + "/", "headers": headers, "timeout": TIMEOUT}


class Patience:
    """So many seconds for one request."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def pause_after(self, response: httpx.Response) -> float:
        """Seconds to wait before the same request is sent again. Raises the error that the answer is if that is too
        long, or if waiting mends nothing."""
        error = error_of(response)
        try:
            pause = float(response.headers.get("Retry-After", DEFAULT_PAUSE))
        except ValueError:  # a date, which our servers do not send
            pause = DEFAULT_PAUSE
        if not isinstance(error, Busy) or time.monotonic() + pause > self._deadline:
            raise error
        return pause


class Events:
    """Server-sent events of an edit, line by line."""

    def __init__(self) -> None:
        self._event = ""

    def read(self, line: str) -> Progress | Edited | None:
        """What is complete with this line. Raises ServerError where it is a problem."""
        name, _, value = line.partition(": ")
        if name == "event":
            self._event = value
        if name != "data":
            return None
        content = json.loads(value)
        if self._event == "problem":
            raise refused(content["status"], problems_of(content["problems"]))
        return answers.edited(content) if self._event == "result" else answers.progress(content)


def is_done(job: Job) -> bool:
    """Whether a job has made what it was to make. Raises JobFailed if it never will."""
    if job.state in ("failed", "cancelled"):
        raise JobFailed(f"the {job.kind} job {job.id}", job.state, job.problems)
    return job.state == "done"
