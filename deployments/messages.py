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


@dataclass(frozen=True, kw_only=True)
class VideoJob:
    """A video of a photo: driven by another video, or by photos, one a frame."""

    source: bytes
    driving: bytes | None
    """An MP4; None where there are targets."""
    targets: tuple[bytes, ...]
    aligned: bool
    """The photo is an FFHQ crop already."""
    modes: tuple[str, ...]
    controls: dict[str, Any]
    steps: int
    sampler: str
    seed: int
    size: int | None
    """Height of the frames in pixels; None = the rig's own, or more where that is tiny."""
    fps: float | None
    """Frames a second of the answer; None = the driving video's."""
    max_frames: int


@dataclass(frozen=True, kw_only=True)
class VideoProgress:
    """How far a video is."""

    what: str
    done: int
    total: int


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
