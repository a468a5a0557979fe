"""Edits by explicit numbers: a light direction, a head pose in degrees, named facial actions.

The counterpart of `codes.transfer`, which takes the same attributes from another face.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from drig.errors import DrigError
from drig.faces.codes import FaceCodes, rotate_light
from drig.faces.expressions import EXPRESSIONS, GAZE
from drig.faces.lighting import directional_light

MAX_ANGLE = 90.0
"""Largest yaw, pitch or roll in degrees: beyond it no face is left in the picture."""


@dataclass(frozen=True, kw_only=True)
class Controls:
    """What to set; whatever is None or missing stays as it is in the source."""

    light_direction: tuple[float, float, float] | None = None
    """Where the key light comes from: x to the image's right, y up, z to the camera. Replaces the light."""
    light_intensity: float = 0.8
    """Brightness of that key light; 1 shows a white surface that faces it as white. Goes with light_direction."""
    light_colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Its RGB, each in 0..1. Goes with light_direction."""
    light_ambient: float = 0.35
    """Grey light from everywhere beside the key light. Goes with light_direction."""
    light_turn: float | None = None
    """Degrees to turn the source's light about the vertical axis; positive moves it to the image's right."""
    light_sh: tuple[tuple[float, float, float], ...] | None = None
    """Or the whole light: 9 rows of spherical-harmonics coefficients for red, green and blue, as a fit finds them."""
    yaw: float | None = None
    """Head pose in degrees, absolute; positive looks to the image's right."""
    pitch: float | None = None
    """Positive looks up."""
    roll: float | None = None
    """Positive tilts counter-clockwise in the image."""
    mood: str | None = None
    """A whole expression by name: rest, smile, laugh, surprise, .. (drig.faces.expressions). It replaces the source's
    but for where the eyes look."""
    expression: Mapping[str, float] = field(default_factory=dict)
    """Facial actions by the head model's names, 0 (rest) .. 1 (full), e.g. {"mouthSmileLeft": 0.8}; after `mood`."""

    def __post_init__(self) -> None:
        if self.light_direction is not None and not np.linalg.norm(self.light_direction) > 0:
            raise DrigError(f"light_direction is {self.light_direction}; give a direction of non-zero length")
        if self.light_direction is None:
            for name in ("light_intensity", "light_colour", "light_ambient"):
                if getattr(self, name) != getattr(Controls, name):
                    raise DrigError(f"{name} is of the light that light_direction sets; give light_direction too")
        lights = [name for name in ("light_direction", "light_turn", "light_sh") if getattr(self, name) is not None]
        if len(lights) > 1:
            raise DrigError(f"{' and '.join(lights)} each say what the light is; give one of them")
        if self.light_sh is not None and (len(self.light_sh) != 9 or not np.isfinite(self.light_sh).all()):
            raise DrigError(f"light_sh has {len(self.light_sh)} rows; give 9 of 3 finite numbers each")
        if self.mood is not None and self.mood not in EXPRESSIONS:
            raise DrigError(f"mood {self.mood!r} is unknown; choose from {', '.join(EXPRESSIONS)}")
        for name in ("yaw", "pitch", "roll"):
            angle = getattr(self, name)
            if angle is not None and not abs(angle) <= MAX_ANGLE:
                raise DrigError(f"{name} is {angle} degrees; give a value from {-MAX_ANGLE:g} to {MAX_ANGLE:g}")

    def __bool__(self) -> bool:
        return bool(self.given())

    def given(self) -> dict[str, Any]:
        """What is set, by name."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != _rest(field)}


def _rest(field: Field[Any]) -> Any:
    """What a control is where nobody sets it."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def apply_controls(codes: FaceCodes, controls: Controls, expression_names: Sequence[str]) -> FaceCodes:
    """The codes with every given control set. Raises DrigError for a facial action that the head model lacks."""
    if controls.light_direction is not None:
        colour = controls.light_intensity * torch.tensor(controls.light_colour, dtype=torch.float32)
        light = directional_light(
            torch.tensor(controls.light_direction, dtype=torch.float32), colour, controls.light_ambient
        )
        codes = codes.replace(light=light.to(codes.light).expand_as(codes.light))
    if controls.light_sh is not None:
        light = torch.tensor(controls.light_sh, dtype=torch.float32)
        codes = codes.replace(light=light.to(codes.light).expand_as(codes.light))
    if controls.light_turn is not None:
        turn = Rotation.from_euler("y", controls.light_turn, degrees=True).as_matrix()
        codes = rotate_light(codes, torch.from_numpy(turn).float())
    if (controls.yaw, controls.pitch, controls.roll) != (None, None, None):
        codes = codes.replace(pose=_set_angles(codes.pose, controls))
    if controls.mood is not None:
        codes = codes.replace(exp=_at_rest(codes.exp, expression_names))
        codes = codes.replace(exp=_set_actions(codes.exp, EXPRESSIONS[controls.mood], expression_names))
    if controls.expression:
        codes = codes.replace(exp=_set_actions(codes.exp, controls.expression, expression_names))
    return codes


def head_angles(codes: FaceCodes) -> np.ndarray:
    """(N, 3) yaw, pitch, roll in degrees, signed as in Controls."""
    yaw, pitch, roll = Rotation.from_rotvec(codes.pose[:, :3].cpu().numpy()).as_euler("YXZ", degrees=True).T
    return np.stack([yaw, -pitch, roll], axis=1)


def _set_angles(pose: torch.Tensor, controls: Controls) -> torch.Tensor:
    euler = Rotation.from_rotvec(pose[:, :3].cpu().numpy()).as_euler("YXZ", degrees=True)  # (N, 3)
    for column, angle, sign in ((0, controls.yaw, 1), (1, controls.pitch, -1), (2, controls.roll, 1)):
        if angle is not None:
            euler[:, column] = sign * angle
    head = Rotation.from_euler("YXZ", euler, degrees=True).as_rotvec()
    return torch.cat([torch.from_numpy(head).to(pose), pose[:, 3:]], dim=1)


def _at_rest(exp: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
    """The expression (N, E) without all but its gaze, where the head's actions have names that tell."""
    gaze = [name.startswith(GAZE) for name in names] or [False] * exp.shape[1]
    return exp * torch.tensor(gaze).to(exp)


def _set_actions(exp: torch.Tensor, actions: Mapping[str, float], names: Sequence[str]) -> torch.Tensor:
    exp = exp.clone()
    for name, value in actions.items():
        if name not in names:
            raise DrigError(f"facial action {name!r} is unknown; this head model has: {', '.join(names) or 'none'}")
        if not 0 <= value <= 1:
            raise DrigError(f"facial action {name} is {value}; give a value from 0 (rest) to 1 (full)")
        exp[:, names.index(name)] = value
    return exp
