"""What goes over the wire: the fields of an edit, the answers, the errors, and the settings of the deployment.

Nothing here imports PyTorch: the ingress validates with it and stays small.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, Json

from drig.errors import DrigError
from drig.identities import BASE
from drig.tracking import URI_VARIABLE

Mode = Literal["light", "exp", "pose", "latent"]
Sampler = Literal["ddim", "dpmpp", "unipc", "heun"]


def _split(values: Any) -> Any:
    """Repeated fields and comma-separated values are the same: -F modes=light -F modes=exp, or -F modes=light,exp."""
    if isinstance(values, str):
        values = [values]
    if isinstance(values, Sequence) and all(isinstance(value, str) for value in values):
        return [part.strip() for value in values for part in value.split(",") if part.strip()]
    return values


Triple = Annotated[tuple[FiniteFloat, FiniteFloat, FiniteFloat], BeforeValidator(_split)]


def _store_of_this_node() -> str:
    uri = os.environ.get(URI_VARIABLE)
    if not uri:
        raise DrigError(
            f"no MLflow store: give tracking_uri=http(s)://<server> to the application, or set {URI_VARIABLE}"
        )
    return uri


class ServeConfig(BaseModel):
    """Settings of the application: `args` in serve.yaml, or key=value after `serve run deployments.app:build`.

    How many replicas run, on what, and how long a queue they have is set under `deployments` in serve.yaml.
    """

    model_config = ConfigDict(extra="forbid")

    tracking_uri: str = Field(default_factory=_store_of_this_node)
    """The MLflow store with the identities: http(s)://<server>, or sqlite:///<absolute path> on one machine. Left out =
    MLFLOW_TRACKING_URI, as the nodes of cluster.yaml have it."""
    gpus_per_replica: float = Field(default=0, ge=0)
    """GPUs of an edit replica, or a share of one. 0 = edit on the CPU."""
    editors_per_replica: int = Field(default=4, ge=1)
    """Identities that a replica keeps loaded; the least recently used one makes room for the next."""
    max_upload_mib: float = Field(default=24, gt=0)
    """Largest request in MiB, both photos together."""


class ControlFields(BaseModel):
    """Explicit numbers, checked by `drig.faces.controls.Controls`; what is left out stays as in the source."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)  # /docs shows the texts below

    light_direction: Triple | None = None
    """New light from this direction: x right, y up, z towards the camera, as `1,0.5,1`."""
    light_intensity: FiniteFloat | None = None
    """Brightness of the new light; 1 shows a white surface that faces it as white."""
    light_colour: Triple | None = None
    """RGB of the new light, each 0 to 1, as `1,0.9,0.8`."""
    light_ambient: FiniteFloat | None = None
    """Grey light from everywhere beside the new light."""
    light_turn: FiniteFloat | None = None
    """Or: degrees to turn the photo's own light to the right."""
    yaw: FiniteFloat | None = None
    """Head pose in degrees, positive to the image's right."""
    pitch: FiniteFloat | None = None
    """Head pose in degrees, positive up."""
    roll: FiniteFloat | None = None
    """Head pose in degrees, positive counter-clockwise."""
    mood: str | None = None
    """A whole expression by name, such as `smile`; a wrong name is answered with all there are."""
    expression: Json[dict[str, FiniteFloat]] | None = None
    """Facial actions from 0 to 1, as `{"jawOpen": 0.5}`; a wrong name is answered with all there are."""


class EditForm(ControlFields):
    """The multipart form of POST /v1/edits."""

    source: UploadFile
    """The photo to edit; the largest face in it is found and cropped."""
    target: UploadFile | None = None
    """A photo to take `modes` from."""
    identity: str = BASE
    """Whose model edits, from /v1/identities; `base` knows nobody."""
    modes: Annotated[list[Mode], BeforeValidator(_split)] = []
    """What to take from the target, repeated or as `light,exp`."""
    steps: int = Field(default=20, ge=1, le=1000)
    """Steps of the sampler; more take longer."""
    sampler: Sampler = "ddim"
    """How noise is removed: `ddim` as in the paper, `unipc` or `dpmpp` in fewer steps, `heun` in two calls a step."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the start noise: the same request gives the same picture."""
    aligned: bool = False
    """The photos are FFHQ crops already."""

    def controls(self) -> dict[str, Any]:
        """The arguments of `Controls` that were given."""
        return self.model_dump(include=set(ControlFields.model_fields), exclude_none=True)


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


class IdentityEntry(BaseModel):
    """One line of GET /v1/identities; only what those who may edit need to know."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    version: int
    created: datetime
    photos: int | None
    size: int


class IdentityList(BaseModel):
    """The answer of GET /v1/identities."""

    identities: list[IdentityEntry]


class Health(BaseModel):
    """The answer of GET /healthz."""

    status: Literal["ok"] = "ok"
    version: str


class Problem(BaseModel):
    """What is wrong with a request, what would be allowed, and what to do."""

    what: str
    allowed: str | None = None
    do: str | None = None


class Problems(BaseModel):
    """The body of every error of this API."""

    problems: list[Problem]
