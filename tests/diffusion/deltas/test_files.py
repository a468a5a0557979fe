import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from drig.diffusion.deltas import Delta, attached, content_hash, is_delta, load_delta, load_merged, save_delta
from drig.diffusion.network import Rig
from drig.diffusion.weights import load_weights, save_weights
from drig.errors import DrigError
from tests.diffusion.deltas.conftest import Inputs, random_delta

LAYER = "input_blocks.0.0"


@pytest.fixture
def delta(rig: Rig) -> Delta:
    return random_delta(rig, 1)


@pytest.fixture
def path(tmp_path: Path, delta: Delta) -> Path:
    path = tmp_path / "ann.safetensors"
    save_delta(path, delta, {"mean_shape": torch.arange(3.0) / 3}, {"head": "open"})
    return path


def rewrite(path: Path, *, drop: str = "", add: dict[str, torch.Tensor] | None = None, **header: Any) -> None:
    """The file again with other content."""
    with safe_open(path, framework="pt") as file:
        old = dict(file.metadata())
    tensors = {name: tensor for name, tensor in load_file(path).items() if name != drop}
    save_file(tensors | (add or {}), path, metadata=old | header)


def test_round_trip(path: Path, delta: Delta, rig: Rig, inputs: Inputs) -> None:
    loaded = load_delta(path, rig, delta.base)
    assert loaded.metadata == {"head": "open"}
    assert torch.equal(loaded.tensors["mean_shape"], torch.arange(3.0) / 3)  # not rounded
    assert (loaded.delta.base, loaded.delta.config) == (content_hash(rig.state_dict()), rig.config)
    found = []
    for each in (delta, loaded.delta):
        with attached(rig, each):
            found.append(rig.denoise(*inputs))
    torch.testing.assert_close(found[1], found[0], atol=5e-3, rtol=0)  # of numbers about 1: float16
    assert {tensor.dtype for name, tensor in load_file(path).items() if LAYER in name} == {torch.float16}
    assert path.stat().st_size < 2 * delta.size + 25_000  # names and shapes
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_merged_into_its_base_it_is_a_whole_rig(path: Path, rig: Rig, inputs: Inputs, tmp_path: Path) -> None:
    base = tmp_path / "base.safetensors"
    save_weights(base, rig, metadata={"head": "of the base"})
    merged = load_merged(path, base)
    assert merged.metadata == {"head": "open"}
    assert list(merged.tensors) == ["mean_shape"]
    with attached(rig, load_delta(path, rig, content_hash(rig.state_dict())).delta):
        torch.testing.assert_close(merged.rig.denoise(*inputs), rig.denoise(*inputs), atol=1e-4, rtol=1e-4)
    assert load_merged(base, None).metadata == {"head": "of the base"}
    with pytest.raises(DrigError, match="give the weights of the base rig"):
        load_merged(path, None)


def test_in_float32_it_is_exact(tmp_path: Path, delta: Delta, rig: Rig) -> None:
    save_delta(tmp_path / "exact", delta, dtype=torch.float32)
    loaded = load_delta(tmp_path / "exact", rig, delta.base).delta.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in delta.state_dict().items())


def test_a_delta_over_another_base_is_refused(path: Path, delta: Delta, rig: Rig) -> None:
    other = copy.deepcopy(rig)
    other.encoder.fc.bias[0] += 1e-3
    with pytest.raises(DrigError, match=rf"over the base {delta.base[:16]}.*Give the weights that it was trained from"):
        load_delta(path, other, content_hash(other.state_dict()))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_truncated_file(path: Path, delta: Delta, rig: Rig, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DrigError, match="part of it is missing"):
        load_delta(path, rig, delta.base)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "drig-rig"}, "wanted are 'drig-delta', '1'"),
        ({"version": "2"}, "wanted are 'drig-delta', '1'"),
        ({"config": "{"}, "configuration that cannot be read"),
        ({"drop": f"{LAYER}.up"}, rf"1 of its layers .*{LAYER} has .*instead of"),
        ({"add": {f"{LAYER}.up": torch.zeros(32, 5)}}, rf"{LAYER} has .*\(32, 5\).* instead of"),
        (
            {"add": {f"{LAYER}.up": torch.zeros(32, 0), f"{LAYER}.down": torch.zeros(0, 12, 3, 3)}},
            rf"{LAYER} has .*instead",
        ),
        ({"add": {f"{LAYER}.down": torch.zeros(4, 11, 3, 3)}}, rf"{LAYER} has .*\(4, 11, 3, 3\).* instead of"),
        ({"add": {"out.0.weight": torch.zeros(1)}}, r"out\.0 has .*\(1,\).* instead of"),
        ({"add": {"out.1.weight": torch.zeros(1)}}, r"out\.1 is no layer of the UNet"),
        ({"add": {f"{LAYER}.bias": torch.full((32,), torch.nan)}}, "has numbers that are not finite"),
        ({"add": {f"{LAYER}.bias": torch.full((32,), torch.inf)}}, "has numbers that are not finite"),
    ],
)
def test_a_file_that_was_altered(path: Path, delta: Delta, rig: Rig, change: dict[str, Any], message: str) -> None:
    rewrite(path, **change)
    with pytest.raises(DrigError, match=message):
        load_delta(path, rig, delta.base)


def test_files_are_told_apart(path: Path, delta: Delta, rig: Rig, tmp_path: Path) -> None:
    save_weights(tmp_path / "rig.safetensors", rig)
    (tmp_path / "text").write_text("no weights")
    found = [is_delta(tmp_path / name) for name in (path.name, "rig.safetensors", "text", "missing")]
    assert found == [True, False, False, False]
    with pytest.raises(DrigError, match="is a delta: it needs its base"):
        load_weights(path)
    with pytest.raises(DrigError, match="says format 'drig-rig'"):
        load_delta(tmp_path / "rig.safetensors", rig, delta.base)
