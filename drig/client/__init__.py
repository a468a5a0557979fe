"""Edits on a drig server, from another program: `Client`, and `AsyncClient` for programs with an event loop.

    with Client("http://127.0.0.1:8000") as drig:
        edited = drig.edit("me.jpg", controls={"light_direction": (1, 0.5, 1)})
    Path("edited.png").write_bytes(edited.image)

It needs httpx and nothing of the library: no PyTorch, no weights. What can go wrong is a DrigError, see `errors`.
"""

from drig.client.answers import (
    Consent,
    Deletion,
    Edited,
    Found,
    Identity,
    Job,
    Options,
    Preview,
    Progress,
    Report,
)
from drig.client.asynchronous import AsyncClient
from drig.client.errors import Busy, Conflict, JobFailed, NotAllowed, NotFound, Problem, ServerError, Unreachable
from drig.client.synchronous import Client

__all__ = [
    "AsyncClient",
    "Busy",
    "Client",
    "Conflict",
    "Consent",
    "Deletion",
    "Edited",
    "Found",
    "Identity",
    "Job",
    "JobFailed",
    "NotAllowed",
    "NotFound",
    "Options",
    "Preview",
    "Problem",
    "Progress",
    "Report",
    "ServerError",
    "Unreachable",
]
