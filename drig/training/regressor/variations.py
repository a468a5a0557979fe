"""What cameras, framings and files do to a picture, on batches, with the codes that go with the result.

Legend: N batch, S = PORTRAIT pixels.
"""

import torch
from pytorch3d.transforms import axis_angle_to_matrix, matrix_to_axis_angle
from torch import Tensor
from torch.nn import functional

from drig.faces.codes import FaceCodes, rotate_light
from drig.faces.ibug import MIRRORED
from drig.faces.open_head import OpenHead
from drig.faces.regressor import LEFT, PORTRAIT, SIDE, TOP
from drig.training.regressor.portraits import Portraits

TURN, ZOOM, SHIFT = 0.06, 0.04, 0.03
"""Deviations of the framing: radians, logarithm, half sides of the portrait."""
EXPOSURE, WHITE_BALANCE = 0.15, 0.06
"""Deviations (logarithm) of all channels' gain and of each."""
NOISE = 0.03
"""Largest deviation of pixels' noise, of the range."""
COARSEST = 56
"""Least side in pixels of the portrait that the picture may have been enlarged from."""
HIDDEN = 0.3
"""Share of pictures in which something from another one hides a part."""
LANDMARK_NOISE = 0.004
"""Further deviation of the detector's landmarks, NDC: it was trained on real faces, and is less sure of them."""
UNMARKED = 0.25
"""Share of pictures whose landmarks the network is not told."""


class Variations:
    """Random changes that keep the truth true."""

    def __init__(self, head: OpenHead) -> None:
        names = head.expression_names
        other = {"Left": "Right", "Right": "Left"}
        self.twin = [names.index(next((n.replace(a, b) for a, b in other.items() if a in n), n)) for n in names]
        self.shape_mirror = _shape_mirror(head)
        self.light_mirror = torch.tensor([1.0, -1, 1, 1, -1, -1, 1, 1, 1])[:, None]  # of 1, x, y, z, xy, xz, yz, ..
        self.pivot, self.pivot_basis = head.template[-1], head.shape_basis[:, -1]

    def __call__(self, portraits: Portraits, generator: torch.Generator) -> Portraits:
        """Portraits (N, 3, S, S) -> crops (N, 3, SIDE, SIDE) as the network sees them, in [-1, 1], with what is true
        of them; some without landmarks."""
        n = len(portraits)

        def normal(*shape: int) -> Tensor:
            return torch.randn(n, *shape, generator=generator)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(n, *shape, generator=generator)

        portraits = _either(uniform() < 0.5, self.mirrored(portraits), portraits)
        turn, zoom, shift = TURN * normal(), (ZOOM * normal()).exp(), SHIFT * normal(2)
        portraits = self.reframed(portraits, turn, zoom, shift)
        gain = (EXPOSURE * normal(1) + WHITE_BALANCE * normal(3)).exp()  # (N, 3)
        # Mostly darker: a brighter one would be clipped where a camera would not.
        gain = torch.minimum(gain, 1 + 0.15 * uniform(1))
        crops, codes = portraits.images * gain[:, :, None, None], portraits.codes
        codes = codes.replace(light=codes.light * gain[:, None])
        crops = _hide(crops, uniform(7))
        crops = _coarsen(crops, int(torch.randint(COARSEST, 2 * PORTRAIT, (), generator=generator)))
        crops = crops + torch.randn(crops.shape, generator=generator) * (NOISE * uniform(1, 1, 1) ** 2)
        landmarks = portraits.landmarks + LANDMARK_NOISE * normal(68, 2)
        landmarks[uniform() < UNMARKED] = torch.nan
        return Portraits(crops.clamp(0, 1) * 2 - 1, landmarks, codes)

    def mirrored(self, portraits: Portraits) -> Portraits:
        """The mirrored pictures and what is true of them."""
        codes = portraits.codes
        rotation, jaw = codes.pose.split(3, 1)
        opposite = codes.pose.new_tensor([1.0, -1, -1])  # a mirror turns rotations about y and z round
        codes = codes.replace(
            shape=codes.shape @ self.shape_mirror.T,
            exp=codes.exp[:, self.twin],
            pose=torch.cat([rotation * opposite, jaw * opposite], 1),
            cam=codes.cam * codes.cam.new_tensor([1, -1, 1]),
            light=codes.light * self.light_mirror,
        )
        landmarks = portraits.landmarks[:, MIRRORED] * portraits.landmarks.new_tensor([-1, 1])
        return Portraits(portraits.images.flip(3), landmarks, codes)

    def reframed(self, portraits: Portraits, turn: Tensor, zoom: Tensor, shift: Tensor) -> Portraits:
        """Turned counter-clockwise (N,) by radians, enlarged (N,), moved (N, 2) in NDC, x right and y up; the pictures
        cropped to (N, 3, SIDE, SIDE)."""
        axis = torch.stack([torch.zeros_like(turn), torch.zeros_like(turn), turn], 1)
        roll = axis_angle_to_matrix(axis)
        flat = roll[:, :2, :2] * zoom[:, None, None]
        down = turn.new_tensor([1, -1])  # images have y down
        landmarks = ((portraits.landmarks * down) @ flat.mT + shift[:, None]) * down
        codes = portraits.codes
        rotation = matrix_to_axis_angle(roll @ axis_angle_to_matrix(codes.pose[:, :3]))
        pivot = (self.pivot + codes.shape @ self.pivot_basis)[:, :2]
        scale = codes.cam[:, :1] * zoom[:, None]
        place = (roll[:, :2, :2] @ (pivot + codes.cam[:, 1:])[..., None])[..., 0] + shift / scale
        pose, cam = torch.cat([rotation, codes.pose[:, 3:]], 1), torch.cat([scale, place - pivot], 1)
        codes = rotate_light(codes.replace(pose=pose, cam=cam), roll)
        return Portraits(_cut(portraits.images, flat, shift), landmarks, codes)


def _either(mask: Tensor, a: Portraits, b: Portraits) -> Portraits:
    """Those of a where mask (N,) holds, of b elsewhere."""

    def pick(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(mask.view(-1, *[1] * (x.ndim - 1)), x, y)

    codes = {name: pick(value, getattr(b.codes, name)) for name, value in a.codes.as_dict().items()}
    return Portraits(pick(a.images, b.images), pick(a.landmarks, b.landmarks), FaceCodes.from_dict(codes))


def _cut(images: Tensor, flat: Tensor, shift: Tensor) -> Tensor:
    """(N, 3, S, S) moved by p -> flat p + shift, NDC with y up, and cropped: (N, 3, SIDE, SIDE)."""
    step = (torch.arange(SIDE) + 0.5) * 2 / PORTRAIT - 1
    y, x = torch.meshgrid(step + TOP * 2 / PORTRAIT, step + LEFT * 2 / PORTRAIT, indexing="ij")
    place = torch.stack([x, -y], -1) - shift[:, None, None]  # (N, SIDE, SIDE, 2)
    source = (place.flatten(1, 2) @ torch.linalg.inv(flat).mT).view_as(place)
    grid = source * source.new_tensor([1, -1])
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _shape_mirror(head: OpenHead) -> Tensor:
    """(S, S) shape codes -> those of the mirrored head."""
    template, flip = head.template[:-1], head.template.new_tensor([-1, 1, 1])
    twin = torch.cdist(template * flip, template).argmin(1)
    basis = head.shape_basis[:, :-1]
    mirrored = (basis[:, twin] * flip).flatten(1)
    mirror: Tensor = torch.linalg.lstsq(basis.flatten(1).T, mirrored.T).solution
    return mirror


def _hide(crops: Tensor, numbers: Tensor) -> Tensor:
    """Ellipses and boxes filled with what is in another picture: hands, hair, cups."""
    n, side = len(crops), crops.shape[-1]
    axis = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    cx, cy, rx, ry, power, chance, other = numbers.unbind(1)
    u = ((x - (2.4 * cx - 1.2)[:, None, None]) / (0.08 + 0.5 * rx**2)[:, None, None]).abs()
    v = ((y - (2.4 * cy - 1.2)[:, None, None]) / (0.08 + 0.5 * ry**2)[:, None, None]).abs()
    exponent = torch.where(power < 0.5, 2.0, 8.0)[:, None, None]
    hidden = (u**exponent + v**exponent < 1) & (chance < HIDDEN)[:, None, None]
    source = crops[(torch.arange(n) + 1 + (other * (n - 1)).long()) % n].roll(side // 3, 2)
    return torch.where(hidden[:, None], source, crops)


def _coarsen(crops: Tensor, portrait: int) -> Tensor:
    """As enlarged from a portrait of so many pixels; more than there are leaves them alone."""
    if portrait >= PORTRAIT:
        return crops
    side = max(1, round(SIDE * portrait / PORTRAIT))
    small = functional.interpolate(crops, (side, side), mode="bilinear", antialias=True)
    return functional.interpolate(small, (SIDE, SIDE), mode="bilinear")
