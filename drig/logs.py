"""What happened, a line an event on stderr, for those who collect logs: `DRIG_LOG=json`, or `text` for people.

Without DRIG_LOG nothing is written. Events go to the logger `drig` of the standard library, so that a program that uses
drig can send them elsewhere. They hold names, places, counts and reasons, no photos; passwords in addresses, signatures
of signed ones, and what secret variables of the environment hold are blanked.
"""

import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from drig.errors import DrigError

VARIABLE = "DRIG_LOG"
LONGEST = 1000
"""Characters of a value."""
Value = str | int | float | bool | None

_logger = logging.getLogger("drig")
_logger.addHandler(logging.NullHandler())  # a library is silent until it is asked
_SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|API_KEY")
_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)|(?<=[?&]X-Amz-Signature=)[^&\s]+|(?<=[?&]X-Amz-Credential=)[^&\s]+")
_SHORTEST_SECRET = 8
"""Characters; a shorter value is rather a `true` than a secret, and would blank half of every line."""


def wanted() -> str | None:
    """`json`, `text`, or None for no events. Raises DrigError for another value of DRIG_LOG."""
    choice = os.environ.get(VARIABLE) or None
    if choice not in (None, "json", "text"):
        raise DrigError(f"{VARIABLE} is {choice!r}; set it to json or text, or unset it.")
    return choice


def configure() -> None:
    """Write this process's events as DRIG_LOG says. Ray calls it in every worker."""
    choice = wanted()
    if choice is None or any(isinstance(handler.formatter, EventFormatter) for handler in _logger.handlers):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EventFormatter(as_json=choice == "json"))
    _logger.addHandler(handler)
    _logger.setLevel(logging.INFO)
    _logger.propagate = False


def event(name: str, /, *, level: int = logging.INFO, **facts: Value) -> None:
    """Something happened, `run_started`, with what there is to know about it."""
    _logger.log(level, name, extra={"facts": facts})


@contextmanager
def run(command: str) -> Iterator[None]:
    """Events around a program: run_started, and run_finished, run_interrupted or run_failed with the reason."""
    started = time.monotonic()
    event("run_started", command=command)
    try:
        yield
    except Exception as error:
        reason, seconds = f"{type(error).__name__}: {error}", round(time.monotonic() - started, 3)
        event("run_failed", level=logging.ERROR, command=command, reason=reason, seconds=seconds)
        raise
    except BaseException:
        seconds = round(time.monotonic() - started, 3)
        event("run_interrupted", level=logging.WARNING, command=command, seconds=seconds)
        raise
    event("run_finished", command=command, seconds=round(time.monotonic() - started, 3))


class EventFormatter(logging.Formatter):
    """A record as one line: a JSON object, or `time LEVEL event name=value ...`."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json
        self._host = socket.gethostname()

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        facts = {name: _plain(value) for name, value in getattr(record, "facts", {}).items()}
        event = _without_secrets(record.getMessage())
        if self._as_json:
            head = {"time": when, "level": record.levelname.lower(), "event": event}
            return json.dumps({**head, "host": self._host, "pid": record.process, **facts})
        told = [f"{name}={json.dumps(value)}" for name, value in facts.items()]
        return " ".join([when, record.levelname, " ".join(event.split()), *told])


def _plain(value: object) -> Value:
    """What a line may hold; of anything else, a picture say, only what it is."""
    if isinstance(value, str):
        cleaned = _without_secrets(value)
        return cleaned if len(cleaned) <= LONGEST else cleaned[: LONGEST - 1] + "…"
    return value if value is None or isinstance(value, int | float) else f"<{type(value).__name__}>"


def _without_secrets(text: str) -> str:
    text = _IN_ADDRESS.sub("***", text)
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and _SECRET_NAME.search(name.upper()):
            text = text.replace(value, "***")
    return text
