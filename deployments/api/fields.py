"""Fields that several requests share, checked for form; what they mean is checked where they are used."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, FiniteFloat, Json

Mode = Literal["light", "exp", "pose", "latent"]
Sampler = Literal["ddim", "dpmpp", "unipc", "heun"]


def split(values: Any) -> Any:
    """Repeated fields and comma-separated values are the same: -F modes=light -F modes=exp, or -F modes=light,exp."""
    if isinstance(values, str):
        values = [values]
    if isinstance(values, Sequence) and all(isinstance(value, str) for value in values):
        return [part.strip() for value in values for part in value.split(",") if part.strip()]
    return values


Triple = Annotated[tuple[FiniteFloat, FiniteFloat, FiniteFloat], BeforeValidator(split)]


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
