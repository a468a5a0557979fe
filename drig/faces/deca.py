"""DECA's coarse encoder (Feng et al. 2021, "Learning an animatable detailed 3D face model") as an estimator.

Weights: entry `E_flame` of the user's `deca_model.tar`, beside the FLAME files. Its detail encoder plays no part.

The parity fixture covers the network. The crop from the landmarks and `deca_model.tar` itself have none: they follow
SPEC 4 alone.

Legend: N photos, S their side in pixels, C = 224 the crop's.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from drig.errors import DrigError
from drig.faces.alignment import canonical_landmarks
from drig.faces.camera import CROP_SIZE, crop_affine
from drig.faces.codes import FaceCodes
from drig.faces.flame import WHERE_TO_GET_THEM, FlameHead
from drig.faces.head import neutral_codes
from drig.foreign.torch_files import load_state, read_torch, tensors_in
from drig.resnet import Bottleneck, ResNet

WEIGHTS, ENTRY = "deca_model.tar", "E_flame"
CODES = {"shape": 100, "tex": 50, "exp": 50, "pose": 6, "cam": 3, "light": 27}
"""The encoder's 236 outputs, in order."""
_MARGIN = 1.25 * 1.1  # the crop's side by the landmarks' mean extent


class DecaEncoder(nn.Module):
    """Crop -> 236 codes: ResNet-50 and two linear layers; its state-dict keys are those of DECA's file."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ResNet(Bottleneck, (3, 4, 6, 3), 64)
        self.layers = nn.Sequential(
            nn.Linear(self.encoder.channels, 1024), nn.ReLU(), nn.Linear(1024, sum(CODES.values()))
        )

    def forward(self, crops: Tensor) -> Tensor:
        """(N, 3, C, C) in [0, 1], without ImageNet normalisation -> (N, 236)."""
        codes: Tensor = self.layers(self.encoder(crops))
        return codes

    @classmethod
    def load(cls, folder: Path) -> "DecaEncoder":
        """The released encoder, in eval mode on the CPU. Raises DrigError where its file is missing or another's."""
        path = folder / WEIGHTS
        if not path.is_file():
            raise DrigError(f"estimator deca needs {WEIGHTS} in {folder}, which has none. {WHERE_TO_GET_THEM}")
        content = read_torch(path)
        if not isinstance(content, dict) or ENTRY not in content:
            raise DrigError(f"{path} has no entry {ENTRY}: it is not DECA's. {WHERE_TO_GET_THEM}")
        where = f"{path}, entry {ENTRY}"
        with torch.device("meta"):  # the shapes without the cost of initial weights
            encoder = cls()
        load_state(encoder, tensors_in(content[ENTRY], where), where)
        return encoder.eval().requires_grad_(False)


class Deca:
    """Implements Estimator for the FLAME head."""

    name = "deca"

    def __init__(self, head: FlameHead) -> None:
        self.encoder = DecaEncoder.load(head.folder).to(head.faces.device)
        mean = neutral_codes(head)
        points = head.landmarks(mean, head.vertices(mean))[0, :, :2] * mean.cam.new_tensor([1, -1])
        self.canonical = torch.from_numpy(canonical_landmarks(points.double().cpu().numpy())).to(mean.cam)

    @torch.no_grad()
    def fit(self, portraits: Tensor, landmarks: Tensor | None) -> FaceCodes:
        """Portraits (N, 3, S, S) in [0, 1], landmarks (N, 68, 2) in image NDC or None: the mean face's -> N faces."""
        size = portraits.shape[-1]
        if landmarks is None:
            landmarks = self.canonical.expand(len(portraits), -1, -1)
        crop_to_image = face_crop(landmarks, size)
        found = self.encoder(crop(portraits, crop_to_image)).split(list(CODES.values()), 1)
        codes = dict(zip(CODES, found, strict=True))
        codes["light"] = codes["light"].view(-1, 9, 3)  # SH index, then RGB
        return FaceCodes(**codes, crop=crop_affine(crop_to_image, size))


def face_crop(landmarks: Tensor, size: int) -> Tensor:
    """Landmarks (N, 68, 2) in image NDC -> the crop that DECA looks at: (N, 3, 3) crop pixels -> image pixels.

    A square about the middle of the landmarks' box, of int(1.25 x 1.1 x (w + h) / 2) pixels; its corners are the
    centres of the crop's corner pixels, 0 and 223 (SPEC 4). Pixels are counted from the first one's centre.
    """
    pixels = ((landmarks + 1) * size - 1) / 2
    low, high = pixels.amin(1), pixels.amax(1)  # (N, 2)
    side = (_MARGIN * (high - low).mean(1)).trunc()  # (N,)
    crop_to_image = torch.eye(3).to(landmarks).repeat(len(landmarks), 1, 1)
    crop_to_image[:, :2, :2] *= (side / (CROP_SIZE - 1))[:, None, None]
    crop_to_image[:, :2, 2] = (low + high) / 2 - side[:, None] / 2
    return crop_to_image


def crop(images: Tensor, crop_to_image: Tensor) -> Tensor:
    """Images (N, 3, S, S) -> (N, 3, C, C), bilinear, zero outside the image."""
    axis = torch.arange(CROP_SIZE, device=images.device, dtype=images.dtype)
    scale, origin = crop_to_image[:, 0, 0], crop_to_image[:, :2, 2]
    x, y = (origin[:, i, None] + scale[:, None] * axis for i in range(2))  # (N, C) image pixels
    size = images.shape[-1]
    grid = torch.stack([x[:, None].expand(-1, CROP_SIZE, -1), y[..., None].expand(-1, -1, CROP_SIZE)], -1)
    grid = (2 * grid + 1) / size - 1  # (N, C, C, 2)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
