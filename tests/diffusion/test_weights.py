import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from drig.diffusion.network import Rig, RigConfig
from drig.diffusion.weights import load_weights, read_extra, save_weights
from drig.errors import DrigError
from tests import parity

CONFIG = RigConfig(size=32, base_channels=32, channel_mult=(1, 1), blocks_per_level=1, attention_size=0, dropout=0.2)


@pytest.fixture(scope="module")
def rig() -> Rig:
    rig = Rig(CONFIG)
    parity.fill(rig)
    return rig


@pytest.fixture
def path(tmp_path: Path, rig: Rig) -> Path:
    path = tmp_path / "rig.safetensors"
    save_weights(path, rig, {"mean_shape": torch.arange(3.0)}, {"samples": 1280, "person": "Zoë"})
    return path


def rewrite(path: Path, *, drop: str = "", add: dict[str, torch.Tensor] | None = None, **header: Any) -> None:
    """The file again with other content."""
    with safe_open(path, framework="pt") as file:
        old = dict(file.metadata())
    tensors = {name: tensor for name, tensor in load_file(path).items() if name != drop}
    save_file(tensors | (add or {}), path, metadata=old | header)


def test_round_trip(path: Path, rig: Rig) -> None:
    loaded = load_weights(path, size=32)
    assert loaded.rig.config == CONFIG
    assert loaded.metadata == {"samples": 1280, "person": "Zoë"}
    assert loaded.tensors.keys() == {"mean_shape"}
    assert torch.equal(loaded.tensors["mean_shape"], torch.arange(3.0))
    assert not loaded.rig.training
    assert all(p.requires_grad for p in loaded.rig.parameters())
    state = loaded.rig.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in rig.state_dict().items())
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_half_precision_halves_the_file_and_loads_as_floats(tmp_path: Path, path: Path, rig: Rig) -> None:
    half = tmp_path / "half.safetensors"
    save_weights(half, rig, half=True)
    assert half.stat().st_size < 0.6 * path.stat().st_size
    state = load_weights(half).rig.state_dict()
    for name, value in rig.state_dict().items():
        assert state[name].dtype == value.dtype
        torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-6)


def test_channels_last_weights_are_written(tmp_path: Path, rig: Rig) -> None:
    last = Rig(CONFIG).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    last.load_state_dict(rig.state_dict())
    save_weights(tmp_path / "last.safetensors", last)
    state = load_weights(tmp_path / "last.safetensors").rig.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in rig.state_dict().items())


def test_a_failed_write_leaves_nothing(tmp_path: Path, rig: Rig) -> None:
    with pytest.raises(DrigError, match=r"cannot write weights .* Choose a folder"):
        save_weights(tmp_path / "missing" / "rig.safetensors", rig)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DrigError, match="cannot write weights"):
        save_weights(tmp_path / "folder", rig)
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_what_belongs_to_a_rig_is_read_without_it(path: Path) -> None:
    metadata, extra = read_extra(path)
    assert metadata == {"samples": 1280, "person": "Zoë"}
    assert set(extra) == {"mean_shape"}
    assert torch.equal(extra["mean_shape"], torch.arange(3.0))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DrigError, match="part of it is missing"):
        read_extra(path)


@pytest.mark.parametrize("read", [load_weights, read_extra])
def test_missing_file(tmp_path: Path, read: Any) -> None:
    with pytest.raises(DrigError, match=r"no weights at .*nothing\.safetensors"):
        read(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("content", [b"", b"a text file", b"\x80\x02}q\x00.", b"\xff" * 64])
def test_a_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rig.safetensors").write_bytes(content)
    with pytest.raises(DrigError, match="not a safetensors file, or part of it is missing"):
        load_weights(tmp_path / "rig.safetensors")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_truncated_file(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DrigError, match="part of it is missing"):
        load_weights(path)


def test_safetensors_of_something_else(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(DrigError, match="format None"):
        load_weights(tmp_path / "other.safetensors")


def test_another_size_than_needed(path: Path) -> None:
    with pytest.raises(DrigError, match="holds a rig for 32 px and 256 px are needed"):
        load_weights(path, size=256)


def test_tensors_that_are_not_the_configurations(path: Path) -> None:
    rewrite(path, drop="encoder.fc.bias", add={"encoder.fc.weight": torch.zeros(8, 512), "surplus": torch.zeros(1)})
    with pytest.raises(DrigError, match="3 of its tensors") as error:
        load_weights(path)
    for part in ("encoder.fc.bias is missing", "(8, 512) instead of", "surplus is not part"):
        assert part in str(error.value)


def test_numbers_that_are_not_finite(path: Path) -> None:
    rig = load_weights(path).rig
    with torch.no_grad():
        rig.encoder.fc.bias[3] = torch.nan
    save_weights(path, rig)
    with pytest.raises(DrigError, match=r"not finite, in 1 of its tensors, the first encoder\.fc\.bias"):
        load_weights(path)


@pytest.mark.parametrize(
    "config",
    ["{", "[]", json.dumps({"size": 32}), json.dumps({"size": 32, "channel_mult": [1], "colour": "red"})],
)
def test_a_configuration_that_cannot_be_read(path: Path, config: str) -> None:
    rewrite(path, config=config)
    with pytest.raises(DrigError, match="configuration that cannot be read"):
        load_weights(path)
