"""What the server answers, as plain data."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypeVar

from drig.client.errors import Problem, problems_of

Record = TypeVar("Record")
Point = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Found:
    """A photo that the server keeps for a while, and the face in it; edits take it in the photo's place."""

    token: str
    expires_in: float
    """Seconds after its last use until it is forgotten."""
    size: int
    """Side of the portrait in pixels."""
    faces_found: int
    crop: tuple[Point, ...]
    """Corners of the portrait in the photo, in its pixels: tl, tr, br, bl."""
    photo_size: tuple[int, int]
    """Width and height."""
    landmarks: tuple[Point, ...]
    """The 68 iBUG points, 0 to 1 over the portrait."""
    pose: Mapping[str, float]
    """yaw, pitch and roll in degrees."""
    light: tuple[tuple[float, float, float], ...]
    """Nine spherical-harmonics coefficients, as the control `light_sh` takes them."""
    expression: Mapping[str, float]
    """Facial actions, 0 to 1."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Preview:
    """What an edit would follow."""

    image: bytes
    """PNG."""
    pose: tuple[float, float, float]
    """Yaw, pitch, roll in degrees."""
    milliseconds: float
    """That the server took to render it."""


@dataclass(frozen=True)
class Progress:
    """An edit on its way."""

    step: int
    steps: int
    image: bytes
    """PNG of the picture so far."""


@dataclass(frozen=True)
class Edited:
    """An edit that is done."""

    image: bytes
    """PNG as the server has marked it; written as it is, its mark stays."""
    buffers: Mapping[str, bytes]
    """PNG of what the network followed: rendered, normal, albedo."""
    identity: str
    version: int
    seed: int
    timings: Mapping[str, float]
    """Seconds."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Consent:
    """Who says that a person has agreed, and when."""

    by: str
    at: datetime


@dataclass(frozen=True)
class Identity:
    """Somebody whose model can edit."""

    name: str
    version: int
    created: datetime
    photos: int | None
    """In the album; None for the base rig."""
    size: int
    """Side of its portraits in pixels."""
    consent: Consent | None


@dataclass(frozen=True)
class Deletion:
    """What became of a deleted identity."""

    name: str
    removed: tuple[str, ...]
    remains: tuple[str, ...]
    """What a search found afterwards; empty = nothing."""


@dataclass(frozen=True)
class Report:
    """What became of an album."""

    photos: int
    advice: tuple[str, ...]
    rejects: Mapping[str, str]
    """Photo -> why it could not be used."""
    before_psnr: float | None
    after_psnr: float | None


@dataclass(frozen=True)
class Job:
    """Long work."""

    id: str
    kind: str
    """video or identity."""
    state: str
    """waiting, running, done, failed or cancelled."""
    identity: str
    done: int
    total: int
    """0 = not known yet."""
    unit: str
    message: str
    created: datetime
    seconds_left: float | None
    result: str | None
    problems: tuple[Problem, ...]
    report: Report | None

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens."""
        return self.state in ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Options:
    """What requests can name, and how large they may be."""

    modes: tuple[str, ...]
    samplers: tuple[str, ...]
    moods: Mapping[str, Mapping[str, float]]
    """Name -> the facial actions that it sets."""
    actions: tuple[str, ...]
    layers: tuple[str, ...]
    limits: Mapping[str, float]
    auth: bool
    """Whether an API key is needed."""


def record(kind: type[Record], content: Mapping[str, Any], **others: Any) -> Record:
    """A record of what its fields are in the JSON, lists as tuples; a newer server's other fields are left out."""
    names = {field.name for field in fields(kind) if field.name in content}  # type: ignore[arg-type]
    plain = {name: _frozen(content[name]) for name in names - set(others)}
    return kind(**plain, **others)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def edited(content: Mapping[str, Any]) -> Edited:
    """The JSON answer of an edit."""
    buffers = {layer: base64.b64decode(png) for layer, png in content["buffers"].items()}
    return record(Edited, content, image=base64.b64decode(content["image"]), buffers=buffers)


def progress(content: Mapping[str, Any]) -> Progress:
    """A `progress` event."""
    return record(Progress, content, image=base64.b64decode(content["image"]))


def identity(content: Mapping[str, Any]) -> Identity:
    """One of GET /v1/identities."""
    consent = content.get("consent")
    who = None if consent is None else Consent(consent["by"], datetime.fromisoformat(consent["at"]))
    return record(Identity, content, created=datetime.fromisoformat(content["created"]), consent=who)


def job(content: Mapping[str, Any]) -> Job:
    """One of GET /v1/jobs."""
    report = content.get("report")
    return record(
        Job,
        content,
        created=datetime.fromisoformat(content["created"]),
        problems=tuple(problems_of(content["problems"])),
        report=None if report is None else _report(report),
    )


def _report(content: Mapping[str, Any]) -> Report:
    rejects = {one["photo"]: one["reason"] for one in content["rejects"]}
    psnr = {name: content.get(name) for name in ("before_psnr", "after_psnr")}
    return record(Report, content, rejects=rejects, **psnr)
