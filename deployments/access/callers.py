"""What stands between the world and the routes: `deployments.api.gate` by keys, upload checks and marks."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import Depends
from fastapi.concurrency import run_in_threadpool

from deployments.access.door import key_of
from deployments.access.keys import Key, Scope
from deployments.access.uploads import UploadLimits
from deployments.api.gate import Action, Caller, Gate
from drig.provenance import Marker


class KeyCaller:
    """Who asks, by their key, and what they want to do. Implements Caller."""

    def __init__(self, key: Key, scope: Scope | None) -> None:
        self._key, self._scope = key, scope
        self.id = key.id

    @property
    def owner(self) -> str | None:
        """See Caller."""
        return None if Scope.ADMIN in self._key.scopes else self._key.id

    def require_identity(self, name: str) -> None:
        """See Caller. Raises AccessError."""
        if self._scope is not None:
            self._key.require(self._scope, name)

    def sees(self, name: str) -> bool:
        """See Caller."""
        return self._key.sees(name)


def keyed_gate(limits: UploadLimits, marker: Marker | None) -> Gate:
    """The gate behind `Door`, which has to stand before the application. marker: None = edits are not marked."""

    def may(action: Action | None) -> Callable[..., Caller]:
        scope = None if action is None else Scope(action)

        def caller(key: Annotated[Key, Depends(key_of)]) -> Caller:
            if scope is not None:
                key.require(scope)
            return KeyCaller(key, scope)

        return caller

    async def mark(content: bytes, media_type: str, edit: Mapping[str, Any]) -> bytes:
        return content if marker is None else await run_in_threadpool(marker.mark, content, media_type, edit)

    return Gate(may=may, check_photo=limits.check_photo, check_video=limits.check_video, mark=mark)
