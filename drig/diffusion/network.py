"""The rig: UNet and encoder together, their configuration, and the named presets."""

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from drig.diffusion.blocks import GROUPS
from drig.diffusion.correction import inner_face, noise_around, visible_correction
from drig.diffusion.encoder import PhotoEncoder
from drig.diffusion.schedule import Schedule
from drig.diffusion.unet import UNet, UNetShape
from drig.errors import DrigError


@dataclass(frozen=True, kw_only=True)
class RigConfig:
    """Everything that decides the shapes of a rig's weights. The defaults are the released models' (SPEC 2)."""

    size: int
    """Height and width of the images, pixels."""
    base_channels: int = 128
    """Channels at multiplier 1; the timestep embedding is four times as wide."""
    channel_mult: tuple[float, ...]
    """Channels of each resolution as a multiple of `base_channels`, full resolution first, halving at each."""
    blocks_per_level: int = 2
    """Residual blocks at each resolution on the way down; one more on the way up."""
    attention_size: int = 16
    """Side of the feature maps that get self-attention, positions. 0 = in the middle of the UNet only."""
    dropout: float = 0.1
    """Share of activations dropped in training. 0 = none."""
    code_size: int = 64
    """Numbers in the global code."""
    patch: int = 1
    """Side of the pixel blocks that the UNet sees as one position: it then works at size / patch. 1 = every pixel."""
    encoder_blocks: tuple[int, ...] = (2, 2, 2, 2)
    """Residual blocks at the encoder's four resolutions. (2, 2, 2, 2) = ResNet-18."""
    encoder_width: int = 64
    """Channels at the encoder's first resolution; they double at each of the others. 64 = ResNet-18."""
    prediction: Literal["noise", "correction"] = "noise"
    """What the UNet puts out: the noise, or the correction that makes the rendered face the photo, from which the noise
    follows (`drig.diffusion.correction`)."""

    def __post_init__(self) -> None:
        multiple = self.patch * 2 ** (len(self.channel_mult) - 1)
        if self.size % multiple:
            raise DrigError(
                f"size {self.size} with {len(self.channel_mult)} levels and patch {self.patch}: the size must be a "
                f"multiple of {multiple}. Use such a size, or fewer channel_mult entries."
            )
        narrow = [width for width in self.widths if width % GROUPS or width == 0]
        if narrow:
            raise DrigError(
                f"channels {narrow} (base_channels {self.base_channels} x channel_mult {list(self.channel_mult)}): "
                f"every level's must be a multiple of {GROUPS}. Change base_channels or channel_mult."
            )
        if self.attention_size and self.attention_size not in self.level_sizes:
            raise DrigError(
                f"attention_size {self.attention_size}: no level has feature maps of that side, they are "
                f"{list(self.level_sizes)}. Use one of these, or 0 for attention in the middle only."
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(int(self.base_channels * mult) for mult in self.channel_mult)

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Side of each level's feature maps, finest first."""
        return tuple(self.size // (self.patch * 2**level) for level in range(len(self.channel_mult)))

    @property
    def steps(self) -> int:
        """Of the sampler, where nobody says how many: 20 as in the paper. Corrections are no better for more than 4."""
        return 20 if self.prediction == "noise" else 4

    @property
    def unet_shape(self) -> UNetShape:
        return UNetShape(
            base_channels=self.base_channels,
            widths=self.widths,
            attention_levels=frozenset(i for i, side in enumerate(self.level_sizes) if side == self.attention_size),
            blocks_per_level=self.blocks_per_level,
            dropout=self.dropout,
            code_size=self.code_size,
            patch=self.patch,
        )


_TINY = RigConfig(
    size=64,
    base_channels=64,
    channel_mult=(1, 1),
    blocks_per_level=1,
    attention_size=8,
    dropout=0.0,
    patch=4,
    encoder_blocks=(1, 1, 1, 1),
    encoder_width=32,
    prediction="correction",
)
_SMALL = replace(_TINY, base_channels=128, blocks_per_level=2)
RIG_PRESETS = MappingProxyType(
    {
        "tiny": _TINY,
        "small": _SMALL,  # the released base of 64 px: 9.7 M numbers
        # For 128 px: the same with a finer level before it, and a narrower timestep embedding: 11.7 M numbers.
        "small128": replace(_SMALL, size=128, base_channels=64, channel_mult=(2, 2, 2)),
        "rig64": RigConfig(size=64, channel_mult=(1, 2, 3, 4)),
        "rig128": RigConfig(size=128, channel_mult=(1, 1, 2, 3, 4)),
        "rig256": RigConfig(size=256, channel_mult=(1, 1, 2, 2, 4, 4)),  # the released model, 144.6 M numbers
        "rig512": RigConfig(size=512, channel_mult=(0.5, 1, 1, 2, 2, 4, 4)),
    }
)
"""Named rigs. `tiny` and `small` are for CPUs, the others are the paper's network at four sizes.

`tiny` at equal CPU time (benchmarks/tiny_preset.py: 45 s on one AVX2 core, 420 synthetic portraits, PSNR of held-out
reconstructions): 15.9 dB after 1,712 samples; predicting noise 6.3; with the paper's loss weight, k = 1, 14.7; at half
resolution (patch 2) 14.3 and at full resolution 13.6, after 1,328 and 480 samples: what patches cost in sharpness they
pay back many times in samples. Its training settings are `tiny-stage1` and `tiny-stage2`; use bfloat16 only where the
processor multiplies in it: emulated, it trains 18 times slower. NCHW is faster than channels_last without AMX.
"""


class Rig(nn.Module):
    """DiffusionRig's network: (noisy image, timestep, physical buffers, photo) -> the noise.

    Initial weights: the last convolution of every residual block and of every attention is zero (SPEC 2), and so is
    that of the whole UNet (ours), so a fresh rig predicts zero. The other layers start as PyTorch starts them,
    the encoder's as He et al. start a ResNet.
    """

    def __init__(self, config: RigConfig) -> None:
        super().__init__()
        self.config = config
        self.schedule = Schedule()
        self.denoisingUNet = UNet(config.unet_shape)
        self.encoder = PhotoEncoder(config.encoder_blocks, config.encoder_width, config.code_size)

    @classmethod
    def from_seed(cls, config: RigConfig, seed: int) -> "Rig":
        """A fresh rig whose weights depend on the seed alone; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)

    def encode(self, photo: Tensor) -> Tensor:
        """The global code of a photo: (N, 3, H, W) in [-1, 1] -> (N, Z)."""
        self._require_size("photo", photo)
        code: Tensor = self.encoder(photo)
        return code

    def denoise(self, x_t: Tensor, t: Tensor, buffers: Tensor, code: Tensor) -> Tensor:
        """The noise in x_t (N, 3, H, W) at timesteps t (N,) int64, given buffers (N, 9, H, W) and code (N, Z).

        Raises DrigError for images of another size than the rig's, and for other numbers of one than of the other.
        """
        self._require_size("noisy image", x_t)
        self._require_size("buffers", buffers)
        counts = {"images": len(x_t), "timesteps": len(t), "buffers": len(buffers), "codes": len(code)}
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{count} {what}" for what, count in counts.items())
            raise DrigError(f"a batch of {found}: give one of each for every image.")
        if self.config.prediction == "noise":
            noise: Tensor = self.denoisingUNet(x_t, t, buffers, code)
            return noise
        alpha_bar = self.schedule.at(t)[:, None, None, None]  # (N, 1, 1, 1) float64
        face = inner_face(buffers)  # (N, 3, H, W)
        correction: Tensor = self.denoisingUNet(visible_correction(x_t, face, alpha_bar), t, buffers, code)
        return noise_around(face + correction, x_t, alpha_bar)

    def forward(self, x_t: Tensor, t: Tensor, buffers: Tensor, photo: Tensor) -> Tensor:
        """`denoise` with the code of `photo` (N, 3, H, W): what training calls, in one call so that DDP sees it."""
        return self.denoise(x_t, t, buffers, self.encode(photo))

    def _require_size(self, what: str, images: Tensor) -> None:
        height, width = images.shape[-2:]
        if (height, width) != (self.config.size, self.config.size):
            raise DrigError(
                f"{what} of {width} x {height} px, and this rig works at {self.config.size} x {self.config.size}. "
                f"Make the portraits and buffers at {self.config.size} px, or use weights of another size."
            )
