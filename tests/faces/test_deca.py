"""DECA's encoder against the released numbers, its crop, and the whole path from the files that a user has."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from drig.errors import DrigError
from drig.faces.buffers import render_buffers
from drig.faces.camera import project
from drig.faces.deca import CODES, DecaEncoder, crop, face_crop
from drig.faces.estimators import load_estimator
from drig.faces.flame import FlameHead
from drig.faces.head import load_head
from drig.faces.open_head import OpenHead
from tests import parity


@pytest.fixture(scope="module")
def encoder() -> DecaEncoder:
    """Synthetic weights, those that the fixtures were computed with."""
    encoder = DecaEncoder()
    parity.fill(encoder)
    return encoder


def deca_folder(encoder: DecaEncoder, flame_folder: Path, folder: Path, *, new: bool) -> Path:
    """The FLAME files and a deca_model.tar with these weights, in one of PyTorch's two formats."""
    shutil.copytree(flame_folder, folder, copy_function=lambda source, target: Path(target).symlink_to(source))
    content = {"E_flame": encoder.state_dict(), "E_detail": {"x": torch.ones(3)}, "D_detail": {"x": torch.ones(3)}}
    torch.save(content, folder / "deca_model.tar", _use_new_zipfile_serialization=new)
    return folder


def test_keys_and_shapes_are_decas(shared: Path, encoder: DecaEncoder) -> None:
    theirs = json.loads((shared / "parity" / "deca_E_flame_keys.json").read_text())
    assert {name: list(value.shape) for name, value in encoder.state_dict().items()} == theirs


@torch.no_grad()
def test_codes_are_the_released_ones(shared: Path, encoder: DecaEncoder) -> None:
    expected = parity.load(shared / "parity" / "deca_encoder.npz")
    (name,) = expected
    assert parity.relative_error(encoder(parity.rand("deca:image", 2, 3, 224, 224)), expected[name]) < 1e-4


def landmarks(size: int) -> torch.Tensor:
    """Two sets in NDC; in pixels of the first: x from 20 to 60, y from 30 to 90 of 128."""
    pixels = torch.rand(2, 68, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([40.0, 60.0])
    pixels[:, 0], pixels[:, 1] = torch.tensor([0.0, 0.0]), torch.tensor([40.0, 60.0])
    pixels += torch.tensor([[[20.0, 30.0]], [[90.0, 5.0]]])
    return (2 * pixels + 1) / size - 1


def test_the_crop_is_a_square_about_the_landmarks() -> None:
    place = face_crop(landmarks(128), 128)
    side = int(1.25 * 1.1 * (40 + 60) / 2)
    corners = place @ torch.tensor([[0.0, 0.0, 1.0], [223.0, 223.0, 1.0]]).T
    assert corners[0, :2].T.flatten().tolist() == pytest.approx(
        [40 - side / 2, 60 - side / 2, 40 + side / 2, 60 + side / 2], abs=1e-3
    )


def test_cropping_is_bilinear_and_zero_outside() -> None:
    size = 128
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    place = face_crop(landmarks(size), size)
    ours = crop(images, place).numpy()
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (size, size), (size, size)))
    for n in range(2):
        x, y = (place[n, i, 2].item() + place[n, 0, 0].item() * np.arange(224) + size for i in range(2))
        x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
        rows = padded[n][:, y0] * (1 - (y - y0))[:, None] + padded[n][:, y0 + 1] * (y - y0)[:, None]
        expected = rows[:, :, x0] * (1 - (x - x0)) + rows[:, :, x0 + 1] * (x - x0)
        np.testing.assert_allclose(ours[n], expected, atol=2e-4)
    assert not ours[1, :, :, -1].any(), "the second face hangs over the image's right edge"


@pytest.mark.parametrize("new", [True, False])
def test_from_a_users_files_to_buffers(new: bool, encoder: DecaEncoder, flame_folder: Path, tmp_path: Path) -> None:
    head = load_head("flame", deca_folder(encoder, flame_folder, tmp_path / "files", new=new))
    estimator = load_estimator("deca", head)
    portraits, points = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(2)), landmarks(128)
    codes = estimator.fit(portraits, points)
    place = face_crop(points, 128)
    with torch.no_grad():
        numbers = encoder(crop(portraits, place))
    starts = dict(zip(CODES, np.cumsum([0, *CODES.values()]), strict=False))
    for name, count in CODES.items():
        expected = numbers[:, starts[name] : starts[name] + count].reshape(getattr(codes, name).shape)
        torch.testing.assert_close(getattr(codes, name), expected)
    assert codes.light[0, 0].tolist() == numbers[0, starts["light"] : starts["light"] + 3].tolist(), "RGB of SH index 0"
    alone = estimator.fit(portraits[1:], points[1:])
    torch.testing.assert_close(alone.shape, codes.shape[1:], atol=1e-4, rtol=1e-4)
    # Camera NDC -1 is the crop's pixel 0: what the camera sees there lies at the crop's corner in the photo.
    looking = codes.replace(cam=torch.tensor([[1.0, 0.0, 0.0]]).repeat(2, 1))
    corner = project(torch.tensor([[[-1.0, 1.0, 0.0]]]).repeat(2, 1, 1), looking)[:, 0, :2]
    torch.testing.assert_close((corner + 1) * 64, place[:, :2, 2], atol=1e-3, rtol=0)
    buffers = render_buffers(head, looking.replace(cam=torch.tensor([[8.0, 0.0, 0.0]]).repeat(2, 1)), 64)
    assert buffers.alpha.any()
    assert torch.isfinite(buffers.stacked()).all()


def test_missing_and_wrong_weights_say_what_to_do(encoder: DecaEncoder, flame_folder: Path, tmp_path: Path) -> None:
    folder = deca_folder(encoder, flame_folder, tmp_path / "files", new=True)
    head = load_head("flame", folder)
    torch.save({"state_dict": {}}, folder / "deca_model.tar")
    with pytest.raises(DrigError, match="has no entry E_flame"):
        load_estimator("deca", head)
    torch.save({"E_flame": {"encoder.conv1.weight": torch.ones(3)}}, folder / "deca_model.tar")
    with pytest.raises(DrigError, match=r"entry E_flame holds other weights than DecaEncoder's \(322 differ"):
        load_estimator("deca", head)
    (folder / "deca_model.tar").unlink()
    with pytest.raises(DrigError, match=r"needs deca_model\.tar in .*which has none.*github\.com"):
        load_estimator("deca", head)


def test_estimators_and_heads_belong_together(flame: FlameHead) -> None:
    with pytest.raises(DrigError, match="--head flame"):
        load_estimator("deca", OpenHead.load())
    with pytest.raises(DrigError, match="--head open"):
        load_estimator("fit", flame)
