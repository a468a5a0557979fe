"""From the files that a lab owns to an edit and to a look at photos: FLAME, DECA, a released model."""

from pathlib import Path

import pytest
import torch

from drig.cli import main
from drig.data.photos import read_photo
from drig.diffusion.network import Rig, RigConfig
from drig.editing import Editor
from drig.faces.controls import Controls
from drig.faces.deca import DecaEncoder
from drig.faces.flame import FOLDER_VARIABLE
from tests import parity
from tests.flame_files import write_flame_folder

RIG = RigConfig(size=32, base_channels=32, channel_mult=(1, 1), blocks_per_level=1, encoder_width=8)


@pytest.fixture(scope="module")
def folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FLAME's and DECA's files with synthetic content, and a released personalised model."""
    folder = write_flame_folder(shared, tmp_path_factory.mktemp("files"))
    encoder = DecaEncoder()
    parity.fill(encoder)
    weights = encoder.state_dict()
    weights["layers.2.weight"] *= 0.02  # codes of a usual size, but for the camera's scale
    weights["layers.2.bias"][206] = 8.0
    torch.save({"E_flame": weights}, folder / "deca_model.tar")
    torch.save(Rig.from_seed(RIG, 0).state_dict(), folder / "model005000.pt")
    torch.save(0.1 * parity.randn("mean_shape", 1, 100), folder / "mean_shape.pkl")
    return folder


def test_an_imported_model_edits_with_the_files_that_the_variable_names(
    folder: Path, synthetic_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, mean_shape = tmp_path / "person.safetensors", str(folder / "mean_shape.pkl")
    assert main(["import", str(folder / "model005000.pt"), "--out", str(out), "--mean_shape", mean_shape]) == 0
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    editor = Editor.load(out)
    assert (editor.head.name, editor.estimator.name) == ("flame", "deca")
    face = editor.read(read_photo(synthetic_people / "person_0000" / "00.png"))
    edit = editor.edit(face, controls=Controls(yaw=10), steps=2)
    assert edit.image.shape == (32, 32, 3)
    assert edit.buffers.any()
    assert editor.likeness.mean_shape is not None
    assert torch.equal(editor.likeness.mean_shape, 0.1 * parity.randn("mean_shape", 1, 100))


def test_photos_are_inspected_with_flame_and_deca(
    folder: Path, synthetic_people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, out = str(synthetic_people / "person_0000" / "00.png"), str(tmp_path / "sheet.png")
    flame = ["--head", "flame", "--head_folder", str(folder), "--estimator", "deca"]
    assert main(["inspect", photo, "--out", out, "--size", "64", *flame]) == 0
    assert "exp " in capsys.readouterr().out, "FLAME's expressions have numbers, not names"
    assert read_photo(out).shape[0] > 200
