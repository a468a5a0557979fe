"""Fields that several requests share, checked for form; what they mean is checked where they are used.

The same models read forms and JSON: where a form has only text, a list may be written `a,b` and an object as JSON.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat

Mode = Literal["light", "exp", "pose", "latent"]
Sampler = Literal["ddim", "dpmpp", "unipc", "heun"]


def split(values: Any) -> Any:
    """Repeated fields and comma-separated values are the same: -F modes=light -F modes=exp, or -F modes=light,exp."""
    if isinstance(values, str):
        values = [values]
    if isinstance(values, Sequence) and all(isinstance(value, str) for value in values):
        return [part.strip() for value in values for part in value.split(",") if part.strip()]
    return values


def from_json(value: Any) -> Any:
    """A form's text as the JSON that it holds; a list of one text too, which is how a form gives what may repeat."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0] if isinstance(value[0], str) else value
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:  # the second for text that is nothing but brackets
        raise ValueError(f"not JSON: {error}") from None


def from_base64(value: Any) -> Any:
    """Base64, or a data: URL of it, as a browser's FileReader gives it -> bytes."""
    if not isinstance(value, str):
        raise ValueError("a file as text in base64")
    if value.startswith("data:"):
        value = value.partition(",")[2]
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from None


def to_base64(content: bytes) -> str:
    """As JSON carries files."""
    return base64.b64encode(content).decode()


Triple = Annotated[tuple[FiniteFloat, FiniteFloat, FiniteFloat], BeforeValidator(split)]
Coefficients = Annotated[
    list[tuple[FiniteFloat, FiniteFloat, FiniteFloat]], Field(min_length=9, max_length=9), BeforeValidator(from_json)
]
Actions = Annotated[dict[str, FiniteFloat], BeforeValidator(from_json)]
Modes = Annotated[tuple[Mode, ...], BeforeValidator(split)]
Base64 = Annotated[
    bytes,
    BeforeValidator(from_base64, json_schema_input_type=str),
    Field(json_schema_extra={"type": "string", "contentEncoding": "base64"}),
]


class Fields(BaseModel):
    """A request's fields: no others are allowed, and /docs shows the texts below them."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ControlFields(Fields):
    """Explicit numbers, checked by `drig.faces.controls.Controls`; what is left out stays as in the source."""

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
    light_sh: Coefficients | None = None
    """Or: the whole light, nine rows of three, as /v1/sources answers it."""
    yaw: FiniteFloat | None = None
    """Head pose in degrees, positive to the image's right."""
    pitch: FiniteFloat | None = None
    """Head pose in degrees, positive up."""
    roll: FiniteFloat | None = None
    """Head pose in degrees, positive counter-clockwise."""
    mood: str | None = None
    """A whole expression by name, such as `smile`; a wrong name is answered with all there are."""
    expression: Actions | None = None
    """Facial actions from 0 to 1, as `{"jawOpen": 0.5}`; a wrong name is answered with all there are."""

    def given(self) -> dict[str, Any]:
        """The arguments of `Controls` that were given."""
        return self.model_dump(include=set(ControlFields.model_fields), exclude_none=True)
