import io
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from drig.errors import DrigError
from drig.foreign.torch_files import load_state, read_torch, tensors_in


def test_both_formats_give_what_torch_gives(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    shared = torch.randn(10)
    value: dict[str, Any] = {
        "E_flame": module.state_dict(),
        "views": [shared[:4], shared[2::2], shared.view(2, 5).T],
        "types": [torch.ones(3, dtype=dtype) for dtype in (torch.float64, torch.bfloat16, torch.int64, torch.bool)],
        "parameter": nn.Parameter(torch.ones(2)),
        "empty": torch.zeros(0),
        "epoch": 7,
    }
    for new in (True, False):
        path = tmp_path / f"deca_model_{new}.tar"
        torch.save(value, path, _use_new_zipfile_serialization=new)
        read = read_torch(path)
        state = tensors_in(read["E_flame"], "E_flame")
        assert list(state) == list(module.state_dict())
        for name, tensor in module.state_dict().items():
            assert torch.equal(state[name], tensor), name
        assert all(torch.equal(a, b) for a, b in zip(read["views"], value["views"], strict=True))
        assert all(torch.equal(a, b) for a, b in zip(read["types"], value["types"], strict=True))
        assert [t.dtype for t in read["types"]] == [t.dtype for t in value["types"]]
        assert torch.equal(read["parameter"], torch.ones(2))
        assert read["empty"].shape == (0,)
        assert read["epoch"] == 7


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
@pytest.mark.parametrize("new", [True, False])
def test_a_file_that_was_cut_short(new: bool, share: float, tmp_path: Path) -> None:
    content = io.BytesIO()
    torch.save({"weight": torch.randn(500)}, content, _use_new_zipfile_serialization=new)
    path = tmp_path / "model.pt"
    path.write_bytes(content.getvalue()[: int(share * len(content.getvalue()))])
    with pytest.raises(DrigError, match=r"model\.pt is damaged"):
        read_torch(path)


def test_a_changed_weight_is_noticed(tmp_path: Path) -> None:
    """The zip format has checksums."""
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.full((64,), 1.0)}, path)
    content = path.read_bytes()
    path.write_bytes(content.replace(torch.full((3,), 1.0).numpy().tobytes(), bytes(12), 1))
    with pytest.raises(DrigError, match="damaged"):
        read_torch(path)


@pytest.mark.parametrize("value", [None, {}, [1], {"a": 1}, {1: torch.ones(1)}])
def test_what_is_no_state_dict_is_said_so(value: object) -> None:
    with pytest.raises(DrigError, match="state dict"):
        tensors_in(value, "model.pt")


def test_weights_of_another_network_are_listed() -> None:
    module = nn.Linear(3, 2)
    with pytest.raises(
        DrigError, match=r"3 differ: bias is missing; extra does not .*; weight is \(3, 2\), not \(2, 3\)"
    ):
        load_state(module, OrderedDict(weight=torch.ones(3, 2), extra=torch.ones(1)), "model.pt")
