"""Face codes: what one face is, in numbers, and the edits on them. Edits are functions codes -> codes, never in place.

Legend: N batch, S shape codes, K albedo codes, E expression codes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from pytorch3d.transforms import axis_angle_to_matrix, matrix_to_axis_angle
from torch import Tensor

from drig.errors import DrigError
from drig.faces.lighting import sh_rotation

EDIT_MODES = ("light", "exp", "pose")
"""What `transfer` can carry from one photo to another. SPEC 6's fourth mode, latent, is no face code."""

_FIXED_SHAPES = {"pose": (6,), "cam": (3,), "light": (9, 3), "crop": (2, 3)}


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceCodes:
    """A batch of faces as float32 tensors that share their first dimension N (SPEC 4). A head model gives them meaning.

    Every field is checked at construction; a wrong shape, size or dtype is a DrigError.
    """

    shape: Tensor
    """(N, S) identity."""
    tex: Tensor
    """(N, K) albedo."""
    exp: Tensor
    """(N, E) expression."""
    pose: Tensor
    """(N, 6) axis-angle in radians: the head's global rotation, then the jaw."""
    cam: Tensor
    """(N, 3) scale, tx, ty of the weak-perspective camera: NDC = scale (v.xy + t)."""
    light: Tensor
    """(N, 9, 3) spherical-harmonics coefficients x RGB."""
    crop: Tensor
    """(N, 2, 3) affine from camera NDC to image NDC (y down): identity unless the estimator looks at a crop."""

    def __post_init__(self) -> None:
        for name, value in self.as_dict().items():
            expected = _FIXED_SHAPES.get(name)
            right = value.ndim == 2 if expected is None else value.shape[1:] == expected
            if not right or value.dtype != torch.float32:
                rule = "x".join(map(str, ("N", *(expected or ("size",)))))
                raise DrigError(f"face code {name} is {tuple(value.shape)} {value.dtype}: give a {rule} float32 tensor")
        sizes = {name: len(value) for name, value in self.as_dict().items()}
        if len(set(sizes.values())) > 1:
            raise DrigError(f"face codes of one batch differ in their number of faces: {sizes}")

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Self:
        """Some of the faces. A single index gives a batch of one."""
        if isinstance(index, int):
            index = [index]
        return self.from_dict({name: value[index] for name, value in self.as_dict().items()})

    def to(self, device: torch.device | str) -> Self:
        return self.from_dict({name: value.to(device) for name, value in self.as_dict().items()})

    def replace(self, **changes: Tensor) -> Self:
        """A copy with some fields replaced."""
        return replace(self, **changes)

    @property
    def nbytes(self) -> int:
        """What they take in memory."""
        return sum(tensor.nbytes for tensor in self.as_dict().values())

    def as_dict(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, tensors: dict[str, Any]) -> Self:
        """The inverse of `as_dict`. Missing or unknown names are DrigErrors."""
        names = {field.name for field in fields(cls)}
        if set(tensors) != names:
            raise DrigError(f"face codes have the fields {sorted(names)}, not {sorted(tensors)}")
        return cls(**tensors)

    @classmethod
    def cat(cls, batches: Sequence[Self]) -> Self:
        """One batch out of several of the same head model."""
        if not batches:
            raise DrigError("no face codes to concatenate: give at least one batch")
        for batch in batches[1:]:
            _check_same_head(batches[0], batch)
        return cls.from_dict({name: torch.cat([getattr(b, name) for b in batches]) for name in batches[0].as_dict()})


def transfer(source: FaceCodes, target: FaceCodes, modes: Collection[str]) -> FaceCodes:
    """The source with some of the target's codes (SPEC 6); a target of one face serves every source.

    light: the target's light. exp: its expression and jaw. pose: its global head rotation alone.
    Camera and crop stay the source's: `buffers.centre_shift` keeps the face where it was.
    """
    unknown = [mode for mode in ([modes] if isinstance(modes, str) else modes) if mode not in EDIT_MODES]
    if unknown or isinstance(modes, str):
        raise DrigError(f"edit modes {modes!r}: give a list with any of {', '.join(EDIT_MODES)}")
    if len(target) not in (1, len(source)):
        raise DrigError(f"{len(target)} target faces for {len(source)} source faces: give one, or as many as sources")
    _check_same_head(source, target)
    n = len(source)
    light = target.light.expand(n, -1, -1) if "light" in modes else source.light
    exp = target.exp.expand(n, -1) if "exp" in modes else source.exp
    jaw = (target if "exp" in modes else source).pose[:, 3:].expand(n, -1)
    rotation = (target if "pose" in modes else source).pose[:, :3].expand(n, -1)
    return source.replace(light=light, exp=exp, pose=torch.cat([rotation, jaw], 1))


def rotate_light(codes: FaceCodes, rotation: Tensor) -> FaceCodes:
    """Turns the light about the head by a world-space rotation, (3, 3) or (N, 3, 3), exactly (see `sh_rotation`)."""
    return codes.replace(light=sh_rotation(rotation.to(codes.light)) @ codes.light)


def blend(a: FaceCodes, b: FaceCodes, weight: float) -> FaceCodes:
    """Codes on the way from a (weight 0) to b (weight 1): rotations along the shortest arc, the rest on a line."""
    if len(a) != len(b):
        raise DrigError(f"cannot blend {len(a)} faces with {len(b)}: give as many of each")
    _check_same_head(a, b)
    mixed = {name: torch.lerp(value, getattr(b, name), weight) for name, value in a.as_dict().items()}
    start = axis_angle_to_matrix(a.pose.reshape(-1, 2, 3))  # (N, 2, 3, 3) head, jaw
    turn = matrix_to_axis_angle(start.mT @ axis_angle_to_matrix(b.pose.reshape(-1, 2, 3)))
    mixed["pose"] = matrix_to_axis_angle(start @ axis_angle_to_matrix(turn * weight)).flatten(1)
    return FaceCodes.from_dict(mixed)


def _check_same_head(a: FaceCodes, b: FaceCodes) -> None:
    for name in ("shape", "tex", "exp"):
        sizes = getattr(a, name).shape[1], getattr(b, name).shape[1]
        if sizes[0] != sizes[1]:
            raise DrigError(f"{sizes[0]} and {sizes[1]} {name} codes: both faces must come from the same head model")
