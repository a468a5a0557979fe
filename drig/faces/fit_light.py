"""Pixel colours -> light and albedo of the open head, under the normals of an already fitted geometry.

The photo is explained as I = A(t) x S(L): albedo A linear in the texture codes t, shading S linear in the SH light L,
both with priors, by Gauss-Newton. What a bare head cannot explain (hair, glasses, highlights, shadows) is weighed down
by how badly it is explained (iteratively reweighted least squares).

Legend: N batch, P = G * G pixels of the fit's own small picture, K texture codes, T texture size.
"""

import torch
from torch import Tensor
from torch.nn import functional

from drig.faces.buffers import interpolate, vertex_normals
from drig.faces.camera import project
from drig.faces.codes import FaceCodes
from drig.faces.lighting import directional_light, sh_basis
from drig.faces.open_head import OpenHead
from drig.faces.rasterizer import rasterize

GRID = 64
"""Side of the picture in which colours are compared, pixels: light and albedo codes are smooth."""
ROUNDS = 8
NOISE = 0.06
"""Typical error of an explained pixel, in [0, 1] of the photo's range."""
EVIDENCE = 150.0
"""How many independent pixels the face is worth: neighbours repeat each other."""
TYPICAL_LAMP = (0.0, 0.5, 1.0)
"""Where light comes from if nothing else is known: the front and above. A face shows the camera only half of what
would tell ambient light from light out of the front."""
BAND_SPREAD = (1.0, 0.6, 0.4)
"""Typical deviation from the typical lamp's SH coefficients in bands 0, 1 and 2, for the grey part of the light."""
TINT_SPREAD = 0.2
"""How much less the three colour channels differ from each other."""
USED = {"skin": 1.0, "scalp": -1.0, "ears": -0.7, "neck": -0.8, "sclera": -1.0, "iris": -1.0, "pupil": -1.0}
USED |= {"mouth": -1.0, "teeth": -1.0, "tongue": -1.0, "sockets": -1.0, "lips": 1.0, "brows": 0.5}
"""How regions of the texture add up to the weight of a pixel, clipped to 0..1."""


class LightFit:
    """Fits light and texture codes of the open head to portraits."""

    def __init__(self, head: OpenHead) -> None:
        self.head = head
        texture = torch.cat([head.albedo_mean[None], head.albedo_basis])  # (1 + K, 3, T, T)
        # As coarse as the grid, so that reading one texel does not alias.
        self.texture = functional.interpolate(texture, (GRID, GRID), mode="area").flatten(2).permute(2, 0, 1)
        weight = sum(sign * head.regions[name] for name, sign in USED.items())
        assert isinstance(weight, Tensor)
        small = functional.interpolate(weight.clamp(0, 1)[None, None], (GRID, GRID), mode="area")
        self.weight = small.flatten()  # (T T,)
        self.light_mean = directional_light(torch.tensor(TYPICAL_LAMP), torch.full((3,), 0.7), 0.5).to(weight)
        self.prior = torch.block_diag(_light_prior(), torch.eye(len(head.albedo_basis))).to(weight)

    def fit(self, portraits: Tensor, codes: FaceCodes) -> FaceCodes:
        """Portraits (N, 3, H, W) in [0, 1] and codes whose geometry is right -> codes with light and tex."""
        pixels = functional.interpolate(portraits, (GRID, GRID), mode="area").flatten(2).mT  # (N, P, 3)
        basis, texture, weight = self._see(codes)  # (N, P, 9), (N, P, 1 + K, 3), (N, P)
        weight = weight * EVIDENCE / weight.sum(1, keepdim=True).clamp(min=1) / NOISE**2
        light = self.light_mean.expand(len(codes), 9, 3)
        tex = pixels.new_zeros(len(codes), texture.shape[2] - 1)
        for _ in range(ROUNDS):
            albedo = texture[:, :, 0] + torch.einsum("npkc,nk->npc", texture[:, :, 1:], tex)  # (N, P, 3)
            shading = basis @ light  # (N, P, 3)
            error = pixels - albedo * shading
            trust = 1 / (1 + error.square().mean(2) / (2 * NOISE) ** 2)  # Cauchy weights
            light, tex = self._step(light, tex, albedo, shading, error, basis, texture, weight * trust)
        return codes.replace(light=light.contiguous(), tex=tex)

    def _see(self, codes: FaceCodes) -> tuple[Tensor, Tensor, Tensor]:
        """What each pixel shows of the fitted head: SH basis, texture components, weight (0 off the skin)."""
        head = self.head
        vertices = head.vertices(codes)
        fragments = rasterize(project(vertices, codes), head.faces, GRID)
        normal = interpolate(fragments, head.faces, vertex_normals(vertices, head.faces))  # (N, 3, G, G)
        uv = interpolate(fragments, head.uv_faces, head.uvs)  # (N, 2, G, G)
        column = (uv[:, 0] * GRID).long().clamp(0, GRID - 1)
        row = ((1 - uv[:, 1]) * GRID).long().clamp(0, GRID - 1)
        texel = (row * GRID + column).flatten(1)  # (N, P)
        facing = normal[:, 2].clamp(min=0).flatten(1)  # grazing pixels mix with the background
        weight = self.weight[texel] * facing * (fragments.face >= 0).flatten(1)
        return sh_basis(normal.flatten(2).mT), self.texture[texel], weight

    def _step(
        self,
        light: Tensor,
        tex: Tensor,
        albedo: Tensor,
        shading: Tensor,
        error: Tensor,
        basis: Tensor,
        texture: Tensor,
        weight: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """One Gauss-Newton step of sum w |I - A(t) (Y L)|^2 + priors, in light and texture together.

        Together, because a darker skin under a brighter light looks nearly the same: solving for one at a time would
        stay where it began.
        """
        n, k = tex.shape
        by_light = albedo.mT[..., None] * basis[:, None]  # (N, 3, P, 9), of each channel's own light
        by_tex = (shading[:, :, None] * texture[:, :, 1:]).permute(0, 3, 1, 2)  # (N, 3, P, K)
        design = torch.cat([by_light, by_tex], 3)  # (N, 3, P, 9 + K)
        weighted = design.mT * weight[:, None, None]  # (N, 3, 9 + K, P)
        gram, right = weighted @ design, (weighted @ error.mT[..., None])[..., 0]
        hessian = torch.zeros(n, 27 + k, 27 + k).to(tex)
        gradient = torch.zeros(n, 27 + k).to(tex)
        for channel in range(3):
            own = torch.cat([torch.arange(9) + 9 * channel, torch.arange(27, 27 + k)])
            hessian[:, own[:, None], own] += gram[:, channel]
            gradient[:, own] += right[:, channel]
        vector = torch.cat([(light - self.light_mean).mT.flatten(1), tex], 1)  # (N, 27 + K)
        step = torch.linalg.solve(hessian + self.prior, gradient - vector @ self.prior)
        return light + step[:, :27].view(n, 3, 9).mT, tex + step[:, 27:]


def _light_prior() -> Tensor:
    """(27, 27) channel-major precision of the light: bands of BAND_SPREAD around zero, channels alike."""
    spread = torch.tensor([BAND_SPREAD[0]] + [BAND_SPREAD[1]] * 3 + [BAND_SPREAD[2]] * 5)
    mean = torch.full((3, 3), 1 / 3)
    per_channel = mean / 3 + (torch.eye(3) - mean) / TINT_SPREAD**2  # grey part, and difference from it
    return torch.kron(per_channel, torch.diag(spread**-2))
