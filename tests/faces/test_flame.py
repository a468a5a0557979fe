"""FLAME from a user's files: the released numbers, what the fixtures do not cover, and what is said of wrong files."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch3d.transforms import axis_angle_to_matrix

from drig.errors import DrigError
from drig.faces.codes import FaceCodes
from drig.faces.flame import FOLDER_VARIABLE, FlameHead, _contour_row
from drig.faces.head import load_head, neutral_codes
from tests import parity
from tests.flame_files import texels, write_flame_folder

Stored = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def stored(shared: Path) -> Stored:
    return parity.load(shared / "parity" / "flame_buffers.npz")


@pytest.fixture(scope="module")
def codes(stored: Stored) -> FaceCodes:
    given = {name: stored[name] for name in ("shape", "exp", "pose", "cam", "light")}
    return FaceCodes(**given, tex=torch.zeros(3, 50), crop=torch.eye(2, 3).repeat(3, 1, 1))


@pytest.mark.parametrize("model", ["flame_generic_model.pkl", "flame_generic_model_chumpy.pkl"])
def test_vertices_and_landmarks_are_the_released_ones(
    model: str, shared: Path, stored: Stored, codes: FaceCodes, tmp_path: Path
) -> None:
    head = load_head("flame", write_flame_folder(shared, tmp_path, model))
    vertices = head.vertices(codes)
    torch.testing.assert_close(vertices, stored["verts"], atol=1e-6, rtol=0)
    torch.testing.assert_close(head.landmarks(codes, vertices), stored["landmarks2d"], atol=1e-6, rtol=0)


def test_plain_and_chumpy_files_give_the_same_head(flame: FlameHead, shared: Path, tmp_path: Path) -> None:
    chumpy = FlameHead.load(write_flame_folder(shared, tmp_path, "flame_generic_model_chumpy.pkl"))
    for field in dataclasses.fields(FlameHead):
        ours, theirs = getattr(flame, field.name), getattr(chumpy, field.name)
        if isinstance(ours, torch.Tensor):
            torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=0)
    assert flame.parents == chumpy.parents


def test_sizes_are_decas(flame: FlameHead) -> None:
    assert (flame.shape_size, flame.tex_size, flame.exp_size, flame.name) == (100, 50, 50, "flame")
    assert flame.albedo(neutral_codes(flame, 2)).shape == (2, 3, 256, 256)
    assert flame.uv_faces.shape == flame.faces.shape


def test_albedo_is_every_second_texel_in_rgb(flame: FlameHead) -> None:
    mean, basis = texels()
    codes = neutral_codes(flame, 2)
    codes.tex[1, 49] = 2.0
    plain, changed = flame.albedo(codes)
    torch.testing.assert_close(plain[:, 3, 5], torch.tensor(mean[6, 10, ::-1] / 255).float())
    expected = mean[6, 10].astype(float) + 2.0 * basis[6, 10, :, 49]
    torch.testing.assert_close(changed[:, 3, 5], torch.tensor(expected[::-1] / 255).float())


def test_gradients_reach_every_code(flame: FlameHead) -> None:
    base = neutral_codes(flame, 2)
    leaves = {name: value.clone().requires_grad_() for name, value in base.as_dict().items()}
    codes = FaceCodes.from_dict(leaves)
    vertices = flame.vertices(codes)
    (flame.landmarks(codes, vertices).square().sum() + flame.albedo(codes).square().sum()).backward()
    for name in ("shape", "exp", "tex", "pose"):
        gradient = leaves[name].grad
        assert gradient is not None
        assert torch.isfinite(gradient).all(), name
        assert gradient.any(), name


@pytest.mark.parametrize(
    ("degrees", "row"),
    [(0, 0), (0.4, 0), (0.6, 1), (-0.4, 0), (-0.6, 40), (39.4, 39), (45, 39), (-39, 78), (-39.6, 78), (-80, 78)],
)
def test_the_contour_follows_the_yaw_up_to_39_degrees(degrees: float, row: int) -> None:
    turn = axis_angle_to_matrix(torch.tensor([[0.0, np.radians(degrees), 0.0]]).float())
    assert _contour_row(turn).tolist() == [row]


def test_no_folder_and_no_variable_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with pytest.raises(DrigError, match=r"--head_folder.* DRIG_FACE_FILES, which is not set.*flame\.is\.tue\.mpg\.de"):
        load_head("flame")


def test_the_variable_names_the_folder(flame_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(flame_folder))
    head = load_head("flame")
    assert isinstance(head, FlameHead)
    assert head.folder == flame_folder


def test_one_message_tells_of_every_file(flame_folder: Path, tmp_path: Path) -> None:
    shutil.copyfile(flame_folder / "landmark_embedding.npy", tmp_path / "landmark_embedding.npy")
    np.savez(tmp_path / "FLAME_texture.npz", mean=np.zeros((256, 256, 3)))
    (tmp_path / "head_template.obj").write_bytes(b"PK\x03\x04 not a mesh")
    with pytest.raises(DrigError) as error:
        load_head("flame", tmp_path)
    message = str(error.value)
    assert "Found: landmark_embedding.npy." in message
    assert "generic_model.pkl is missing" in message
    assert "mean is (256, 256, 3), not (512, 512, 3)" in message
    assert "head_template.obj is damaged, or not what its name says" in message
    assert "https://flame.is.tue.mpg.de" in message


def test_a_template_of_another_head_is_refused(flame_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(flame_folder, tmp_path / "flame")
    template = tmp_path / "flame" / "head_template.obj"
    lines = template.read_text().splitlines()
    template.write_text("\n".join(lines[:-1]))
    with pytest.raises(DrigError, match=r"head_template\.obj .*its 719 faces are not the 720 of generic_model\.pkl"):
        load_head("flame", tmp_path / "flame")


def test_to_moves_every_tensor(flame: FlameHead) -> None:
    moved = flame.to("meta")
    tensors = [value for f in dataclasses.fields(moved) if isinstance(value := getattr(moved, f.name), torch.Tensor)]
    assert len(tensors) == 15
    assert {tensor.device.type for tensor in tensors} == {"meta"}
