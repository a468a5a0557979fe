import pytest
import torch

from drig.diffusion.precision import autocast_dtype


@pytest.mark.parametrize(
    ("capability", "dtype"), [("amx_bf16", torch.bfloat16), ("avx512_bf16", torch.bfloat16), ("avx2", None)]
)
def test_auto_is_bf16_where_the_cpu_computes_in_it(
    capability: str, dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True})
    assert autocast_dtype("auto", torch.device("cpu")) is dtype


def test_explicit_types_are_taken_at_their_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert autocast_dtype("bf16", torch.device("cpu")) is torch.bfloat16
    assert autocast_dtype("fp32", torch.device("cpu")) is None
