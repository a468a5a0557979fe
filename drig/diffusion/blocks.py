"""The pieces that the UNet is made of (SPEC 2).

Shapes: N batch, C channels, H W pixels, E width of the timestep embedding, Z width of the global code.
"""

import math
from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drig.diffusion.convolution import Conv3x3
from drig.diffusion.dropout import SampleDropout

GROUPS = 32
"""Groups of every GroupNorm, so every width is a multiple of it."""


class Resample(Enum):
    """What a residual block does to the resolution."""

    KEEP = "keep"
    DOWN = "down"
    UP = "up"

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same, average-pooled to half or repeated to twice the resolution."""
        if self is Resample.DOWN:
            return F.avg_pool2d(x, 2)
        if self is Resample.UP:
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return x


class GroupNorm32(nn.GroupNorm):
    """GroupNorm over 32 groups, computed in float32 whatever the input, in the input's type again afterwards."""

    def __init__(self, channels: int) -> None:
        super().__init__(GROUPS, channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


def zeroed(module: nn.Conv1d | nn.Conv2d) -> nn.Conv1d | nn.Conv2d:
    """The convolution with all parameters zero: last in a residual branch, it makes the branch start as nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    """Sinusoids of the timestep, cosines first (SPEC 2): t (N,) in 0..999, also if steps are skipped -> (N, width)."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t.float()[:, None] * frequencies  # (N, half)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class ResidualBlock(nn.Module):
    """Two convolutions with a skip, modulated by timestep and global code, at the same or another resolution."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        embedding: int,
        code: int,
        dropout: float,
        resample: Resample = Resample.KEEP,
    ) -> None:
        super().__init__()
        self.resample = resample
        self.in_layers = nn.Sequential(GroupNorm32(channels), nn.SiLU(), Conv3x3(channels, out_channels))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * out_channels))
        self.cond_emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(code, 2 * out_channels))
        self.out_layers = nn.Sequential(
            GroupNorm32(out_channels),
            nn.SiLU(),
            SampleDropout(dropout),
            zeroed(Conv3x3(out_channels, out_channels)),
        )
        self.skip_connection = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor, code: Tensor) -> Tensor:
        """x (N, C, H, W), embedding (N, E), code (N, Z) -> (N, C_out, H', W')."""
        norm_in, activation, conv_in = self.in_layers
        h = conv_in(self.resample(activation(norm_in(x))))  # (N, C_out, H', W')
        norm_out, *rest = self.out_layers
        scale, shift = self.modulation(embedding, code)  # (N, C_out, 1, 1) each
        h = torch.addcmul(shift, norm_out(h), scale)
        for layer in rest:
            h = layer(h)
        out: Tensor = self.skip_connection(self.resample(x)) + h
        return out

    def modulation(self, embedding: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """The two modulations of SPEC 2 as one: (h (1 + s_t) + b_t) (1 + s_z) + b_z = h scale + shift.

        One pass over the feature map instead of two.
        """
        scale_t, shift_t = self.emb_layers(embedding)[:, :, None, None].chunk(2, dim=1)
        scale_z, shift_z = self.cond_emb_layers(code)[:, :, None, None].chunk(2, dim=1)
        return (1 + scale_t) * (1 + scale_z), shift_t * (1 + scale_z) + shift_z


class AttentionBlock(nn.Module):
    """Self-attention of one head over the flattened pixels, with a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = GroupNorm32(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        pixels = self.norm(x).flatten(2)  # (N, C, H W)
        q, k, v = self.qkv(pixels).transpose(1, 2).chunk(3, dim=2)  # (N, H W, C) each
        # Its default scale C^-1/2 on q k is the C^-1/4 on each of SPEC 2; the softmax is summed in float32 inside.
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)  # (N, C, H W)
        branch: Tensor = self.proj_out(h)
        return x + branch.view_as(x)
