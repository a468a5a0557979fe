"""The regressor's training, and how sure its result is of itself."""

from pathlib import Path

import pytest
import torch

from drig.faces.codes import FaceCodes
from drig.faces.open_head import OpenHead
from drig.faces.regressor import Regressor, Sizes, to_numbers
from drig.training.regressor import training
from drig.training.regressor.certainty import measure
from drig.training.regressor.portraits import Portraits


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "BATCH", 4)
    monkeypatch.setattr(training, "SAVE_EVERY", 2)


def test_an_interrupted_training_goes_on_to_the_same_weights(
    head: OpenHead, portraits: Portraits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = training.train(head, portraits, 16, 0, tmp_path / "whole")
    batch = training._batch
    monkeypatch.setattr(training, "_batch", lambda *a: batch(*a) if a[-1] < 3 else pytest.fail("interrupted"))
    with pytest.raises(pytest.fail.Exception):
        training.train(head, portraits, 16, 0, tmp_path / "parts")
    monkeypatch.setattr(training, "_batch", batch)
    resumed = training.train(head, portraits, 16, 0, tmp_path / "parts")
    # The four steps move weights by 5e-5 each. Two equal runs do not agree to the bit, and where a gradient is nearly
    # zero its sign is all that Adam's first steps look at: a few weights go the other way.
    pairs = zip(resumed.parameters(), whole.parameters(), strict=True)
    assert torch.cat([(mine - theirs).abs().flatten() for mine, theirs in pairs]).mean() < 1e-6


def test_certainty_is_the_inverse_of_how_far_guesses_are_off(
    head: OpenHead, portraits: Portraits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that is always off by the same turn, and right about all else."""
    model = Regressor(Sizes(head.shape_size, head.exp_size, head.tex_size))
    wrong = portraits.codes.replace(cam=portraits.codes.cam * torch.tensor([1.1, 1, 1]))
    monkeypatch.setattr(model, "guess", lambda images, landmarks: wrong)
    measure(model, portraits)
    deviation = torch.linalg.inv(model.geometry_precision.double()).diagonal().sqrt()
    torch.testing.assert_close(deviation[3], torch.tensor(1.1).log().double(), rtol=0.01, atol=0)
    assert deviation[[0, 1, 2, 4, 5]].max() < 2e-3
    assert deviation[6:].max() < 2e-3


def test_numbers_and_codes_are_the_same(portraits: Portraits) -> None:
    from drig.faces.regressor import to_codes

    codes = portraits.codes
    sizes = Sizes(codes.shape.shape[1], codes.exp.shape[1], codes.tex.shape[1])
    back: FaceCodes = to_codes(to_numbers(codes), sizes)
    for name, value in back.as_dict().items():
        torch.testing.assert_close(value, getattr(codes, name), msg=name)
