"""The photo encoder is ResNet-18: torchvision's, its weights and its output."""

import torch
from torchvision.models.resnet import BasicBlock, ResNet

from drig.diffusion.encoder import PhotoEncoder


def test_it_is_torchvisions_resnet() -> None:
    torch.manual_seed(0)
    theirs, ours = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=64), PhotoEncoder((2, 2, 2, 2), 64, 64)
    ours.load_state_dict(theirs.state_dict())  # strict: the same names and shapes
    photo = torch.rand(2, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(ours(photo), theirs(photo))
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(photo), theirs(photo))


def test_a_fresh_one_starts_as_torchvisions() -> None:
    """The same distribution of weights, layer by layer."""
    torch.manual_seed(0)
    theirs, ours = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=64), PhotoEncoder((1, 1, 1, 1), 64, 64)
    for (name, a), b in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        # A bias has 64 numbers: their spread is known to 6%.
        torch.testing.assert_close(a.std(correction=0), b.std(correction=0), rtol=0.2, atol=1e-3, msg=name)


def test_a_narrow_one_has_fewer_channels_at_every_level() -> None:
    narrow = PhotoEncoder((1, 1, 1, 1), 32, 64)
    widths = [narrow.state_dict()[f"layer{level}.0.conv1.weight"].shape[0] for level in (1, 2, 3, 4)]
    assert widths == [32, 64, 128, 256]
    assert narrow(torch.zeros(2, 3, 64, 64)).shape == (2, 64)
