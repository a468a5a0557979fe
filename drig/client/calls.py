"""Every request of the API, described once for both clients: what is sent, and how the answer is read."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar
from urllib.parse import quote

import httpx

from drig.client import answers
from drig.client.answers import Deletion, Edited, Found, Identity, Job, Options, Preview
from drig.errors import DrigError, MissingFile

Answer = TypeVar("Answer")
Photo = str | Path | bytes | Found
"""A photo: a path, a file's bytes, or what `upload` gave."""
File = str | Path | bytes
Files = list[tuple[str, tuple[str, bytes]]]


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """One request."""

    method: str
    path: str
    read: Callable[[httpx.Response], Answer]
    data: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a form."""
    files: Files = field(default_factory=list)
    json: Any = None

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """It as httpx sends it."""
        return http.build_request(
            self.method, self.path, data=self.data or None, files=self.files or None, json=self.json
        )


class EditOptions(TypedDict, total=False):
    """How to edit; what is left out is as in POST /v1/edits."""

    target: Photo
    """A photo to take `modes` from."""
    modes: Sequence[str]
    """Any of light, exp, pose, latent."""
    controls: Mapping[str, Any]
    """Explicit numbers by the names of `drig.faces.controls.Controls`, as `{"yaw": 20}`."""
    identity: str
    steps: int
    sampler: str
    seed: int
    size: int
    """Side of the answered portrait in pixels."""
    aligned: bool
    """The photos are FFHQ crops already."""
    paste_back: bool
    """Answer with the whole photo."""
    deadline: float
    """Seconds after which nobody needs the answer."""


class PreviewOptions(TypedDict, total=False):
    """What to preview."""

    target: Found
    modes: Sequence[str]
    controls: Mapping[str, Any]
    identity: str
    layer: str
    """rendered, normal, albedo or mesh."""
    size: int


class VideoOptions(TypedDict, total=False):
    """How to make a video; what is left out is as in POST /v1/videos."""

    modes: Sequence[str]
    """What to take from the video: any of light, exp, pose."""
    controls: Mapping[str, Any]
    identity: str
    steps: int
    sampler: str
    seed: int
    size: int
    aligned: bool
    fps: float


def upload(photo: File, *, aligned: bool) -> Call[Found]:
    """POST /v1/sources."""
    return Call("POST", "v1/sources", _found, {"aligned": _text(aligned)}, [("photo", _file(photo))])


def forget(source: Found) -> Call[None]:
    """DELETE /v1/sources/{token}."""
    return Call("DELETE", f"v1/sources/{source.token}", _nothing)


def picture(source: Found, kind: str) -> Call[bytes]:
    """GET /v1/sources/{token}/pictures/{kind}."""
    return Call("GET", f"v1/sources/{source.token}/pictures/{kind}", _content)


def preview(source: Found, options: PreviewOptions) -> Call[Preview]:
    """POST /v1/previews."""
    body: dict[str, Any] = {**options, "source_token": source.token}
    if (target := body.pop("target", None)) is not None:
        body["target_token"] = target.token
    return Call("POST", "v1/previews", _preview, json=body)


def edit(source: Photo, options: EditOptions) -> Call[Edited]:
    """POST /v1/edits, answered in JSON."""
    data, files = _edit_form(source, options)
    return Call("POST", "v1/edits", lambda response: answers.edited(response.json()), data | {"answer": "json"}, files)


def stream(source: Photo, options: EditOptions) -> Call[None]:
    """POST /v1/edits:stream, whose answer is read as it comes."""
    data, files = _edit_form(source, options)
    return Call("POST", "v1/edits:stream", _nothing, data, files)


def make_video(source: Photo, driving: File | None, targets: Sequence[File] | None, options: VideoOptions) -> Call[Job]:
    """POST /v1/videos."""
    data, files = _form(dict(options))
    _add(data, files, "source", source)
    if driving is not None:
        files.append(("driving", _file(driving)))
    files += [("targets", _file(target)) for target in targets or ()]
    return Call("POST", "v1/videos", _job, data, files)


def create_identity(name: str, photos: Iterable[File], consent_by: str, *, replace: bool, force: bool) -> Call[Job]:
    """POST /v1/identities."""
    data = {"name": name, "consent": "true", "consent_by": consent_by, "replace": _text(replace), "force": _text(force)}
    return Call("POST", "v1/identities", _job, data, [("photos", _file(photo)) for photo in photos])


def identities() -> Call[list[Identity]]:
    """GET /v1/identities."""
    return Call("GET", "v1/identities", lambda r: [answers.identity(one) for one in r.json()["identities"]])


def identity(name: str) -> Call[Identity]:
    """GET /v1/identities/{name}."""
    return Call("GET", f"v1/identities/{quote(name, safe='')}", lambda response: answers.identity(response.json()))


def delete_identity(name: str) -> Call[Deletion]:
    """DELETE /v1/identities/{name}."""
    path = f"v1/identities/{quote(name, safe='')}"
    return Call("DELETE", path, lambda response: answers.record(Deletion, response.json()))


def jobs() -> Call[list[Job]]:
    """GET /v1/jobs."""
    return Call("GET", "v1/jobs", lambda response: [answers.job(one) for one in response.json()["jobs"]])


def job(id: str) -> Call[Job]:
    """GET /v1/jobs/{id}."""
    return Call("GET", f"v1/jobs/{quote(id, safe='')}", _job)


def result(id: str) -> Call[bytes]:
    """GET /v1/jobs/{id}/result."""
    return Call("GET", f"v1/jobs/{quote(id, safe='')}/result", _content)


def remove_job(id: str) -> Call[None]:
    """DELETE /v1/jobs/{id}."""
    return Call("DELETE", f"v1/jobs/{quote(id, safe='')}", _nothing)


def options() -> Call[Options]:
    """GET /v1/options."""
    return Call("GET", "v1/options", lambda response: answers.record(Options, response.json()))


def _edit_form(source: Photo, options: EditOptions) -> tuple[dict[str, Any], Files]:
    fields: dict[str, Any] = dict(options)
    target = fields.pop("target", None)
    data, files = _form(fields)
    _add(data, files, "source", source)
    if target is not None:
        _add(data, files, "target", target)
    return data, files


def _form(fields: dict[str, Any]) -> tuple[dict[str, Any], Files]:
    """A form has text alone, and the controls beside the other fields."""
    controls = fields.pop("controls", {})
    fields = {**fields, **controls}
    return {name: _text(value) for name, value in fields.items() if value is not None}, []


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    flat = isinstance(value, Sequence) and not any(isinstance(item, Sequence) and item != str(item) for item in value)
    if isinstance(value, str) or not isinstance(value, Sequence | Mapping):
        return str(value)
    return ",".join(str(item) for item in value) if flat else json.dumps(value)


def _add(data: dict[str, Any], files: Files, name: str, photo: Photo) -> None:
    """A photo argument of a form."""
    if isinstance(photo, Found):
        data[f"{name}_token"] = photo.token
    else:
        files.append((name, _file(photo)))


def _file(file: File) -> tuple[str, bytes]:
    """Its name and content. Raises MissingFile, or DrigError where it cannot be read."""
    if isinstance(file, bytes):
        return "file", file
    path = Path(file)
    try:
        return path.name, path.read_bytes()
    except FileNotFoundError:
        raise MissingFile(f"{path} does not exist; check the path") from None
    except OSError as error:
        raise DrigError(f"cannot read {path}: {error.strerror}") from None


def _found(response: httpx.Response) -> Found:
    return answers.record(Found, response.json())


def _preview(response: httpx.Response) -> Preview:
    yaw, pitch, roll = (float(angle) for angle in response.headers["X-Drig-Pose"].split(","))
    return Preview(response.content, (yaw, pitch, roll), float(response.headers["X-Drig-Milliseconds"]))


def _job(response: httpx.Response) -> Job:
    return answers.job(response.json())


def _content(response: httpx.Response) -> bytes:
    return response.content


def _nothing(response: httpx.Response) -> None:
    return None
