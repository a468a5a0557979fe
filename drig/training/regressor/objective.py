"""How far the network's numbers are from the truth: a sum of errors, each in units of what would be a good result.

Errors of codes mean little by themselves (two shape codes may nearly cancel), so most terms compare what the codes
make: points of the head, the shading of a sphere, colours of the skin.

Legend: N batch, P points of the face, T texels of the skin.
"""

import torch
from pytorch3d.transforms import axis_angle_to_matrix
from torch import Tensor
from torch.nn import functional

from drig.faces.buffers import vertex_normals
from drig.faces.fit_light_prior import sphere
from drig.faces.lighting import sh_basis
from drig.faces.open_head import OpenHead
from drig.faces.regressor import Sizes

POINTS = 256
TEXELS = 32
EYE_DISTANCE = 0.062
"""Metres between the eyes of the mean head."""
GOOD = {
    "rotation": 0.025,  # radians
    "place": 0.01,  # of the distance between the eyes, in the picture
    "form": 0.03,  # of the distance between the eyes, the head at rest in space
    "face": 0.03,  # the same with the expression
    "actions": 0.04,  # of a full action
    "shading": 0.05,
    "albedo": 0.03,
    "codes": 0.7,  # standard deviations of shape and texture
}
"""Mean absolute error that counts as 1, of each term."""


class Objective:
    """Compares numbers with codes."""

    def __init__(self, head: OpenHead) -> None:
        self.sizes = Sizes(head.shape_size, head.exp_size, head.tex_size)
        points = _face_points(head)
        self.pivot, self.pivot_basis = head.template[-1], head.shape_basis[:, -1]
        landmarks = (head.landmark_corners, head.landmark_weights[..., None])

        def at(vertices: Tensor) -> Tensor:  # (..., V, 3) -> (..., P, 3): vertices, then landmarks
            return torch.cat([vertices[..., points, :], (vertices[..., landmarks[0], :] * landmarks[1]).sum(-2)], -2)

        self.template = at(head.template) - self.pivot
        self.shape_basis = at(head.shape_basis) - self.pivot_basis[:, None]
        self.exp_basis = at(head.expression_basis)
        self.sphere = sh_basis(sphere(64))  # (64, 9)
        skin = (head.regions["skin"] * (1 - head.regions["scalp"]))[None, None]
        weight = functional.interpolate(skin, (TEXELS, TEXELS), mode="area").flatten()
        texture = functional.interpolate(head.albedo_basis, (TEXELS, TEXELS), mode="area").flatten(2)
        self.texture = texture[..., weight > 0.5]  # (K, 3, T)

    def __call__(self, numbers: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Predicted and true numbers (N, D) -> mean error of each term, in its units."""
        guess, true = (self._parts(values) for values in (numbers, truth))
        form, exp = ((guess[name] - true[name]) for name in ("shape", "exp"))
        moved = torch.einsum("ns,spc->npc", form, self.shape_basis)
        face = moved + torch.einsum("ne,epc->npc", exp, self.exp_basis)
        rotation = axis_angle_to_matrix(guess["rotation"]) - axis_angle_to_matrix(true["rotation"])
        distance = EYE_DISTANCE * true["cam"][:, :1, None].exp()
        place = (self._projected(guess) - self._projected(true)) / distance
        light = (guess["light"] - true["light"]).unflatten(1, (3, 9)) @ self.sphere.T  # (N, 3, 64)
        albedo = torch.einsum("nk,kct->nct", guess["tex"] - true["tex"], self.texture)
        codes = torch.cat([form, guess["tex"] - true["tex"]], 1)
        errors = {
            "rotation": rotation.square().sum((1, 2)).mul(0.5).add(1e-8).sqrt(),
            "place": _length(place),
            "form": _length(moved / EYE_DISTANCE),
            "face": _length(face / EYE_DISTANCE),
            "actions": exp.abs(),
            "shading": light.abs(),
            "albedo": albedo.abs(),
            "codes": codes.abs(),
        }
        return {name: error.mean() / GOOD[name] for name, error in errors.items()}

    def _parts(self, numbers: Tensor) -> dict[str, Tensor]:
        parts = self.sizes.parts
        return dict(zip(parts, torch.split(numbers, list(parts.values()), 1), strict=True))

    def _projected(self, parts: dict[str, Tensor]) -> Tensor:
        """(N, P, 2) image NDC, y up."""
        local = self.template + torch.einsum("ns,spc->npc", parts["shape"], self.shape_basis)
        local = local + torch.einsum("ne,epc->npc", parts["exp"], self.exp_basis)
        turned = local @ axis_angle_to_matrix(parts["rotation"]).mT
        pivot = (self.pivot + parts["shape"] @ self.pivot_basis)[:, None, :2]
        log_scale, shift = parts["cam"][:, None, :1], parts["cam"][:, None, 1:]
        projected: Tensor = log_scale.exp() * (turned[..., :2] + pivot + shift)
        return projected


def _length(vectors: Tensor) -> Tensor:
    length: Tensor = vectors.square().sum(-1).add(1e-10).sqrt()
    return length


def _face_points(head: OpenHead) -> Tensor:
    """(POINTS,) vertices, spread over the face's front from the chin upwards."""
    vertices = head.template[:-1]
    normals = vertex_normals(vertices[None], head.faces)[0]
    chin = vertices[head.landmark_corners[8, 0], 1]
    front = ((normals[:, 2] > 0.2) & (vertices[:, 1] > chin)).nonzero()[:, 0]
    return front[torch.linspace(0, len(front) - 1, POINTS).long()]
