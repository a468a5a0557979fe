"""The estimator as a whole, and its choice by name."""

import pytest
import torch

from drig.errors import DrigError
from drig.faces.buffers import render_buffers
from drig.faces.camera import project
from drig.faces.estimators import load_estimator
from drig.faces.head import HeadModel, load_head, neutral_codes


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head("open")


def test_a_rendered_head_comes_back(head: HeadModel) -> None:
    truth = neutral_codes(head, 2)
    truth = truth.replace(pose=torch.tensor([[0.1, 0.4, 0.0, 0, 0, 0], [0.0] * 6]))
    landmarks = project(head.landmarks(truth, head.vertices(truth)), truth)[..., :2]
    wanted = render_buffers(head, truth, 96)
    estimator = load_estimator("fit", head)
    codes = estimator.fit(wanted.rendered.clamp(0, 1), landmarks)
    found = render_buffers(head, codes, 96)
    both = wanted.alpha * found.alpha
    assert both.sum() / torch.maximum(wanted.alpha, found.alpha).sum() > 0.9
    assert ((found.rendered - wanted.rendered).abs() * both).sum() / both.sum() / 3 < 0.06
    assert ((found.normal - wanted.normal).abs() * both).sum() / both.sum() / 3 < 0.1
    assert not codes.pose[:, 3:].any()
    again = estimator.fit(wanted.rendered.clamp(0, 1), landmarks)
    for name, value in codes.as_dict().items():
        assert torch.equal(value, again.as_dict()[name]), name


def test_an_unknown_estimator_is_an_error(head: HeadModel) -> None:
    with pytest.raises(DrigError, match="choose one of: fit"):
        load_estimator("magic", head)


def test_an_estimator_for_another_head_is_an_error() -> None:
    class Other:
        name = "other"

    with pytest.raises(DrigError, match="'other'"):
        load_estimator("fit", Other())  # type: ignore[arg-type]
