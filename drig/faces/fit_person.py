"""A photo of somebody whose skin is known -> expression, head rotation, camera and light: what moves and lights a head.

An album shows a person's brows, lips and moles (`drig.faces.unwrapping`), and these tell more than landmarks and
smooth colours. Minimises, for each face on its own and in units of the photo's exposure,

    sum_p w_p rho(|I_p - R_p|^2 / noise^2) + d^T P d,

I the photo and R the rendering with the person's shape and skin, p pixels of the face, rho Geman and McClure's bounded
loss, d the difference from what was estimated before, as firmly held as the regressor's guess. Light, in which R is
linear, and geometry take turns. Geometry does not see what is smooth in the difference of I and R: shadows and gloss
are not painted on the face. Its steps are Gauss-Newton's with step control (Levenberg-Marquardt); where a point of the
surface goes, its colour goes.

Legend: N batch, S = SIDE, P pixels, V vertices, E facial actions, D = 6 + E: rotation, camera (log scale, tx, ty), exp.
"""

from dataclasses import dataclass

import torch
from pytorch3d.transforms import axis_angle_to_matrix, matrix_to_axis_angle
from torch import Tensor
from torch.nn import functional

from drig.faces.buffers import interpolate, sample_texture, vertex_normals
from drig.faces.camera import project
from drig.faces.codes import FaceCodes
from drig.faces.fit_geometry import LIMITS, bounded_step
from drig.faces.fit_light_prior import light_level
from drig.faces.lighting import sh_basis, shade_image
from drig.faces.open_head import OpenHead
from drig.faces.rasterizer import Fragments, rasterize
from drig.faces.regressor import Regressor

SIDE = 64
"""Of the pictures that are compared, pixels; twice as many find nothing more."""
ROUNDS, STEPS = 2, 3
"""Turns of light and geometry, and steps of each geometry."""
NOISE, OUTLIER = 0.05, 3.0
"""Typical error of an explained pixel, in units of the exposure; beyond so many times that, it is something else."""
EVIDENCE = 1000.0
"""How many independent pixels a face is worth."""
RIGID = 10.0
"""How much more firmly than the regressor's guess rotation and camera are held: landmarks have told them too."""
UNEXPLAINED = 0.2
"""Share of the pixels that the person's skin does not explain, beyond which a photo shows somebody else. It was 0.02 to
0.19 of photos of the person, and 0.16 to 0.6 of others' (two synthetic people, one real album, 17 photos of others)."""
TOGETHER = 16
"""Photos at a time: of each stand 58 slopes of every pixel in memory."""
FACING = 0.05
"""Least weight of a pixel: cosine to the viewer, times the share of the face in what is seen there."""
FACE = ("skin", "lips", "brows", "eyelids", "lashes", "sclera", "iris", "pupil")
BESIDE = ("scalp", "ears", "neck", "mouth", "teeth", "tongue", "sockets")
"""Regions of the texture that are the face, but for those where others are."""


@dataclass(frozen=True, eq=False)
class _Rendering:
    """N heads as pictures."""

    vertices: Tensor  # (N, V, 3)
    fragments: Fragments
    normal: Tensor  # (N, 3, S, S)
    albedo: Tensor  # (N, 3, S, S)
    weight: Tensor  # (N, 1, S, S)

    def lit(self, light: Tensor) -> Tensor:
        """(N, 3, S, S)"""
        return self.albedo * shade_image(self.normal, light)


@dataclass(frozen=True, eq=False)
class _Prior:
    """What was estimated before, of N faces."""

    codes: FaceCodes
    exposure: Tensor  # (N,)

    @property
    def noise(self) -> Tensor:
        """(N, 1, 1)"""
        return NOISE * self.exposure[:, None, None]


class PersonFit:
    """Fits the open head to portraits of people whose shape and skin are known."""

    def __init__(self, head: OpenHead, regressor: Regressor) -> None:
        self.head = head
        known, actions = head.shape_size, len(head.expression_names)
        ours = torch.cat([torch.arange(6), torch.arange(6 + known, 6 + known + actions)])
        firm = torch.cat([torch.full((6,), RIGID), torch.ones(actions)]).sqrt().to(head.template)
        self.precision = regressor.geometry_precision[ours][:, ours] * firm[:, None] * firm  # (D, D)
        self.light_precision = regressor.light_precision[:27, :27]
        self.limit = head.template.new_tensor([LIMITS.get(name, 1.0) for name in head.expression_names])
        region = sum((head.regions[name] for name in FACE), torch.zeros(()).to(head.template))
        region = region - sum((head.regions[name] for name in BESIDE), torch.zeros_like(region))
        self.region = region.clamp(0, 1)  # (T, T)

    @torch.no_grad()
    def fit(self, portraits: Tensor, codes: FaceCodes, detail: Tensor) -> tuple[FaceCodes, Tensor]:
        """Portraits (N, 3, H, W) in [0, 1] and their codes with the person's shape and texture codes, detail (N or 1,
        3, T, T) of the skin -> better codes, and (N,) the share of the face that they leave unexplained."""
        details = detail.expand(len(codes), -1, -1, -1).split(TOGETHER)
        batches = zip(range(0, len(codes), TOGETHER), portraits.split(TOGETHER), details, strict=True)
        parts = [self._fit(photos, codes[i : i + TOGETHER], skin) for i, photos, skin in batches]
        return FaceCodes.cat([found for found, _ in parts]), torch.cat([share for _, share in parts])

    def _fit(self, portraits: Tensor, codes: FaceCodes, detail: Tensor) -> tuple[FaceCodes, Tensor]:
        photos = functional.interpolate(portraits, (SIDE, SIDE), mode="area")
        texture = (self.head.albedo(codes) * detail).clamp(0, 1)
        texture = torch.cat([texture, self.region.expand(len(texture), 1, -1, -1)], 1)  # (N, 4, T, T)
        prior = _Prior(codes, light_level(codes.light))
        for _ in range(ROUNDS):
            rendering = self._render(codes, texture)
            codes = self._relight(codes, photos, rendering, prior)
            structure = photos - _smooth_difference(photos, rendering, codes.light, prior)
            codes = self._move(codes, structure, texture, rendering, prior)
        rendering = self._render(codes, texture)
        codes = self._relight(codes, photos, rendering, prior)
        squared = _squared_error(photos, rendering, codes.light, prior)
        explained = (rendering.weight * _robust(squared)).sum((1, 2, 3))
        return codes, 1 - explained / rendering.weight.sum((1, 2, 3)).clamp(min=1)

    def _render(self, codes: FaceCodes, texture: Tensor) -> _Rendering:
        head, vertices = self.head, self.head.vertices(codes)
        fragments = rasterize(project(vertices, codes), head.faces, SIDE)
        normal = interpolate(fragments, head.faces, vertex_normals(vertices, head.faces))
        colours = sample_texture(fragments, head.uvs, head.uv_faces, texture)
        weight = colours[:, 3:] * normal[:, 2:].clamp(min=0)
        return _Rendering(vertices, fragments, normal, colours[:, :3], weight.where(weight > FACING, 0))

    def _relight(self, codes: FaceCodes, photos: Tensor, rendering: _Rendering, prior: _Prior) -> FaceCodes:
        """The light that explains the photos best, pixels weighted by how well the light before does."""
        squared = _squared_error(photos, rendering, codes.light, prior)
        weight = _evidence(rendering.weight) * _robust(squared) ** 2 / 3
        weight = weight / NOISE**2  # of errors in units of the exposure
        basis = sh_basis(rendering.normal, 1)  # (N, 9, S, S)
        hessian = codes.light.new_zeros(len(codes), 27, 27)
        gradient = codes.light.new_zeros(len(codes), 27)
        change = (prior.codes.light / prior.exposure[:, None, None]).mT.flatten(1)  # (N, 27) channel-major
        for channel in range(3):
            own, rows = slice(9 * channel, 9 * channel + 9), (basis * rendering.albedo[:, channel, None]).flatten(2)
            weighted = rows * weight.flatten(2)  # (N, 9, S S)
            target = (photos[:, channel] / prior.exposure[:, None, None]).flatten(1)
            hessian[:, own, own] = weighted @ rows.mT
            gradient[:, own] = (weighted @ target[..., None])[..., 0]
        gradient = gradient + change @ self.light_precision
        light = torch.linalg.solve(hessian + self.light_precision, gradient).view(-1, 3, 9).mT
        return codes.replace(light=(light * prior.exposure[:, None, None]).contiguous())

    def _move(
        self, codes: FaceCodes, photos: Tensor, texture: Tensor, rendering: _Rendering, prior: _Prior
    ) -> FaceCodes:
        """Steps of rotation, camera and expression, from those of `rendering`, that never raise the cost."""
        damping = codes.cam.new_full((len(codes),), 1e-3)
        cost, gradient, hessian = self._evaluate(codes, photos, rendering, prior)
        for _ in range(STEPS):
            trial = _moved(codes, bounded_step(codes.exp, gradient, hessian, damping, self.limit), self.limit)
            trial_cost, trial_gradient, trial_hessian = self._evaluate(
                trial, photos, self._render(trial, texture), prior
            )
            better = trial_cost < cost
            codes = codes.replace(
                **{
                    name: torch.where(better[:, None], getattr(trial, name), getattr(codes, name))
                    for name in ("pose", "cam", "exp")
                }
            )
            cost = torch.where(better, trial_cost, cost)
            gradient = torch.where(better[:, None], trial_gradient, gradient)
            hessian = torch.where(better[:, None, None], trial_hessian, hessian)
            damping = torch.where(better, damping / 4, damping * 8)
        return codes

    def _evaluate(
        self, codes: FaceCodes, photos: Tensor, rendering: _Rendering, prior: _Prior
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cost (N,), half its gradient (N, D) and half its Gauss-Newton Hessian (N, D, D)."""
        covered = (rendering.fragments.face >= 0)[:, None]
        picture = _blurred(torch.where(covered, rendering.lit(codes.light), photos))
        weight, order = _evidence(rendering.weight).flatten(1).sort(dim=1, descending=True, stable=True)
        order = order[:, : max(1, int((weight > 0).sum(1).max()))]  # (N, P)
        weight = weight[:, : order.shape[1]]
        error = _pick(_blurred(photos) - picture, order) / prior.noise  # (N, P, 3)
        squared = error.square().mean(2)
        cost = (weight * squared * _robust(squared)).sum(1)
        root = (weight / 3).sqrt() * _robust(squared)  # of iteratively reweighted least squares

        slopes = [_pick(slope, order)[..., None] for slope in _slopes(picture)]  # (N, P, 3, 1) of x, of y
        path = self._paths(codes, rendering, order)  # (N, P, 2, D)
        jacobian = slopes[0] * path[:, :, None, 0] + slopes[1] * path[:, :, None, 1]  # (N, P, 3, D)
        jacobian = (jacobian * (root[..., None] / prior.noise)[..., None]).flatten(1, 2)
        gradient = (jacobian.mT @ (error * root[..., None]).flatten(1)[..., None])[..., 0]

        change = _change(prior.codes, codes)
        pull = change @ self.precision
        return cost + (pull * change).sum(1), gradient + pull, jacobian.mT @ jacobian + self.precision

    def _paths(self, codes: FaceCodes, rendering: _Rendering, order: Tensor) -> Tensor:
        """Where the surface that pixels `order` (N, P) see goes in image NDC with each unknown: (N, P, 2, D)."""
        face = rendering.fragments.face.flatten(1).gather(1, order).clamp(min=0)
        corners = self.head.faces[face]  # (N, P, 3)
        bary = rendering.fragments.bary.flatten(1, 2).gather(1, order[..., None].expand(-1, -1, 3))[..., None]
        which = torch.arange(len(codes), device=order.device)[:, None, None]
        points = (rendering.vertices[which, corners] * bary).sum(2)  # (N, P, 3)
        pivot = self.head.template[-1] + codes.shape @ self.head.shape_basis[:, -1]  # (N, 3)
        x, y, z = (points - pivot[:, None]).unbind(-1)
        zero, scale = torch.zeros_like(x), codes.cam[:, None, :1, None]
        turn = torch.stack([torch.stack([zero, z, -y], -1), torch.stack([-z, zero, x], -1)], -2)
        zoom = (points[..., :2] + codes.cam[:, None, 1:])[..., None]
        shift = torch.eye(2).to(points).expand(*x.shape, 2, 2)
        # One person after the other: at each pixel stand all actions of three corners.
        actions = [
            (self.head.expression_basis[:, c] * b).sum(2) for c, b in zip(corners, bary, strict=True)
        ]  # (E, P, 3)
        turned = torch.einsum("nrc,nepc->npre", axis_angle_to_matrix(codes.pose[:, :3])[:, :2], torch.stack(actions))
        path = scale * torch.cat([turn, zoom, shift, turned], -1)
        return path * path.new_tensor([1, -1])[:, None]  # the image's y points down


def _moved(codes: FaceCodes, step: Tensor, limit: Tensor) -> FaceCodes:
    turn, zoom, shift, change = torch.split(step, [3, 1, 2, step.shape[1] - 6], 1)
    rotation = matrix_to_axis_angle(axis_angle_to_matrix(turn) @ axis_angle_to_matrix(codes.pose[:, :3]))
    return codes.replace(
        pose=torch.cat([rotation, codes.pose[:, 3:]], 1),
        cam=torch.cat([codes.cam[:, :1] * zoom.exp(), codes.cam[:, 1:] + shift], 1),
        exp=(codes.exp + change).clamp(min=0).minimum(limit),
    )


def _change(before: FaceCodes, after: FaceCodes) -> Tensor:
    """(N, D): the step from one to the other."""
    rotations = [axis_angle_to_matrix(codes.pose[:, :3]) for codes in (before, after)]
    turn = matrix_to_axis_angle(rotations[1] @ rotations[0].mT)
    zoom = (after.cam[:, :1] / before.cam[:, :1]).log()
    return torch.cat([turn, zoom, after.cam[:, 1:] - before.cam[:, 1:], after.exp - before.exp], 1)


def _smooth_difference(photos: Tensor, rendering: _Rendering, light: Tensor, prior: _Prior) -> Tensor:
    """What is smooth in photos less renderings, where these explain the photos: (N, 3, S, S)."""
    difference = photos - rendering.lit(light)
    weight = rendering.weight * _robust(_squared_error(photos, rendering, light, prior)) ** 2
    smooth: Tensor = _smoothed(weight * difference) / _smoothed(weight).clamp(min=0.02)
    return smooth


def _squared_error(photos: Tensor, rendering: _Rendering, light: Tensor, prior: _Prior) -> Tensor:
    """(N, 1, S, S) in units of the noise."""
    return ((photos - rendering.lit(light)) / prior.noise[..., None]).square().mean(1, keepdim=True)


def _robust(squared: Tensor) -> Tensor:
    """Of an error's square, in units of the noise: the share of it that counts."""
    return 1 / (1 + squared / OUTLIER**2)


def _evidence(weight: Tensor) -> Tensor:
    """Weights (N, 1, S, S) that sum to EVIDENCE."""
    return weight * (EVIDENCE / weight.sum((2, 3), keepdim=True).clamp(min=1))


def _blurred(pictures: Tensor) -> Tensor:
    """By a pixel: a step then sees where it leads."""
    return functional.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)


def _smoothed(pictures: Tensor) -> Tensor:
    """By a sixteenth of the side."""
    for _ in range(2):
        pictures = functional.avg_pool2d(pictures, 5, 1, 2)
    return pictures


def _slopes(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 3, S, S) change along x and along y, in image NDC."""
    pixel = 2 / pictures.shape[-1]
    x = functional.pad(pictures[..., 2:] - pictures[..., :-2], (1, 1, 0, 0))
    y = functional.pad(pictures[..., 2:, :] - pictures[..., :-2, :], (0, 0, 1, 1))
    return x / (2 * pixel), y / (2 * pixel)


def _pick(pictures: Tensor, order: Tensor) -> Tensor:
    """Pictures (N, C, S, S) at pixels (N, P) -> (N, P, C)."""
    return pictures.flatten(2).mT.gather(1, order[..., None].expand(-1, -1, pictures.shape[1]))
