"""What head models that are sums of components share: their sizes, and moving to another device."""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearHead:
    """The mesh, its texture coordinates and its components. V vertices, F triangles, U coordinates, T texture size."""

    faces: Tensor
    """(F, 3) int64"""
    uvs: Tensor
    """(U, 2) in 0..1, v = 1 at the texture's top row."""
    uv_faces: Tensor
    """(F, 3) int64"""
    template: Tensor
    """(V, 3) mean head."""
    shape_basis: Tensor
    """(S, V, 3)"""
    expression_basis: Tensor
    """(E, V, 3)"""
    albedo_mean: Tensor
    """(3, T, T)"""
    albedo_basis: Tensor
    """(K, 3, T, T)"""

    @property
    def shape_size(self) -> int:
        return len(self.shape_basis)

    @property
    def tex_size(self) -> int:
        return len(self.albedo_basis)

    @property
    def exp_size(self) -> int:
        return len(self.expression_basis)

    def to(self, device: torch.device | str) -> Self:
        """The same head on another device."""
        return replace(self, **{field.name: _moved(getattr(self, field.name), device) for field in fields(self)})


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, dict):
        return {name: _moved(item, device) for name, item in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value
