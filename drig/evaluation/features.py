"""A learned distance between portraits of faces, for what PSNR and SSIM do not see: blur, noise, a face gone wrong.

Built as LPIPS is (Zhang et al. 2018): the features of a trained network at several depths, each brought to unit length,
and their mean squared difference. The network is the one that the `fit` estimator ships, trained on faces: the networks
that LPIPS itself uses come in no package. So its values compare with each other alone, not with published LPIPS.
"""

import torch
from torch import Tensor
from torch.nn import functional

from drig.faces.regressor import Regressor, crop

_SMALLEST = 1e-10


class FaceFeatures:
    """Opens its network at once, on the CPU."""

    def __init__(self) -> None:
        self.trunk = Regressor.load().trunk

    @torch.no_grad()
    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Portraits (N, 3, S, S) in [0, 1], FFHQ crops -> (N,), 0 where they are equal; symmetric."""
        total = torch.zeros(len(a))
        for one, other in zip(self._levels(a), self._levels(b), strict=True):
            total += (one - other).square().sum(1).mean((1, 2))
        return total

    def _levels(self, portraits: Tensor) -> list[Tensor]:
        """Unit vectors (N, C, H, W) at each depth."""
        trunk = self.trunk
        found = [functional.relu(trunk.bn1(trunk.conv1(crop(portraits))))]
        h = functional.max_pool2d(found[0], 3, stride=2, padding=1)
        for level in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4):
            h = level(h)
            found.append(h)
        return [f * (f.square().sum(1, keepdim=True) + _SMALLEST).rsqrt() for f in found]
