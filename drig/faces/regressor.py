"""A small network that reads the open head's codes off an FFHQ crop: where the `fit` estimator starts from.

It was trained on synthetic portraits alone (`drig.training.regressor`). Landmarks make its guesses better, but it can
do without, because an FFHQ crop always shows the face in the same place. How far the guesses are off on people it has
not seen is part of its file, so that the fit knows what to make of them.

Legend: N batch, S shape codes, E expression codes, K albedo codes, D = 6 + S + E + 27 + K numbers.
"""

import json
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Self

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from drig.faces.codes import FaceCodes
from drig.resnet import BasicBlock, ResNet

PORTRAIT, LEFT, TOP, SIDE = 160, 16, 32, 128
"""The network looks at a square of SIDE pixels of a portrait of PORTRAIT pixels: without most of the background."""
BLOCKS, WIDTH = (2, 2, 2, 2), 32
POINT_SPREAD = 0.1
"""Typical distance of a landmark from its mean, in NDC."""
ASSET = "assets/regressor.safetensors"


@dataclass(frozen=True)
class Sizes:
    """How many codes the head has."""

    shape: int
    exp: int
    tex: int

    @property
    def parts(self) -> dict[str, int]:
        """The network's numbers in their order: rotation (axis-angle), camera (log scale, tx, ty), codes, light."""
        return {"rotation": 3, "cam": 3, "shape": self.shape, "exp": self.exp, "light": 27, "tex": self.tex}


class Regressor(nn.Module):
    """Crop and landmarks -> the numbers that `to_codes` turns into face codes."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        numbers = sum(sizes.parts.values())
        self.trunk = ResNet(BasicBlock, BLOCKS, WIDTH)
        self.squeeze = nn.Conv2d(self.trunk.channels, 64, 1)
        self.picture = nn.Linear(64 * (SIDE // 32) ** 2, 256)
        self.points = nn.Sequential(nn.Linear(2 * 68 + 1, 256), nn.ReLU(), nn.Linear(256, 256))
        self.hidden = nn.Linear(512, 512)
        self.out = nn.Linear(512, numbers)
        # What the training's portraits have on average, and how far they spread.
        self.mean = nn.Buffer(torch.zeros(numbers))
        self.spread = nn.Buffer(torch.ones(numbers))
        self.mean_points = nn.Buffer(torch.zeros(68, 2))
        # How sure the guesses are, of people that the training did not see.
        geometry = 6 + sizes.shape + sizes.exp
        self.geometry_precision = nn.Buffer(torch.eye(geometry))
        """Of the step from the guess to the truth, as `fit_geometry` takes steps."""
        self.light_precision = nn.Buffer(torch.eye(27 + sizes.tex))
        """Of light (channel-major, in units of its level) and texture."""

    def forward(self, crop: Tensor, landmarks: Tensor) -> Tensor:
        """(N, 3, SIDE, SIDE) in [-1, 1] and (N, 68, 2) in image NDC, NaN where they are not known -> (N, D)."""
        h = functional.relu(self.squeeze(self.trunk.features(crop)))  # (N, 64, 4, 4): where things are matters
        picture = self.picture(h.flatten(1))
        known = ~landmarks.isnan().any(2).any(1, keepdim=True)  # (N, 1)
        points = ((landmarks - self.mean_points) / POINT_SPREAD).flatten(1)
        points = self.points(torch.cat([points.where(known, 0), known.to(points)], 1))
        h = functional.relu(self.hidden(functional.relu(torch.cat([picture, points], 1))))
        numbers: Tensor = self.mean + self.spread * self.out(h)
        return numbers

    @torch.no_grad()
    def guess(self, portraits: Tensor, landmarks: Tensor | None = None) -> FaceCodes:
        """FFHQ crops (N, 3, H, W) in [0, 1], landmarks (N, 68, 2) in image NDC or none -> N faces."""
        if landmarks is None:
            landmarks = portraits.new_full((len(portraits), 68, 2), torch.nan)
        return to_codes(self(crop(portraits), landmarks), self.sizes)

    @classmethod
    def load(cls) -> Self:
        """Reads the shipped file, on the CPU."""
        with as_file(files("drig.faces") / ASSET) as path, safe_open(path, "pt") as file:
            model = cls(Sizes(**json.loads(file.metadata()["sizes"])))
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        model.load_state_dict(tensors)
        model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def save(self, path: Path) -> None:
        """Writes what `load` reads, the weights in half precision."""
        tensors = {name: _stored(name, value) for name, value in self.state_dict().items()}
        save_file(tensors, path, {"sizes": json.dumps(vars(self.sizes))})


def _stored(name: str, value: Tensor) -> Tensor:
    return value.half().contiguous() if value.ndim == 4 or name.endswith("weight") else value.contiguous()


def crop(portraits: Tensor) -> Tensor:
    """Portraits (N, 3, H, W) in [0, 1] -> what the network sees of them, (N, 3, SIDE, SIDE) in [-1, 1]."""
    if portraits.shape[-1] != PORTRAIT:
        portraits = functional.interpolate(portraits, (PORTRAIT, PORTRAIT), mode="bilinear", antialias=True)
    return portraits[:, :, TOP : TOP + SIDE, LEFT : LEFT + SIDE] * 2 - 1


def to_numbers(codes: FaceCodes) -> Tensor:
    """(N, D): the inverse of `to_codes`."""
    cam = torch.cat([codes.cam[:, :1].log(), codes.cam[:, 1:]], 1)
    return torch.cat([codes.pose[:, :3], cam, codes.shape, codes.exp, codes.light.mT.flatten(1), codes.tex], 1)


def to_codes(numbers: Tensor, sizes: Sizes) -> FaceCodes:
    """(N, D) -> face codes; facial actions are clipped to [0, 1]."""
    rotation, cam, shape, exp, light, tex = torch.split(numbers, list(sizes.parts.values()), 1)
    return FaceCodes(
        shape=shape,
        tex=tex,
        exp=exp.clamp(0, 1),
        pose=torch.cat([rotation, torch.zeros_like(rotation)], 1),
        cam=torch.cat([cam[:, :1].exp(), cam[:, 1:]], 1),
        light=light.unflatten(1, (3, 9)).mT.contiguous(),
        crop=torch.eye(2, 3).to(numbers).repeat(len(numbers), 1, 1),
    )
