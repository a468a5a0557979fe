"""What the API asks of those behind it. `deployments.handles` answers with Ray Serve, a test with anything."""

from collections.abc import AsyncIterator
from typing import Protocol

from deployments.messages import Abilities, Edited, EditJob, FoundFace, Previewed, PreviewJob, Progress, Refused, Source
from drig.identities import IdentityInfo


class Backend(Protocol):
    """Every call raises Overloaded where too many wait already, or nobody is there to do it."""

    async def read(self, photo: bytes, *, size: int, aligned: bool) -> FoundFace | Refused:
        """Find the face in a photo, its portrait `size` pixels wide."""
        ...

    async def keep(self, source: Source) -> str:
        """Keep a source for a while; its token."""
        ...

    async def source(self, token: str, *, photo: bool = True) -> Source | None:
        """A source that is kept, and now for longer; with or without its photo, which may be large."""
        ...

    async def forget(self, token: str) -> bool:
        """Drop a source; whether there was one."""
        ...

    async def picture(self, token: str, kind: str, size: int) -> bytes | Refused:
        """A PNG of what was found in a source."""
        ...

    async def preview(self, job: PreviewJob) -> Previewed | Refused:
        """The buffers of an edit as a picture."""
        ...

    async def edit(self, identity: IdentityInfo, job: EditJob) -> Edited | Refused:
        """Run an edit with one version of an identity. Cancelled, it stops at the next step."""
        ...

    def edit_in_steps(self, identity: IdentityInfo, job: EditJob) -> AsyncIterator[Progress | Edited | Refused]:
        """As `edit`, with what there is to see on the way. Closed, it stops at the next step."""
        ...

    async def abilities(self) -> Abilities:
        """What edits can name."""
        ...
