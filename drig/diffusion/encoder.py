"""The global encoder: a photo to the code that carries what the buffers lack (SPEC 2)."""

from collections.abc import Sequence

from torchvision.models.resnet import BasicBlock, ResNet


def photo_encoder(blocks: Sequence[int], code_size: int) -> ResNet:
    """torchvision's ResNet with random weights, `blocks` at its four resolutions, Linear(512, code_size) at the end.

    (2, 2, 2, 2) is ResNet-18, the released models' encoder. It takes the photo as the rig sees it, (N, 3, H, W) in
    [-1, 1], without ImageNet normalisation.
    """
    return ResNet(BasicBlock, list(blocks), num_classes=code_size)
