"""What travels between the ingress and the replicas: plain data and arrays, without PyTorch.

S is the side of a portrait in pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drig.identities import IdentityInfo


def identity_key(info: IdentityInfo) -> str:
    """What replicas keep an identity under. Of a deleted one that is made anew, name and version may be the same."""
    return f"{info.name}@{info.version}.{info.sha256[:16]}"


@dataclass(frozen=True, eq=False)
class FoundFace:
    """The face in a photo, as `drig.reading` found it, and what there is to tell of it."""

    image: NDArray[np.uint8]
    """(S, S, 3) RGB: the portrait."""
    landmarks: NDArray[np.float32]
    """(68, 2) in the portrait's NDC."""
    codes: Mapping[str, NDArray[np.float32]]
    """FaceCodes of one face, by field."""
    head: str
    """The head model that gives the codes meaning."""
    faces_found: int
    warnings: tuple[str, ...]
    to_portrait: NDArray[np.float64]
    """(2, 3) affine: pixel of the photo -> of the portrait."""
    corners: tuple[tuple[float, float], ...]
    """The portrait's corners in the photo, in pixels from its top-left corner: tl, tr, br, bl."""
    photo_size: tuple[int, int]
    """Width and height of the upright photo."""
    pose: tuple[float, float, float]
    """Yaw, pitch and roll in degrees."""
    actions: Mapping[str, float]
    """Facial actions by name; empty where the head's have none."""


@dataclass(frozen=True, eq=False)
class Source:
    """What is kept of an uploaded photo."""

    face: FoundFace
    photo: bytes
    """The file as it was uploaded, to paste edits back into."""


@dataclass(frozen=True, eq=False)
class EditJob:
    """An edit on its way from the ingress to a replica: faces found, numbers checked for form only."""

    source: FoundFace
    target: FoundFace | None
    modes: tuple[str, ...]
    controls: Mapping[str, Any]
    """Arguments of `drig.faces.controls.Controls`."""
    steps: int | None
    """None = as many as the rig needs."""
    sampler: str
    seed: int
    size: int | None = None
    """Side of the answered picture in pixels. None = the rig's own."""
    photo: bytes | None = None
    """The photo to paste the edit back into."""
    buffers: bool = False
    """Whether pictures of the buffers are wanted too."""


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
    steps: int | None
    """None = as many as the rig needs."""
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
    """An edit that is done."""

    png: bytes
    warnings: tuple[str, ...]
    buffers: Mapping[str, bytes]
    """PNG files by layer, where they were asked for."""
    timings: Mapping[str, float]
    """Seconds: queue, load, render, sample."""


@dataclass(frozen=True)
class Progress:
    """An edit that is on its way."""

    step: int
    steps: int
    png: bytes
    """What the picture looks like so far."""


@dataclass(frozen=True)
class Refused:
    """A replica's answer where the request cannot be met; an error that is expected travels as a value."""

    status: int
    message: str


@dataclass(frozen=True)
class PreviewJob:
    """A preview: the buffers of an edit, without the edit."""

    source: str
    """Token of a source."""
    target: str | None
    identity: IdentityInfo
    modes: tuple[str, ...]
    controls: Mapping[str, Any]
    layer: str
    size: int


@dataclass(frozen=True)
class Previewed:
    """A preview that is done."""

    png: bytes
    pose: tuple[float, float, float]
    """Yaw, pitch and roll in degrees of the edited head."""
    seconds: float
    """That it took, from the face to the PNG."""


@dataclass(frozen=True)
class Abilities:
    """What only those know who have the head model."""

    head: str
    actions: tuple[str, ...]
    """Facial actions that `expression` may name."""
