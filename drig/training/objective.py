"""What is minimised: the weighted error of the predicted noise, as one module so that DDP can wrap it.

N batch, H W pixels, Z code size.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from drig.data.items import unpacked
from drig.diffusion.correction import covered
from drig.diffusion.deltas import Delta
from drig.diffusion.loss import p2_loss
from drig.diffusion.network import Rig
from drig.diffusion.schedule import Schedule


class Objective(nn.Module):
    """Photo -> code; noised photo, buffers, code -> predicted noise -> p2 loss of each sample (SPEC 3).

    With `train_encoder` False the encoder is frozen: no gradient, and eval mode whatever mode the rest is put in, so
    that BatchNorm keeps the statistics of stage 1. With a `delta`, to be attached to the rig by whoever trains it,
    until after the backward pass, all of the rig is frozen.
    """

    def __init__(
        self,
        rig: Rig,
        *,
        train_encoder: bool,
        autocast: torch.dtype | None,
        p2_k: float = 1.0,
        background_weight: float = 1.0,
        delta: Delta | None = None,
    ) -> None:
        super().__init__()
        self.rig = rig
        self.delta = delta
        self.schedule = Schedule(device=next(rig.parameters()).device)
        self.train_encoder = train_encoder
        self.autocast = autocast
        self.p2_k = p2_k
        self.background_weight = background_weight
        rig.requires_grad_(delta is None)
        rig.encoder.requires_grad_(train_encoder)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if not self.train_encoder:
            self.rig.encoder.eval()
        return self

    def forward(
        self,
        image: Tensor,
        buffers: Tensor,
        noise: Tensor,
        timestep: Tensor,
        code: Tensor | None = None,
        borrowed: Tensor | None = None,
    ) -> Tensor:
        """image, noise (N, 3, H, W), buffers (N, 9, H, W), timestep (N,) -> losses (N,) float32.

        `code` (N, Z): the photos' codes where they are known, otherwise the encoder runs on the clean photos.
        `borrowed` (N,) bool: which codes are another photo's, that tells nothing of what is beside this one's head.
        """
        x_t = self.schedule.q_sample(image, timestep, noise)  # (N, 3, H, W)
        if code is None:
            code = self.encode(image)
        with self._autocast(image):
            predicted = self.rig.denoise(x_t, timestep, buffers, code)  # (N, 3, H, W)
        pixels = self._pixels(buffers, borrowed)
        return p2_loss(self.schedule, noise, predicted, timestep, k=self.p2_k, pixels=pixels)

    def _pixels(self, buffers: Tensor, borrowed: Tensor | None) -> Tensor | None:
        """(N, 1, H, W) weights of the pixels; None = all alike."""
        if borrowed is None and self.background_weight == 1:
            return None
        beside = torch.full_like(buffers[:, :1, :1, :1], self.background_weight)  # (N, 1, 1, 1)
        if borrowed is not None:
            beside = beside.masked_fill(borrowed[:, None, None, None], 0)
        return beside + (1 - beside) * covered(buffers)

    def encode(self, image: Tensor) -> Tensor:
        """image (N, 3, H, W) -> codes (N, Z)."""
        with self._autocast(image):
            return self.rig.encode(image)

    def _autocast(self, image: Tensor) -> torch.autocast:
        return torch.autocast(image.device.type, self.autocast, enabled=self.autocast is not None)


@torch.no_grad()
def frozen_codes(rig: Rig, dataset: Dataset[dict[str, Tensor]], batch: int) -> Tensor:
    """The codes of every photo of the dataset, in its order, the encoder in eval mode: (len(dataset), Z) float32."""
    device = next(rig.parameters()).device
    rig.encoder.eval()
    batches = ({name: tensor.to(device) for name, tensor in items.items()} for items in DataLoader(dataset, batch))
    return torch.cat([rig.encode(unpacked(items)["image"]) for items in batches])
