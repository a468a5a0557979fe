"""Who may ask for what, and what leaves the house: seams of the API that `deployments.access` fills.

Without it everybody may do everything, and nothing is marked: what the tests, and programs of one's own, want.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

Scope = Literal["edit", "personalise", "delete", "admin"]


class Caller(Protocol):
    """Whoever sent a request."""

    def require_identity(self, name: str) -> None:
        """Raises a Refusal unless the caller may use that identity."""
        ...


class Anybody:
    """A caller that may use every identity."""

    def require_identity(self, name: str) -> None:
        """No objection."""


def anybody_may(scope: Scope) -> Callable[[], Caller]:
    """A FastAPI dependency that lets everybody in."""
    return Anybody


def any_upload(field: str, content: bytes) -> None:
    """No objection to any file."""


async def unmarked(picture: bytes) -> bytes:
    """The picture as it is."""
    return picture


@dataclass(frozen=True)
class Gate:
    """What stands between the world and the routes."""

    may: Callable[[Scope], Callable[..., Caller]] = anybody_may
    """Scope -> a FastAPI dependency that gives the caller, or raises a Refusal (401, 403, 429)."""
    check_photo: Callable[[str, bytes], None] = any_upload
    """Field and file of an uploaded photo; raises a Refusal (413, 415, 422) before anything decodes it."""
    mark: Callable[[bytes], Awaitable[bytes]] = unmarked
    """An edited picture, PNG -> the same with the mark that says so."""
