from typing import Any

import pytest

from drig.errors import DrigError
from drig.training.config import TRAINING_PRESETS
from tests.training.conftest import small_training


def test_paper_settings() -> None:
    one, two = TRAINING_PRESETS["paper-stage1"], TRAINING_PRESETS["paper-stage2"]
    assert (one.samples, one.batch, one.learning_rate, one.train_encoder) == (256 * 50_000, 256, 1e-4, True)
    assert (two.samples, two.batch, two.learning_rate, two.train_encoder) == (4 * 5_000, 4, 1e-5, False)
    assert {preset.gradient_clip for preset in (one, two)} == {1.0}
    assert {preset.ema_half_life for preset in (one, two)} == {None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"keep": 0}, "keep is 0"),
        ({"ema_half_life": 0}, "or null for none"),
        ({"loader_workers": -1}, "loader_workers is -1"),
        ({"delta_rank": 0, "train_encoder": False}, "delta_rank is 0: it must be positive, or null for none"),
        ({"delta_rank": 4, "train_encoder": True}, "delta_rank is 4: it needs train_encoder false"),
        ({"samples": 100, "warmup": 101}, "between 0 and 100 of the samples"),
        ({"samples": 100, "warmup": 60, "cooldown": 41}, "cooldown is 41: it must be between 0 and 40 of the samples"),
    ],
)
def test_values_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DrigError, match=message):
        small_training(**changes)


def test_the_budget_is_whole_batches() -> None:
    assert small_training(samples=22, batch=4).total == 24
    assert small_training(samples=24, batch=4).total == 24


def test_any_number_of_workers_shares_a_batch() -> None:
    config = small_training(batch=12)
    for world_size in range(1, 13):
        shares = [config.share(rank, world_size) for rank in range(world_size)]
        assert [place for share in shares for place in share] == list(range(12))
        assert {len(share) for share in shares} <= {12 // world_size, -(-12 // world_size)}
    with pytest.raises(DrigError, match="at most 12 workers"):
        config.share(0, 13)


def test_batch_norm_needs_two_samples_where_it_trains() -> None:
    with pytest.raises(DrigError, match="batch is 1: it must be 2 or more"):
        small_training(batch=1)
    assert len(small_training(batch=1, train_encoder=False).share(0, 1)) == 1
