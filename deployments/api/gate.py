"""Who may ask for what, and what leaves the house: seams of the API that `deployments.access` fills.

Without it everybody may do everything, and nothing is marked: what the tests, and programs of one's own, want.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Action = Literal["edit", "personalise", "delete"]


class Caller(Protocol):
    """Whoever sent a request, for one action."""

    id: str
    """Whose jobs are theirs."""

    @property
    def owner(self) -> str | None:
        """Whose jobs they may see: their own, or with None everybody's."""
        ...

    def sees(self, name: str) -> bool:
        """Whether they may know of that identity."""
        ...

    def require_identity(self, name: str) -> None:
        """Raises a Refusal unless the caller may use that identity."""
        ...


class Anybody:
    """A caller that may use every identity."""

    id = ""
    owner = None

    def sees(self, name: str) -> bool:
        """They may know all."""
        return True

    def require_identity(self, name: str) -> None:
        """No objection."""


def anybody_may(action: Action | None) -> Callable[[], Caller]:
    """A FastAPI dependency that lets everybody in."""
    return Anybody


def any_upload(field: str, content: bytes) -> None:
    """No objection to any file."""


async def unmarked(content: bytes, media_type: str, edit: Mapping[str, Any]) -> bytes:
    """The picture as it is."""
    return content


@dataclass(frozen=True)
class Gate:
    """What stands between the world and the routes."""

    may: Callable[[Action | None], Callable[..., Caller]] = anybody_may
    """Action -> a FastAPI dependency that gives the caller, or raises AccessError. None = what every caller may."""
    check_photo: Callable[[str, bytes], None] = any_upload
    """Field and file of an uploaded photo; raises what is answered with 413 or 415, before anything decodes it."""
    check_video: Callable[[str, bytes], object] = any_upload
    """The same of a video."""
    mark: Callable[[bytes, str, Mapping[str, Any]], Awaitable[bytes]] = unmarked
    """File, media type and what was asked for of an edit -> the file with the mark that says so."""
