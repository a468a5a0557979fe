"""Reading answers of the API."""

import json
from typing import Any

import httpx


def problems(response: httpx.Response) -> list[dict[str, str]]:
    """The problems of an error, whose form is checked."""
    body = response.json()
    assert list(body) == ["problems"]
    return list(body["problems"])


def events(response: httpx.Response) -> list[tuple[str, Any]]:
    """(event, data) of server-sent events."""
    found = []
    for block in response.text.removesuffix("\n\n").split("\n\n"):
        event, data = block.split("\n")
        found.append((event.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found
