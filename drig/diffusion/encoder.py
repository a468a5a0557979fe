"""The global encoder: a photo to the code that carries what the buffers lack (SPEC 2).

A ResNet of basic blocks (He et al. 2016, "Deep Residual Learning for Image Recognition") with the state-dict keys of
torchvision's, which are those of the released models. It is written out because importing torchvision takes longer
than everything else that a worker process does before its first step, and for the narrow one of small rigs.

Shapes: N batch, C channels, H W pixels, Z code size.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a skip; the first may halve the resolution."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C_out, H / stride, W / stride)."""
        h = F.relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        return F.relu(h + self.downsample(x))


class PhotoEncoder(nn.Module):
    """Photo -> code. `blocks` at its four resolutions, `width` channels at the first, doubling; (2, 2, 2, 2) and 64 are
    ResNet-18, the released models' encoder.

    It takes the photo as the rig sees it, without ImageNet normalisation.
    """

    def __init__(self, blocks: Sequence[int], width: int, code_size: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _level(width, width, blocks[0], stride=1)
        self.layer2 = _level(width, 2 * width, blocks[1], stride=2)
        self.layer3 = _level(2 * width, 4 * width, blocks[2], stride=2)
        self.layer4 = _level(4 * width, 8 * width, blocks[3], stride=2)
        self.fc = nn.Linear(8 * width, code_size)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, photo: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] -> (N, Z)."""
        h = F.max_pool2d(F.relu(self.bn1(self.conv1(photo))), 3, stride=2, padding=1)  # (N, C, H/4, W/4)
        h = self.layer4(self.layer3(self.layer2(self.layer1(h))))  # (N, 8 C, H/32, W/32)
        code: Tensor = self.fc(h.mean(dim=(2, 3)))
        return code


def _level(channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    """The blocks of one resolution."""
    rest = (BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1))
    return nn.Sequential(BasicBlock(channels, out_channels, stride), *rest)
