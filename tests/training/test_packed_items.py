from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import default_collate

from drig.data.items import Item, unpacked
from drig.training.loop import train
from drig.training.objective import frozen_codes
from tests.training.conftest import small_rig, small_training, tensors_equal


@pytest.fixture
def packed() -> list[Item]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.randint(0, 256, (3, 8, 8), generator=generator, dtype=torch.uint8),
            "normal": torch.randint(-127, 128, (3, 8, 8), generator=generator, dtype=torch.int8),
            "albedo": torch.randint(0, 128, (3, 8, 8), generator=generator, dtype=torch.uint8),
            "light": torch.randn(9, 3, generator=generator),
        }
        for _ in range(6)
    ]


@pytest.fixture
def floats(packed: list[Item]) -> list[Item]:
    return [{name: tensor[0] for name, tensor in unpacked(default_collate([item])).items()} for item in packed]


@pytest.mark.parametrize("train_encoder", [True, False], ids=["stage1", "stage2"])
def test_packed_items_train_the_same_weights_to_the_bit(
    packed: list[Item], floats: list[Item], tmp_path: Path, train_encoder: bool
) -> None:
    def weights(dataset: list[Item], folder: str) -> dict[str, Tensor]:
        config = small_training(samples=8, train_encoder=train_encoder)
        result = train(config, small_rig(), dataset, workdir=tmp_path / folder)  # type: ignore[arg-type]
        assert result.weights is not None
        return load_file(result.weights)

    trained = weights(packed, "packed")
    assert tensors_equal(trained, weights(floats, "floats"))
    assert not tensors_equal(trained, small_rig().state_dict())


def test_a_frozen_encoder_sees_the_same_photos(packed: list[Item], floats: list[Item]) -> None:
    first, second = (frozen_codes(small_rig(), items, 4) for items in (packed, floats))  # type: ignore[arg-type]
    assert torch.equal(first, second)
