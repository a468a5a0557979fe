"""Denoising a portrait both ways round, as it is and as its mirror image, and taking the mean.

The mirror image of a face is a face, and what a rig that has learnt both (`drig.data.mirroring`) makes of one should be
the mirror image of what it makes of the other. It nearly is; the mean of the two is nearer to the truth than either
(docs/diffusion.md, "Both ways round").

Shapes: N batch, H W pixels, Z width of the global code.
"""

import torch
from torch import Tensor

from drig.data.mirroring import mirror_image
from drig.diffusion.network import Rig

MIRRORED = "mirrored"
"""What weights' metadata say of rigs that learnt from mirror images, too: their edits are sampled both ways round."""


class BothWays:
    """A rig made symmetric: for mirrored pictures and buffers it gives the mirrored noise, exactly.

    A batch of N is one of 2 N for the rig: the mirror images come after the pictures.
    """

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    def encode(self, photo: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] -> (N, 2 Z): the codes of photos, and beside them those of their mirror images."""
        return torch.cat(self.rig.encode(torch.cat([photo, photo.flip(-1)])).chunk(2), dim=1)

    def denoise(self, x_t: Tensor, t: Tensor, buffers: Tensor, code: Tensor) -> Tensor:
        """The noise in x_t (N, 3, H, W) at t (N,), given buffers (N, 9, H, W) and what `encode` gave (N, 2 Z)."""
        seen = {"image": x_t, "buffers": buffers}
        mirrored = mirror_image(seen)
        both = {name: torch.cat([seen[name], mirrored[name]]) for name in seen}
        codes = torch.cat(code.chunk(2, dim=1))
        noise, of_mirrored = self.rig.denoise(both["image"], t.repeat(2), both["buffers"], codes).chunk(2)
        return (noise + of_mirrored.flip(-1)) / 2
