"""The released implementation's numbers, from the same weights and inputs (SPEC 2 and 3)."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from drig.diffusion.loss import p2_loss
from drig.diffusion.network import RIG_PRESETS, Rig, RigConfig
from drig.diffusion.samplers import ddim
from drig.diffusion.schedule import Schedule
from tests import parity

FIXTURES = {
    "s64c32": RigConfig(size=64, base_channels=32, channel_mult=(1, 2, 3, 4)),
    "s64c64": RigConfig(size=64, base_channels=64, channel_mult=(1, 2, 3, 4), blocks_per_level=1),
}


@dataclass
class Case:
    rig: Rig
    image: Tensor
    buffers: Tensor
    noise: Tensor
    expected: dict[str, Tensor]


@pytest.fixture(scope="module", params=FIXTURES)
def case(request: pytest.FixtureRequest, shared: Path) -> Case:
    name = request.param
    rig = Rig(FIXTURES[name])
    parity.fill(rig)
    return Case(
        rig=rig,
        image=2 * parity.rand(f"{name}:image", 2, 3, 64, 64) - 1,
        buffers=parity.rand(f"{name}:buffers", 2, 9, 64, 64),
        noise=parity.randn(f"{name}:noise", 2, 3, 64, 64),
        expected=parity.load(shared / "parity" / f"net_{name}.npz"),
    )


@pytest.mark.parametrize("size", [256, 512])
def test_state_dict_is_that_of_the_released_model(size: int, shared: Path) -> None:
    """A released checkpoint loads: every key and shape."""
    with torch.device("meta"):
        rig = Rig(RIG_PRESETS[f"rig{size}"])
    ours = [(name, list(value.shape)) for name, value in rig.state_dict().items()]
    theirs = json.loads((shared / "parity" / f"state_dict_{size}.json").read_text())
    assert dict(ours) == theirs


def test_parameter_count(case: Case) -> None:
    assert sum(p.numel() for p in case.rig.parameters()) == int(case.expected["params"])


@torch.no_grad()
def test_code(case: Case) -> None:
    assert parity.relative_error(case.rig.encode(case.image), case.expected["code"]) < 1e-4


@torch.no_grad()
def test_predicted_noise_and_loss(case: Case) -> None:
    schedule, t = Schedule(), case.expected["t"]
    x_t = schedule.q_sample(case.image, t, case.noise)
    eps = case.rig(x_t, t, case.buffers, case.image)
    assert parity.relative_error(eps, case.expected["eps"]) < 1e-4
    assert parity.relative_error(p2_loss(schedule, case.noise, eps, t), case.expected["loss"]) < 1e-4


@pytest.mark.parametrize("steps", [20, 50])
def test_ddim(case: Case, steps: int) -> None:
    assert Schedule().ddim_timesteps(steps) == case.expected[f"ddim{steps}_timesteps"].tolist()
    first = slice(0, 1)  # the second image takes as long again and shows nothing new
    images = ddim(case.rig, case.noise[first], case.buffers[first], case.expected["code"][first], steps=steps)
    assert parity.relative_error(images, case.expected[f"ddim{steps}"][first]) < 1e-3
