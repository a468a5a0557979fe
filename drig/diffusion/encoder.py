"""The global encoder: a photo to the code that carries what the buffers lack (SPEC 2).

Shapes: N batch, H W pixels, Z code size.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from drig.resnet import BasicBlock, ResNet


class PhotoEncoder(ResNet):
    """Photo -> code. `blocks` (2, 2, 2, 2) and `width` 64 make it ResNet-18, the released models' encoder.

    It takes the photo as the rig sees it, without ImageNet normalisation.
    """

    def __init__(self, blocks: Sequence[int], width: int, code_size: int) -> None:
        super().__init__(BasicBlock, blocks, width)
        self.fc = nn.Linear(self.channels, code_size)

    def forward(self, photo: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] -> (N, Z)."""
        code: Tensor = self.fc(super().forward(photo))
        return code
