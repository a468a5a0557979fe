"""The denoising UNet (SPEC 2). Its state-dict keys are those of the released models."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from drig.diffusion.blocks import AttentionBlock, GroupNorm32, Resample, ResidualBlock, timestep_embedding, zeroed
from drig.diffusion.convolution import Conv3x3

IMAGE_CHANNELS = 3
BUFFER_CHANNELS = 9
"""Rendered, normal and albedo, three channels each."""


@dataclass(frozen=True, kw_only=True)
class UNetShape:
    """What decides the UNet's parameters; `RigConfig` derives it."""

    base_channels: int
    widths: tuple[int, ...]
    """Channels of each level, finest first."""
    attention_levels: frozenset[int]
    """Levels with self-attention after every residual block."""
    blocks_per_level: int
    dropout: float
    code_size: int
    patch: int
    """Side of the pixel blocks that the network sees as one position. 1 = pixels."""

    @property
    def embedding(self) -> int:
        return 4 * self.base_channels


class BlockSequence(nn.Sequential):
    """Layers in a row, the residual blocks among them also given the timestep embedding and the code."""

    def forward(self, x: Tensor, embedding: Tensor, code: Tensor) -> Tensor:  # type: ignore[override]
        for layer in self:
            x = layer(x, embedding, code) if isinstance(layer, ResidualBlock) else layer(x)
        return x


class PixelHead(nn.Module):
    """The last layers of a UNet that sees patches: they see pixels, a few features of each, at little cost.

    Without them what is sharp in the buffers and not in the photo, such as the mean head's brows, shines through.
    """

    FEATURES, WIDTH = 8, 16

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.features = nn.Sequential(Conv3x3(channels, self.FEATURES * patch**2), nn.PixelShuffle(patch))
        seen = self.FEATURES + IMAGE_CHANNELS + IMAGE_CHANNELS + BUFFER_CHANNELS
        self.layers = nn.Sequential(
            nn.Conv2d(seen, self.WIDTH, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(self.WIDTH, self.WIDTH, 3, padding=1),
            nn.SiLU(),
            zeroed(nn.Conv2d(self.WIDTH, IMAGE_CHANNELS, 3, padding=1)),
        )

    def forward(self, h: Tensor, image: Tensor, inputs: Tensor) -> Tensor:
        """Patches h (N, C, H/p, W/p), the image (N, 3, H, W) of them, and the UNet's inputs (N, 12, H, W) -> image."""
        change: Tensor = self.layers(torch.cat([self.features(h), image, inputs], dim=1))
        return image + change


class UNet(nn.Module):
    """Predicts the noise in an image from the image, physical buffers, the timestep and the global code."""

    def __init__(self, shape: UNetShape) -> None:
        super().__init__()
        self.shape = shape
        self.recompute = False
        """Whether training keeps only the input of each block, and computes the rest again for the gradient."""
        self.time_embed = nn.Sequential(
            nn.Linear(shape.base_channels, shape.embedding),
            nn.SiLU(),
            nn.Linear(shape.embedding, shape.embedding),
        )
        self.unpatch, self.to_patches = nn.PixelShuffle(shape.patch), nn.PixelUnshuffle(shape.patch)
        channels_in = (IMAGE_CHANNELS + BUFFER_CHANNELS) * shape.patch**2
        first = Conv3x3(channels_in, shape.widths[0])
        self.input_blocks, skips = self._down_path(first)
        self.middle_block = BlockSequence(
            self._block(skips[-1], skips[-1]), AttentionBlock(skips[-1]), self._block(skips[-1], skips[-1])
        )
        self.output_blocks = self._up_path(skips)
        self.out = nn.Sequential(
            GroupNorm32(shape.widths[0]),
            nn.SiLU(),
            zeroed(Conv3x3(shape.widths[0], IMAGE_CHANNELS * shape.patch**2)),
        )
        self.pixel_head = PixelHead(shape.widths[0], shape.patch) if shape.patch > 1 else None

    def forward(self, x_t: Tensor, t: Tensor, buffers: Tensor, code: Tensor) -> Tensor:
        """x_t (N, 3, H, W), t (N,), buffers (N, 9, H, W), code (N, Z) -> noise (N, 3, H, W)."""
        embedding = self.time_embed(timestep_embedding(t, self.shape.base_channels))  # (N, E)
        inputs = torch.cat([x_t, buffers], dim=1)  # (N, 12, H, W)
        h = self.to_patches(inputs)  # (N, 12 p p, H/p, W/p)
        skips = []
        for block in self.input_blocks:
            h = self._run(block, h, embedding, code)
            skips.append(h)
        h = self._run(self.middle_block, h, embedding, code)
        for block in self.output_blocks:
            h = self._run(block, torch.cat([h, skips.pop()], dim=1), embedding, code)
        norm, activation, last = self.out
        h = activation(norm(h))
        noise: Tensor = self.unpatch(last(h))  # (N, 3, H, W)
        return noise if self.pixel_head is None else self.pixel_head(h, noise, inputs)

    def _run(self, block: nn.Module, h: Tensor, embedding: Tensor, code: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            result: Tensor = checkpoint(block, h, embedding, code, use_reentrant=False)
        else:
            result = block(h, embedding, code)
        return result

    def _block(self, channels: int, out_channels: int, resample: Resample = Resample.KEEP) -> ResidualBlock:
        return ResidualBlock(
            channels,
            out_channels,
            embedding=self.shape.embedding,
            code=self.shape.code_size,
            dropout=self.shape.dropout,
            resample=resample,
        )

    def _attention(self, level: int) -> list[nn.Module]:
        return [AttentionBlock(self.shape.widths[level])] if level in self.shape.attention_levels else []

    def _down_path(self, first: nn.Conv2d) -> tuple[nn.ModuleList, list[int]]:
        """The entries of `input_blocks`, and the channels that each hands on as a skip."""
        entries, skips = [BlockSequence(first)], [first.out_channels]
        for level, width in enumerate(self.shape.widths):
            for _ in range(self.shape.blocks_per_level):
                entries.append(BlockSequence(self._block(skips[-1], width), *self._attention(level)))
                skips.append(width)
            if level < len(self.shape.widths) - 1:
                entries.append(BlockSequence(self._block(width, width, Resample.DOWN)))
                skips.append(width)
        return nn.ModuleList(entries), skips

    def _up_path(self, skips: Sequence[int]) -> nn.ModuleList:
        """The entries of `output_blocks`: each takes one skip, the last first."""
        entries, remaining, channels = [], list(skips), skips[-1]
        for level, width in reversed(list(enumerate(self.shape.widths))):
            for i in range(self.shape.blocks_per_level + 1):
                layers = [self._block(channels + remaining.pop(), width), *self._attention(level)]
                if level > 0 and i == self.shape.blocks_per_level:
                    layers.append(self._block(width, width, Resample.UP))
                entries.append(BlockSequence(*layers))
                channels = width
        return nn.ModuleList(entries)
