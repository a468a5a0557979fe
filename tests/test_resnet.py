"""The residual networks are torchvision's: their keys, weights and outputs."""

import pytest
import torch
from torchvision.models import resnet

from drig.resnet import BasicBlock, Bottleneck, ResNet


@pytest.mark.parametrize(
    ("name", "block", "blocks"), [("resnet18", BasicBlock, (2, 2, 2, 2)), ("resnet50", Bottleneck, (3, 4, 6, 3))]
)
def test_it_is_torchvisions(name: str, block: type[BasicBlock] | type[Bottleneck], blocks: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    theirs, ours = getattr(resnet, name)().eval(), ResNet(block, blocks, 64).eval()
    theirs.fc = torch.nn.Identity()
    ours.load_state_dict(theirs.state_dict())  # strict: the same names and shapes
    photo = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(ours(photo), theirs(photo))
