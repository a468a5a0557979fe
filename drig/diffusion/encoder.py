"""The global encoder: a photo to the code that carries what the buffers lack (SPEC 2)."""

from torchvision.models.resnet import BasicBlock, ResNet


def photo_encoder(code_size: int) -> ResNet:
    """torchvision's ResNet-18 with random weights, its classifier replaced by Linear(512, code_size).

    It takes the photo as the rig sees it, (N, 3, H, W) in [-1, 1], without ImageNet normalisation.
    """
    return ResNet(BasicBlock, [2, 2, 2, 2], num_classes=code_size)
