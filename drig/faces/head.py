"""Head models: codes -> posed vertices, landmarks, albedo. What every estimator and renderer takes.

Legend: N batch, V vertices, F faces, U texture coordinates, T texture size.
"""

from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor

from drig.errors import DrigError
from drig.faces.codes import FaceCodes
from drig.faces.lighting import directional_light

HEADS = ("open", "flame")
"""The head models that `load_head` knows."""


class HeadModel(Protocol):
    """A linear head with a jaw. World space: metres, x image-right, y up, z towards the viewer."""

    @property
    def name(self) -> str:
        """What `load_head` calls it."""
        ...

    @property
    def faces(self) -> Tensor:
        """(F, 3) int64"""
        ...

    @property
    def uvs(self) -> Tensor:
        """(U, 2) float32 in 0..1, v = 1 at the texture's top row."""
        ...

    @property
    def uv_faces(self) -> Tensor:
        """(F, 3) int64"""
        ...

    @property
    def shape_size(self) -> int:
        """S"""
        ...

    @property
    def tex_size(self) -> int:
        """K"""
        ...

    @property
    def exp_size(self) -> int:
        """E"""
        ...

    @property
    def expression_names(self) -> tuple[str, ...]:
        """(E) names where each expression code means one facial action, otherwise empty."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """The same head on another device."""
        ...

    def vertices(self, codes: FaceCodes) -> Tensor:
        """(N, V, 3) posed, in the world."""
        ...

    def landmarks(self, codes: FaceCodes, vertices: Tensor) -> Tensor:
        """(N, 68, 3) the iBUG points of `vertices`, which `vertices(codes)` gave (moved or not)."""
        ...

    def albedo(self, codes: FaceCodes) -> Tensor:
        """(N, 3, T, T) texture in [0, 1]."""
        ...


def load_head(name: str, folder: Path | None = None) -> HeadModel:
    """The head model of that name on the CPU.

    The open head is shipped with the package and takes no folder. FLAME reads the user's files from `folder`, or where
    that is None from the folder that the environment variable DRIG_FACE_FILES names.
    """
    if name not in HEADS:
        raise DrigError(f"head model {name!r} is unknown; choose one of: {', '.join(HEADS)}")
    if name == "flame":
        from drig.faces.flame import FlameHead

        return FlameHead.load(folder)
    if folder is not None:
        raise DrigError(f"the open head is part of the package: leave out its folder (given: {folder})")
    from drig.faces.open_head import OpenHead

    return OpenHead.load()


def neutral_codes(head: HeadModel, count: int = 1) -> FaceCodes:
    """(count) mean heads at rest that look at the camera and fill the picture, in soft light from the front."""
    light = directional_light(torch.tensor([0.0, 0.3, 1.0]), torch.tensor([0.55, 0.55, 0.55]), 0.5)
    return FaceCodes(
        shape=torch.zeros(count, head.shape_size),
        tex=torch.zeros(count, head.tex_size),
        exp=torch.zeros(count, head.exp_size),
        pose=torch.zeros(count, 6),
        cam=torch.tensor([[6.0, 0.0, 0.0]]).repeat(count, 1),
        light=light.expand(count, 9, 3).clone(),
        crop=torch.eye(2, 3).repeat(count, 1, 1),
    ).to(head.faces.device)
