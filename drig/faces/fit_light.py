"""Pixel colours -> light and albedo of the open head, under the normals of an already fitted geometry.

The photo is explained as I = A(t) S(L): albedo A linear in the texture codes t, shading S linear in the SH light L.
Minimises, for each face on its own and in units of the photo's exposure,

    sum_p w_p rho(|I_p - A_p S_p|^2 / noise^2) + |t|^2 + light prior + sum_d max(0, floor - S_d)^2 / spread^2,

p pixels on the skin, d directions all over the sphere: a photo tells nothing about half of them, yet edits will show
them. rho is Geman and McClure's, which is bounded: a bare head does not explain hair, glasses, highlights and shadows.
It needs a good start, which the middle of the face gives: nose, cheeks and chin are rarely covered. Light and texture
are solved for together by Gauss-Newton with step control (Levenberg-Marquardt), because darker skin under a brighter
light looks nearly the same: solving for one at a time would stay where it began.

Legend: N batch, P pixels, K texture codes, D = 27 + K unknowns (light channel-major, then texture).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from drig.faces.buffers import interpolate, vertex_normals
from drig.faces.camera import project
from drig.faces.codes import FaceCodes
from drig.faces.fit_light_prior import light_level, light_prior, sphere
from drig.faces.lighting import sh_basis
from drig.faces.open_head import OpenHead
from drig.faces.rasterizer import rasterize

GRID = 48
"""Side of the picture in which colours are compared, pixels: light and albedo codes are smooth."""
TEXELS = 64
"""Side of the texture that is read for it, as coarse as its pixels."""
START_ITERATIONS, ITERATIONS = 3, 6
"""Steps on the middle of the face, then on all of it."""
NOISE = 0.05
"""Typical error of an explained pixel, in units of the exposure."""
OUTLIER = 3.0
"""Errors of more than about this many times the noise are something else than skin."""
EVIDENCE = 60.0
"""How many independent pixels a face is worth: neighbours repeat each other."""
SKIN_LEVEL = 0.6
"""Share of the skin's pixels that are darker than its typical brightness: hair and shadows are dark."""
TYPICAL_EXPOSURE = 1.1
SKIN_SHARE, SKIN_RANGE = 0.65, (0.5, 1.5)
"""How much of unusual brightness (logarithm) is the skin's doing, and how far that goes; the rest is the exposure's."""
SATURATED = 0.97
"""Pixels from here on may have been any brighter."""
TRUSTED = 0.2
"""How far (logarithm) the brightness of a guess may be off the skin's before it is moved there."""
FLOOR, FLOOR_SPREAD = 0.12, 0.04
"""Least shading of any normal, and how strictly it is kept."""
USED = {"skin": 1.0, "scalp": -1.0, "ears": -0.7, "neck": -0.8, "sclera": -1.0, "iris": -1.0, "pupil": -1.0}
USED |= {"mouth": -1.0, "teeth": -1.0, "tongue": -1.0, "sockets": -1.0, "lips": 1.0, "brows": 0.5}
"""How regions of the texture add up to the weight of a pixel, clipped to 0..1."""
UNCOVERED = (0.0, 0.03)
"""Metres above the eyes between which skin becomes forehead, which hair may cover."""
FOREHEAD = 0.4
"""Weight of the forehead."""


@dataclass(frozen=True)
class _View:
    """The pixels of N faces that show skin."""

    pixels: Tensor  # (N, P, 3) in units of the exposure
    saturated: Tensor  # (N, P, 3) bool
    basis: Tensor  # (N, P, 9)
    mean: Tensor  # (N, P, 3) albedo of the mean head
    texture: Tensor  # (N, P, K, 3)
    weight: Tensor  # (N, P)
    middle: Tensor  # (N, P) 1 where hair is rare, 0 on the forehead


@dataclass(frozen=True)
class _Prior:
    """What is believed of N faces' light and texture, in units of the exposure."""

    mean: Tensor  # (N, D)
    precision: Tensor  # (D, D)


class LightFit:
    """Fits light and texture codes of the open head to portraits."""

    def __init__(self, head: OpenHead) -> None:
        self.head = head
        texture = torch.cat([head.albedo_mean[None], head.albedo_basis])  # (1 + K, 3, T, T)
        self.texture = functional.interpolate(texture, (TEXELS, TEXELS), mode="area").flatten(2).permute(2, 0, 1)
        weight = sum((sign * head.regions[name] for name, sign in USED.items()), torch.zeros(()).to(texture))
        self.weight = functional.interpolate(weight.clamp(0, 1)[None, None], (TEXELS, TEXELS), mode="area").flatten()
        self.middle = _middle(head).flatten()
        self.weight = self.weight * (FOREHEAD + (1 - FOREHEAD) * self.middle)
        prior = light_prior()
        unknowns = torch.eye(len(head.albedo_basis))
        self.prior_mean = functional.pad(prior.mean, (0, len(unknowns))).to(texture)  # (D,)
        self.prior_precision = torch.block_diag(prior.precision, unknowns).to(texture)  # (D, D)
        self.everywhere = sh_basis(sphere(48)).to(texture)  # (directions, 9)

    def fit(self, portraits: Tensor, codes: FaceCodes, precision: Tensor | None = None) -> FaceCodes:
        """Portraits (N, 3, H, W) in [0, 1] and codes whose geometry is right -> codes with light and tex.

        precision: (D, D) of the light and tex that the codes hold already, in units of the exposure; None: they hold
        none, and light and skin are what they are in general.
        """
        view = self._see(portraits, codes)
        if precision is None:
            exposure = self._exposure(view)
            prior = _Prior(self.prior_mean.expand(len(codes), -1), self.prior_precision)
        else:
            exposure = light_level(codes.light)
            light = codes.light / exposure[:, None, None]
            prior = _Prior(torch.cat([light.mT.flatten(1), codes.tex], 1), precision)
            exposure = exposure * self._doubt(view, prior.mean, exposure)
        view = replace(view, pixels=view.pixels / exposure[:, None, None])
        state = prior.mean
        if precision is None:
            state = self._descend(state, prior, replace(view, weight=view.weight * view.middle), START_ITERATIONS)
        state = self._descend(state, prior, view, ITERATIONS)
        light = _light(state) * exposure[:, None, None]
        return codes.replace(light=light.contiguous(), tex=state[:, 27:].contiguous())

    def _descend(self, state: Tensor, prior: _Prior, view: _View, iterations: int) -> Tensor:
        """Steps (N, D) -> (N, D) that never raise the cost."""
        damping = state.new_full((len(state),), 1e-2)
        cost, gradient, hessian = self._evaluate(state, prior, view)
        for _ in range(iterations):
            damped = hessian + torch.diag_embed(damping[:, None] * hessian.diagonal(dim1=1, dim2=2))
            trial = state - torch.linalg.solve(damped, gradient)
            trial_cost, trial_gradient, trial_hessian = self._evaluate(trial, prior, view)
            better = trial_cost < cost
            state = torch.where(better[:, None], trial, state)
            cost = torch.where(better, trial_cost, cost)
            gradient = torch.where(better[:, None], trial_gradient, gradient)
            hessian = torch.where(better[:, None, None], trial_hessian, hessian)
            damping = torch.where(better, damping / 4, damping * 8).clamp(1e-6, 1e6)
        return state

    def _see(self, portraits: Tensor, codes: FaceCodes) -> _View:
        """The pixels on the fitted skin, the most important first; weight 0 where a face has fewer than others."""
        head = self.head
        vertices = head.vertices(codes)
        fragments = rasterize(project(vertices, codes), head.faces, GRID)
        normal = interpolate(fragments, head.faces, vertex_normals(vertices, head.faces))  # (N, 3, G, G)
        uv = interpolate(fragments, head.uv_faces, head.uvs)  # (N, 2, G, G)
        column = (uv[:, 0] * TEXELS).long().clamp(0, TEXELS - 1)
        row = ((1 - uv[:, 1]) * TEXELS).long().clamp(0, TEXELS - 1)
        texel = (row * TEXELS + column).flatten(1)
        facing = normal[:, 2].clamp(min=0).flatten(1)  # grazing pixels mix with the background
        weight = self.weight[texel] * facing * (fragments.face >= 0).flatten(1)
        weight, order = weight.sort(dim=1, descending=True, stable=True)
        order = order[:, : max(1, int((weight > 0).sum(1).max()))]  # (N, P)
        weight = weight[:, : order.shape[1]]
        colours = functional.interpolate(portraits, (GRID, GRID), mode="area").flatten(2).mT
        texel = texel.gather(1, order)
        texture = self.texture[texel]  # (N, P, 1 + K, 3)
        pixels = _pick(colours, order)
        return _View(
            pixels=pixels,
            saturated=pixels > SATURATED,
            basis=sh_basis(_pick(normal.flatten(2).mT, order)),
            mean=texture[:, :, 0],
            texture=texture[:, :, 1:],
            weight=weight * EVIDENCE / weight.sum(1, keepdim=True).clamp(min=1),
            middle=self.middle[texel],
        )

    def _exposure(self, view: _View) -> Tensor:
        """(N,) the brightness of a white surface, as the skin's suggests it."""
        level = _skin_level(view, view.mean)
        low, high = SKIN_RANGE
        return level / ((level / TYPICAL_EXPOSURE) ** SKIN_SHARE).clamp(low, high)

    def _doubt(self, view: _View, state: Tensor, exposure: Tensor) -> Tensor:
        """(N,) the factor that brings the exposure of light and texture (N, D) within TRUSTED of what the skin shows.

        Without it, the brightness of hair or of the background may pass for the skin's, and robustness then makes
        outliers of all of the skin.
        """
        albedo = view.mean + torch.einsum("npkc,nk->npc", view.texture, state[:, 27:])  # (N, P, 3)
        expected = (albedo * (view.basis @ _light(state))).clamp(min=0.02) * exposure[:, None, None]
        return torch.exp(functional.softshrink(_skin_level(view, expected).log(), TRUSTED))

    def _evaluate(self, state: Tensor, prior: _Prior, view: _View) -> tuple[Tensor, Tensor, Tensor]:
        """Cost (N,), half its gradient (N, D) and half its Gauss-Newton Hessian (N, D, D)."""
        light, tex = _light(state), state[:, 27:]
        albedo = view.mean + torch.einsum("npkc,nk->npc", view.texture, tex)  # (N, P, 3)
        shading = view.basis @ light
        error = (albedo * shading - view.pixels) / NOISE
        error = error.masked_fill(view.saturated & (error > 0), 0)
        squared = error.square().mean(2) / OUTLIER**2
        weight = view.weight / (1 + squared) ** 2  # of iteratively reweighted least squares
        cost = OUTLIER**2 * (view.weight * squared / (1 + squared)).sum(1)

        by_light = albedo.mT[..., None] * view.basis[:, None]  # (N, 3, P, 9), of each channel's own light
        by_tex = (shading[:, :, None] * view.texture).permute(0, 3, 1, 2)  # (N, 3, P, K)
        design = torch.cat([by_light, by_tex], 3) / NOISE
        weighted = (design * (weight / 3)[:, None, :, None]).mT  # (N, 3, 9 + K, P)
        gradient, hessian = _scatter((weighted @ error.mT[..., None])[..., 0], weighted @ design)

        dark = (FLOOR - self.everywhere @ light).clamp(min=0) / FLOOR_SPREAD  # (N, directions, 3)
        cost = cost + dark.square().sum((1, 2))
        gradient[:, :27] -= (self.everywhere.T @ dark).mT.flatten(1) / FLOOR_SPREAD
        active = self.everywhere[:, None] * (dark > 0)[..., None] / FLOOR_SPREAD  # (N, directions, 3, 9)
        for channel in range(3):
            own = slice(9 * channel, 9 * channel + 9)
            hessian[:, own, own] += active[:, :, channel].mT @ active[:, :, channel]

        change = state - prior.mean
        pull = change @ prior.precision
        return cost + (pull * change).sum(1), gradient + pull, hessian + prior.precision


def _skin_level(view: _View, expected: Tensor) -> Tensor:
    """(N,) how many times brighter than expected (N, P, 3) skin is, hair and shadows left out; at least 0.02."""
    ratio, order = (view.pixels.mean(2) / expected.mean(2)).sort(dim=1, stable=True)
    share = (view.weight * view.middle).gather(1, order).cumsum(1)
    middle = (share < SKIN_LEVEL * share[:, -1:]).sum(1, keepdim=True).clamp(max=ratio.shape[1] - 1)
    return ratio.gather(1, middle)[:, 0].clamp(min=0.02)


def _middle(head: OpenHead) -> Tensor:
    """(TEXELS, TEXELS) 1 from the eyes downwards, 0 on the forehead: the texture's islands in the mean head's frame."""
    uvs = torch.cat([head.uvs * 2 - 1, torch.zeros_like(head.uvs[:, :1])], 1) * head.uvs.new_tensor([1, -1, 1])
    islands = rasterize(uvs[None], head.uv_faces, TEXELS)
    height = interpolate(islands, head.faces, head.template[:-1])[0, 1]
    eyes = (head.template[head.landmark_corners[36:48]] * head.landmark_weights[36:48, :, None]).sum(1)[:, 1].mean()
    low, high = UNCOVERED
    return ((eyes + high - height) / (high - low)).clamp(0, 1)


def _light(state: Tensor) -> Tensor:
    """(N, D) unknowns -> (N, 9, 3) light."""
    return state[:, :27].view(-1, 3, 9).mT


def _pick(values: Tensor, order: Tensor) -> Tensor:
    """(N, M, C) at (N, P) indices -> (N, P, C)."""
    return values.gather(1, order[..., None].expand(-1, -1, values.shape[2]))


def _scatter(gradient: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor]:
    """Per channel (N, 3, 9 + K) and (N, 3, 9 + K, 9 + K) -> (N, D) and (N, D, D): each channel has its own light."""
    n, _, size = gradient.shape
    whole_gradient, whole = gradient.new_zeros(n, 18 + size), hessian.new_zeros(n, 18 + size, 18 + size)
    for channel in range(3):
        own = torch.cat([torch.arange(9) + 9 * channel, torch.arange(27, 18 + size)]).to(gradient.device)
        whole_gradient[:, own] += gradient[:, channel]
        whole[:, own[:, None], own] += hessian[:, channel]
    return whole_gradient, whole
