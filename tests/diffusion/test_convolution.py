"""Winograd's convolution against PyTorch's."""

import pytest
import torch
import torch.nn.functional as F

from drig.diffusion import convolution
from drig.diffusion.convolution import WORTHWHILE, Conv3x3


@pytest.fixture(autouse=True)
def available() -> None:
    if not torch.backends.nnpack.is_available():
        pytest.skip("this PyTorch has no NNPACK")


@pytest.mark.parametrize("shape", [(2, 12, WORTHWHILE, WORTHWHILE + 5), (1, 32, 64, 64)])
def test_numbers_and_gradients_are_those_of_conv2d(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = Conv3x3(shape[1], 7)
    x = torch.randn(shape, generator=generator, requires_grad=True)
    gradient = torch.randn(shape[0], 7, *shape[2:], generator=generator)
    assert layer.bias is not None
    inputs = (x, layer.weight, layer.bias)
    expected = F.conv2d(x, layer.weight, layer.bias, padding=1)
    wanted = torch.autograd.grad(expected, inputs, gradient)
    found = layer(x)
    assert found.grad_fn is not None
    assert "Winograd" in found.grad_fn.name()
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=1e-4)
    for mine, theirs in zip(torch.autograd.grad(found, inputs, gradient), wanted, strict=True):
        assert (mine - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_only_what_is_asked_for_is_differentiated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "_weight_gradient", lambda *_: pytest.fail("the weights are frozen"))
    layer = Conv3x3(4, 4).requires_grad_(False)
    x = torch.randn(1, 4, 64, 64, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None


def test_channels_last_inputs_are_taken() -> None:
    layer, x = Conv3x3(8, 8), torch.randn(2, 8, 64, 64)
    torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), layer(x), atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("change", ["small", "double", "bfloat16"])
def test_where_it_does_not_pay_pytorch_convolves(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "_convolve", lambda *_: pytest.fail("not here"))
    layer, x = Conv3x3(4, 4), torch.randn(1, 4, 64, 64)
    if change == "small":
        layer(x[..., :16, :16])
    elif change == "double":
        layer.double()(x.double())
    else:
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
