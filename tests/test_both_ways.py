import pytest
import torch
from torch import Tensor

from drig.both_ways import BothWays
from drig.data.mirroring import mirror_image
from drig.diffusion.network import Rig, RigConfig

SMALL = RigConfig(
    size=32, base_channels=32, channel_mult=(1, 1), blocks_per_level=1, attention_size=0, prediction="correction"
)


@pytest.fixture(scope="module")
def rig() -> Rig:
    """One that prefers a side: no weight of it is zero, or symmetric."""
    rig = Rig.from_seed(SMALL, 0).eval()
    generator = torch.Generator().manual_seed(1)
    for weight in rig.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.05, generator=generator)
    return rig


@pytest.fixture(scope="module")
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = {"image": (2, 3, 32, 32), "buffers": (2, 9, 32, 32)}
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


T = torch.tensor([10, 900])


@torch.no_grad()
def test_what_is_mirrored_gives_the_mirrored_noise(rig: Rig, batch: dict[str, Tensor]) -> None:
    both, mirrored = BothWays(rig), mirror_image(batch)
    noise = both.denoise(batch["image"], T, batch["buffers"], both.encode(batch["image"]))
    again = both.denoise(mirrored["image"], T, mirrored["buffers"], both.encode(mirrored["image"]))
    torch.testing.assert_close(again.flip(-1), noise, atol=1e-4, rtol=1e-3)
    one_way = rig.denoise(batch["image"], T, batch["buffers"], rig.encode(batch["image"]))
    assert (noise - one_way).abs().mean() > 0.01


@torch.no_grad()
def test_each_of_a_batch_gets_what_it_gets_alone(rig: Rig, batch: dict[str, Tensor]) -> None:
    both = BothWays(rig)
    code = both.encode(batch["image"])
    assert code.shape == (2, 2 * SMALL.code_size)
    together = both.denoise(batch["image"], T, batch["buffers"], code)
    for i in range(2):
        one = {name: tensor[i : i + 1] for name, tensor in batch.items()}
        alone = both.denoise(one["image"], T[i : i + 1], one["buffers"], both.encode(one["image"]))
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=1e-3)
