"""What travels between the ingress and the replicas: plain data, without PyTorch."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EditJob:
    """An edit on its way from the ingress to a replica: photos still as files, numbers checked for form only."""

    source: bytes
    target: bytes | None
    modes: tuple[str, ...]
    controls: dict[str, Any]
    steps: int
    sampler: str
    seed: int
    aligned: bool


@dataclass(frozen=True)
class Edited:
    """A replica's answer."""

    png: bytes
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Refused:
    """A replica's answer where the request cannot be met; an error that is expected travels as a value."""

    status: int
    message: str
