import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from drig.diffusion.correction import inner_face, visible_correction
from drig.diffusion.network import RIG_PRESETS, Rig, RigConfig
from drig.diffusion.schedule import Schedule
from drig.errors import DrigError
from tests import parity

SMALL = RigConfig(size=32, base_channels=32, channel_mult=(1, 2), blocks_per_level=1, attention_size=16)
PATCHED = RigConfig(size=32, base_channels=32, channel_mult=(1, 2), blocks_per_level=1, attention_size=8, patch=2)


def batch(config: RigConfig, count: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_t, t, buffers, photo."""
    side = config.size
    x_t, photo = parity.randn("x_t", count, 3, side, side), 2 * parity.rand("photo", count, 3, side, side) - 1
    return x_t, torch.arange(count) * 400, parity.rand("buffers", count, 9, side, side), photo


@pytest.mark.parametrize("preset", RIG_PRESETS)
def test_presets_map_images_to_images(preset: str) -> None:
    config = RIG_PRESETS[preset]
    with torch.device("meta"):
        x_t, _, buffers, photo = (torch.empty(2, channels, config.size, config.size) for channels in (3, 1, 9, 3))
        noise = Rig(config)(x_t, torch.zeros(2, dtype=torch.int64), buffers, photo)
    assert noise.shape == (2, 3, config.size, config.size)


@pytest.mark.parametrize("config", [SMALL, PATCHED], ids=["pixels", "patches"])
def test_every_input_reaches_the_output(config: RigConfig) -> None:
    rig = Rig(config)
    parity.fill(rig)
    inputs = list(batch(config))
    noise = rig(*inputs)
    for i in range(len(inputs)):
        changed = [x.roll(1, dims=0) if i == j else x for j, x in enumerate(inputs)]
        assert float((rig(*changed) - noise).detach().abs().max()) > 1e-3


def test_a_rig_that_corrects_the_rendered_face_says_the_noise_that_goes_with_it() -> None:
    """x_t = sqrt(abar) image + sqrt(1 - abar) noise, solved for the noise."""
    rig = Rig(dataclasses.replace(SMALL, prediction="correction"))
    parity.fill(rig)
    x_t, t, buffers, photo = batch(SMALL)
    with torch.no_grad():
        code = rig.encode(photo)
        noise = rig.denoise(x_t, t, buffers, code)
        face, alpha_bar = inner_face(buffers), Schedule().at(t)[:, None, None, None]
        shown = visible_correction(x_t, face, alpha_bar)
        image = face + rig.denoisingUNet(shown, t, buffers, code)
    torch.testing.assert_close(Schedule().q_sample(image, t, noise), x_t)


@pytest.mark.parametrize("config", [SMALL, PATCHED], ids=["pixels", "patches"])
def test_items_of_a_batch_do_not_mix(config: RigConfig) -> None:
    rig = Rig(config)
    parity.fill(rig)
    x_t, t, buffers, photo = batch(config)
    alone = rig(x_t[1:], t[1:], buffers[1:], photo[1:])
    torch.testing.assert_close(rig(x_t, t, buffers, photo)[1:], alone, atol=1e-4, rtol=1e-4)


def test_patches_change_the_first_and_last_convolution_and_bring_a_head_of_pixels() -> None:
    with torch.device("meta"):
        pixels = Rig(RigConfig(size=32, base_channels=32, channel_mult=(1, 2), attention_size=16)).state_dict()
        patches = Rig(RigConfig(size=32, base_channels=32, channel_mult=(1, 2), attention_size=8, patch=2)).state_dict()
    new = {name.removeprefix("denoisingUNet.").split(".")[0] for name in patches.keys() - pixels.keys()}
    assert new == {"pixel_head"}
    differing = {name for name in pixels if pixels[name].shape != patches[name].shape}
    ends = {"input_blocks.0.0.weight", "out.2.weight", "out.2.bias"}
    assert differing == {f"denoisingUNet.{name}" for name in ends}


def test_a_fresh_rig_predicts_no_noise_and_depends_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, again, other = (Rig.from_seed(SMALL, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["encoder.fc.weight"], other["encoder.fc.weight"])
    rig = Rig.from_seed(SMALL, 1).eval()
    assert float(rig(*batch(SMALL)).detach().abs().max()) == 0


def test_bfloat16_autocast_stays_close_to_float32() -> None:
    rig = Rig(SMALL)
    parity.fill(rig)
    inputs = batch(SMALL)
    with torch.no_grad():
        exact = rig(*inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = rig(*inputs)
    assert parity.relative_error(rounded.float(), exact) < 0.1


def test_channels_last_computes_the_same() -> None:
    rig = Rig(SMALL)
    parity.fill(rig)
    with torch.no_grad():
        expected = rig(*batch(SMALL))
        found = copy.deepcopy(rig).to(memory_format=torch.channels_last)(*batch(SMALL))  # type: ignore[call-overload]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 100}, r"size 100 with 4 levels .* multiple of 8"),
        ({"patch": 3}, r"size 64 .* patch 3: the size must be a multiple of 24"),
        ({"base_channels": 48}, r"channels \[48, 144\] .* multiple of 32"),
        ({"attention_size": 12}, r"attention_size 12: .* \[64, 32, 16, 8\]"),
    ],
)
def test_impossible_configurations_say_what_to_change(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DrigError, match=message):
        dataclasses.replace(RIG_PRESETS["rig64"], **fields)


def test_images_of_another_size_are_refused() -> None:
    rig = Rig(SMALL).eval()
    x_t, t, buffers, photo = batch(SMALL)
    code = rig.encode(photo)
    with pytest.raises(DrigError, match=r"photo of 16 x 16 px, and this rig works at 32 x 32"):
        rig.encode(photo[..., ::2, ::2])
    with pytest.raises(DrigError, match=r"buffers of 16 x 32 px"):
        rig.denoise(x_t, t, buffers[..., ::2], code)


def test_a_batch_has_one_of_each_for_every_image() -> None:
    rig, image, buffers = Rig.from_seed(SMALL, 0), torch.zeros(2, 3, 32, 32), torch.zeros(1, 9, 32, 32)
    with pytest.raises(DrigError, match="a batch of 2 images, 2 timesteps, 1 buffers, 2 codes"):
        rig.denoise(image, torch.zeros(2, dtype=torch.int64), buffers, torch.zeros(2, 64))
