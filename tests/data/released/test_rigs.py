"""Released models: their configuration from keys and shapes, and a rig's way into one and back, bit for bit."""

import json
import pickle
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from drig.data.released.conversion import export_released, import_released
from drig.data.released.rigs import config_of, read_mean_shape
from drig.diffusion.deltas import load_merged, save_delta
from drig.diffusion.network import RIG_PRESETS, Rig, RigConfig
from drig.diffusion.weights import LoadedWeights, load_weights, save_weights
from drig.errors import DrigError
from tests import parity
from tests.diffusion.deltas.conftest import random_delta

SMALL = RigConfig(size=32, base_channels=32, channel_mult=(1, 2), blocks_per_level=1, encoder_width=8)


def silently(faces: Iterable[int], total: int) -> Iterable[int]:
    return faces


def convert(path: Path, out: Path, mean_shape: Path | None = None, size: int | None = None) -> LoadedWeights:
    import_released(path, out, mean_shape=mean_shape, size=size, progress=silently)
    return load_weights(out)


@pytest.fixture(scope="module")
def rig() -> Rig:
    rig = Rig(SMALL)
    parity.fill(rig)
    return rig


@pytest.mark.parametrize("size", [256, 512])
def test_the_released_models_are_told_by_their_keys(size: int, shared: Path) -> None:
    shapes = json.loads((shared / "parity" / f"state_dict_{size}.json").read_text())
    assert config_of({name: tuple(shape) for name, shape in shapes.items()}) == RIG_PRESETS[f"rig{size}"]


CONFIGS = {
    "rig64": RIG_PRESETS["rig64"],
    "rig128": RIG_PRESETS["rig128"],
    "small": SMALL,
    "one level": RigConfig(size=16, base_channels=32, channel_mult=(1,), blocks_per_level=3),
    "other encoder": RigConfig(
        size=64, base_channels=32, channel_mult=(1, 1, 2), encoder_blocks=(1, 2, 1, 1), encoder_width=16, code_size=8
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_any_configuration_that_fits_is_told(name: str) -> None:
    with torch.device("meta"):
        rig = Rig(CONFIGS[name])
    assert config_of({name: tuple(value.shape) for name, value in rig.state_dict().items()}) == CONFIGS[name]


def test_attention_elsewhere_needs_the_size() -> None:
    config = RigConfig(size=32, base_channels=32, channel_mult=(1, 1), attention_size=0)
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Rig(config).state_dict().items()}
    with pytest.raises(DrigError, match="--size"):
        config_of(shapes)
    assert config_of(shapes, 32) == config


def test_a_rig_exported_and_imported_is_the_same_bit_for_bit(rig: Rig, tmp_path: Path) -> None:
    mean_shape = parity.randn("mean_shape", 1, 100)
    save_weights(tmp_path / "ours.safetensors", rig, {"mean_shape": mean_shape}, {"head": "flame", "estimator": "deca"})
    lines = export_released(tmp_path / "ours.safetensors", tmp_path / "model000000.pt", base=None, progress=silently)
    assert lines[-1] == f"released model: {tmp_path / 'model000000.pt'}, {tmp_path / 'mean_shape.pkl'}"
    loaded = convert(tmp_path / "model000000.pt", tmp_path / "again.safetensors", tmp_path / "mean_shape.pkl")
    assert loaded.rig.config == SMALL
    assert loaded.metadata == {"head": "flame", "estimator": "deca"}
    assert torch.equal(loaded.tensors["mean_shape"], mean_shape)
    state = rig.state_dict()
    assert loaded.rig.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in loaded.rig.state_dict().items())


def test_an_exported_model_is_what_the_released_implementation_loads(rig: Rig, tmp_path: Path) -> None:
    save_weights(tmp_path / "ours.safetensors", rig, {"mean_shape": torch.ones(1, 100)}, {"head": "open"})
    lines = export_released(tmp_path / "ours.safetensors", tmp_path / "model.pt", base=None, progress=silently)
    assert "trained on head open" in lines[-1]
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert state.keys() == rig.state_dict().keys()
    assert torch.equal(pickle.loads((tmp_path / "mean_shape.pkl").read_bytes()), torch.ones(1, 100))


def test_a_delta_is_exported_with_its_base_as_one_model(rig: Rig, tmp_path: Path) -> None:
    base, person = tmp_path / "base.safetensors", tmp_path / "ann.safetensors"
    save_weights(base, rig)
    save_delta(person, random_delta(rig, 1), {"mean_shape": torch.ones(1, 100)}, {"head": "flame"})
    with pytest.raises(DrigError, match="is a delta: give the weights of the base"):
        export_released(person, tmp_path / "model.pt", base=None, progress=silently)
    export_released(person, tmp_path / "model.pt", base=base, progress=silently)
    state, wanted = torch.load(tmp_path / "model.pt", weights_only=True), load_merged(person, base).rig.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in wanted.items())
    assert not torch.equal(state["denoisingUNet.out.2.bias"], rig.state_dict()["denoisingUNet.out.2.bias"])
    assert (tmp_path / "mean_shape.pkl").exists()


@pytest.mark.parametrize("new", [True, False])
def test_both_formats_of_a_model(new: bool, rig: Rig, tmp_path: Path) -> None:
    torch.save(rig.state_dict(), tmp_path / "model.pt", _use_new_zipfile_serialization=new)
    loaded = convert(tmp_path / "model.pt", tmp_path / "runs" / "base.safetensors")
    assert torch.equal(loaded.rig.encoder.fc.weight, rig.encoder.fc.weight)
    assert not loaded.tensors


def test_the_released_mean_shape(shared: Path, tmp_path: Path) -> None:
    expected = parity.randn("mean_shape", 1, 100)
    assert torch.equal(read_mean_shape(shared / "parity" / "reference_dataset.lmdb" / "mean_shape.pkl"), expected)
    torch.save(expected, tmp_path / "mean_shape.pkl")
    assert torch.equal(read_mean_shape(tmp_path / "mean_shape.pkl"), expected)


@pytest.mark.parametrize("value", [torch.ones(1, 99), torch.full((1, 100), torch.nan), [1.0] * 100])
def test_another_mean_shape_is_refused(value: object, tmp_path: Path) -> None:
    (tmp_path / "mean_shape.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(DrigError, match="no mean shape"):
        read_mean_shape(tmp_path / "mean_shape.pkl")


def test_what_is_no_released_model_says_why(rig: Rig, tmp_path: Path) -> None:
    state = dict(rig.state_dict())
    path, out = tmp_path / "model.pt", tmp_path / "out.safetensors"
    torch.save({"fc.weight": torch.ones(3)}, path)
    with pytest.raises(DrigError, match=r"no released model's: 'denoisingUNet\.time_embed\.0\.weight' is missing"):
        convert(path, out)
    torch.save({**state, "denoisingUNet.out.2.bias": torch.ones(4)}, path)
    with pytest.raises(DrigError, match=r"1 differ: denoisingUNet\.out\.2\.bias is \(4,\), not \(3,\)"):
        convert(path, out)
    torch.save({"model": state}, path)
    with pytest.raises(DrigError, match="is no state dict"):
        convert(path, out)
    torch.save(state, path)
    with pytest.raises(DrigError, match="multiple of 2"):
        convert(path, out, size=33)
    assert not out.exists()


def test_a_rig_that_the_released_implementation_cannot_run_is_not_exported(tmp_path: Path) -> None:
    save_weights(tmp_path / "tiny.safetensors", Rig(RIG_PRESETS["tiny"]))
    with pytest.raises(DrigError, match="another preset than tiny"):
        export_released(tmp_path / "tiny.safetensors", tmp_path / "model.pt", base=None, progress=silently)
