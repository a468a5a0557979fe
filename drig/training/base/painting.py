"""Painted faces: photos of people whose skin is known, with the same random paint on the photo and on its buffers.

Synthetic faces are much alike, and a rig that has seen no others redraws a real one as one of them: it sees glasses
where there is make-up. Of paint it can know nothing but what the buffers show, and so learns to keep that.

Legend: K photos, S side in pixels.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from drig.data.items import Item
from drig.data.resident import ResidentDataset
from drig.randomness import torch_generator

STRENGTH = 0.6
"""Of the paint."""
MOTTLED = ((3, 0.45), (6, 0.35), (12, 0.25), (24, 0.18), (48, 0.1))
"""Cells along the side, and how strong at most is what changes from cell to cell, as a logarithm, per STRENGTH."""
PATCHES, PATCHY = 3, 0.6
"""Layers of patches with clear edges, and the share of photos that have each."""
DARKEST, BRIGHTEST = -1.5, 1.0
"""Of the paint, as a logarithm."""
SHIFT, SKEW = 0.6, 0.02
"""By how many pixels, and how far from straight, buffers have it elsewhere: photos are not read exactly."""


class PaintedDataset(ResidentDataset):
    """A resident data set of packed faces whose batches are painted in part.

    known: of each item whether its buffers show the skin's detail. share: of these that are painted. What is painted
    how depends on the seed and on what else is in the batch.
    """

    def __init__(
        self,
        items: Dataset[Item],
        device: torch.device | str,
        known: Sequence[bool],
        *,
        share: float,
        seed: int,
        mirror: bool = False,
        on_item: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(items, device, mirror=mirror, on_item=on_item)
        self.known = torch.tensor(known, device=self.device)
        self.share, self.seed = share, seed

    def batch(self, indices: Tensor) -> Item:
        """The items at indices (N,) as a batch on the device."""
        batch = super().batch(indices)
        rng = torch_generator(self.seed, "paint", *indices.tolist(), device=self.device)
        chosen = torch.rand(len(indices), generator=rng, device=self.device) < self.share
        chosen &= self.known[indices.to(self.device) % self.count]
        painted = chosen.nonzero()[:, 0]
        return paint(batch, painted, rng) if len(painted) else batch


def paint(batch: Item, which: Tensor, rng: torch.Generator) -> Item:
    """The packed batch, of which the items `which` (K,) are painted."""
    image, albedo = batch["image"].clone(), batch["albedo"].clone()
    colour = _paint(len(which), image.shape[-1], rng)
    head = batch["normal"][which].any(1, keepdim=True)  # (K, 1, S, S)
    image[which] = _multiplied(image[which], (colour * head).exp())
    albedo[which] = _multiplied(albedo[which], _displaced(colour, rng).exp())
    return {**batch, "image": image, "albedo": albedo}


def _paint(count: int, size: int, rng: torch.Generator) -> Tensor:
    """(K, 3, S, S) logarithm of what colours are multiplied with."""
    total = torch.zeros(count, 3, size, size, device=rng.device)
    for cells, most in MOTTLED:
        strength = STRENGTH * most * _uniform(rng, count, 1) ** 2
        grey, hue = _cells(rng, count, 1, cells), _cells(rng, count, 3, cells)
        total += strength * _enlarged(grey + 0.5 * hue, size)
    for _ in range(PATCHES):
        cells = int(torch.randint(4, 16, (), generator=rng, device=rng.device))
        field = _enlarged(_cells(rng, count, 1, cells), 2 * size)
        edge = functional.avg_pool2d((6 * (field - 0.8 - _uniform(rng, count, 1))).sigmoid(), 2)
        colour = STRENGTH * (0.7 * _cells(rng, count, 1, 1) + 0.25 * _cells(rng, count, 3, 1))
        total += edge * colour * (_uniform(rng, count, 1) < PATCHY)
    return total.clamp(DARKEST, BRIGHTEST)


def _displaced(colour: Tensor, rng: torch.Generator) -> Tensor:
    """The paint as buffers have it."""
    count, size = len(colour), colour.shape[-1]
    pixel = SHIFT * 2 / size
    affine = torch.eye(2, 3, device=rng.device).repeat(count, 1, 1)
    affine[:, :, :2] += SKEW * _cells(rng, count, 1, 2)[:, 0]
    affine[:, :, 2] = pixel * _cells(rng, count, 2, 1)[..., 0, 0]
    wave = pixel * _enlarged(_cells(rng, count, 2, 4), size).permute(0, 2, 3, 1)  # (K, S, S, 2)
    grid = functional.affine_grid(affine, list(colour.shape), align_corners=False) + wave
    return functional.grid_sample(colour, grid, padding_mode="border", align_corners=False)


def _multiplied(stored: Tensor, factor: Tensor) -> Tensor:
    return (stored * factor).round().clamp(0, 255).to(torch.uint8)


def _cells(rng: torch.Generator, count: int, channels: int, cells: int) -> Tensor:
    """(K, channels, cells, cells) standard normal."""
    return torch.randn(count, channels, cells, cells, generator=rng, device=rng.device)


def _uniform(rng: torch.Generator, count: int, channels: int) -> Tensor:
    """(K, channels, 1, 1) in [0, 1)."""
    return torch.rand(count, channels, 1, 1, generator=rng, device=rng.device)


def _enlarged(pictures: Tensor, size: int) -> Tensor:
    return functional.interpolate(pictures, (size, size), mode="bicubic", align_corners=False)
