"""Residual networks (He et al. 2016, "Deep Residual Learning for Image Recognition").

Their state-dict keys are torchvision's, and so those of the released rig's encoder and of DECA's.

Written out because importing torchvision takes longer than everything else that a worker process does before its first
step, and for the narrow networks of small rigs.

Shapes: N batch, C channels, H W pixels.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a skip; the first may halve the resolution."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _skip(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, width, H / stride, W / stride)."""
        h = F.relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        return F.relu(h + self.downsample(x))


class Bottleneck(nn.Module):
    """A 3 x 3 convolution, which may halve the resolution, between two 1 x 1 ones, with a skip."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _skip(channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 4 width, H / stride, W / stride)."""
        h = F.relu(self.bn1(self.conv1(x)))
        h = F.relu(self.bn2(self.conv2(h)))
        h = self.bn3(self.conv3(h))
        return F.relu(h + self.downsample(x))


class ResNet(nn.Module):
    """Stem and four levels of `blocks` blocks, `width` channels at the first, doubling; no classifier.

    BasicBlock, (2, 2, 2, 2) and 64 are ResNet-18; Bottleneck, (3, 4, 6, 3) and 64 are ResNet-50.
    """

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], blocks: Sequence[int], width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.channels = width
        self.layer1 = self._level(block, width, blocks[0], stride=1)
        self.layer2 = self._level(block, 2 * width, blocks[1], stride=2)
        self.layer3 = self._level(block, 4 * width, blocks[2], stride=2)
        self.layer4 = self._level(block, 8 * width, blocks[3], stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, photo: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, channels, H / 32, W / 32)."""
        h = F.max_pool2d(F.relu(self.bn1(self.conv1(photo))), 3, stride=2, padding=1)  # (N, width, H/4, W/4)
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(h))))
        return features

    def forward(self, photo: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, channels), the mean over the pixels."""
        return self.features(photo).mean(dim=(2, 3))

    def _level(self, block: type[BasicBlock] | type[Bottleneck], width: int, count: int, stride: int) -> nn.Sequential:
        """The blocks of one resolution."""
        level = []
        for i in range(count):
            level.append(block(self.channels, width, stride if i == 0 else 1))
            self.channels = width * block.expansion
        return nn.Sequential(*level)


def _skip(channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
