"""The estimator as a whole, and its choice by name."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from drig.data.photos import read_photo
from drig.data.synthetic import read_truth, write_people
from drig.errors import DrigError
from drig.faces import ibug
from drig.faces.buffers import render_buffers
from drig.faces.camera import project
from drig.faces.codes import FaceCodes
from drig.faces.estimators import load_estimator
from drig.faces.head import HeadModel, load_head
from drig.faces.open_head import OpenHead


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head("open")


@pytest.fixture(scope="module")
def people(head: HeadModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tensor, Tensor, FaceCodes]:
    """Six synthetic portraits (N, 3, 128, 128), their true landmarks (N, 68, 2) and codes."""
    assert isinstance(head, OpenHead)
    folder = tmp_path_factory.mktemp("people")
    made = list(write_people(folder, people=range(3), photos=2, size=128, seed=11, head=head))
    truth = FaceCodes.cat([read_truth(path)[0] for path in made])
    portraits = torch.stack([torch.from_numpy(read_photo(path)) for path in made]).permute(0, 3, 1, 2) / 255
    return portraits, project(head.landmarks(truth, head.vertices(truth)), truth)[..., :2], truth


def test_a_synthetic_person_comes_back(head: HeadModel, people: tuple[Tensor, Tensor, FaceCodes]) -> None:
    portraits, landmarks, truth = people
    estimator = load_estimator("fit", head)
    codes = estimator.fit(portraits, landmarks)
    wanted, found = render_buffers(head, truth, 96), render_buffers(head, codes, 96)
    both = wanted.alpha * found.alpha
    assert both.sum() / torch.maximum(wanted.alpha, found.alpha).sum() > 0.92
    assert ((found.rendered - wanted.rendered).abs() * both).sum() / both.sum() / 3 < 0.06
    assert ((found.normal - wanted.normal).abs() * both).sum() / both.sum() / 3 < 0.1
    assert not codes.pose[:, 3:].any()
    again = estimator.fit(portraits, landmarks)
    for name, value in codes.as_dict().items():
        assert torch.equal(value, again.as_dict()[name]), name


def test_a_coarse_picture_is_read_as_if_it_were_enlarged(
    head: HeadModel, people: tuple[Tensor, Tensor, FaceCodes]
) -> None:
    portraits, landmarks, truth = people
    estimator = load_estimator("fit", head)
    coarse = functional.interpolate(portraits, (64, 64), mode="area")
    codes, fine = estimator.fit(coarse, landmarks), estimator.fit(portraits, landmarks)
    enlarged = functional.interpolate(coarse, (128, 128), mode="bicubic").clamp(0, 1)
    for name, value in estimator.fit(enlarged, landmarks).as_dict().items():
        assert torch.equal(value, codes.as_dict()[name]), name
    assert (codes.light - truth.light).square().mean() < 2.5 * (fine.light - truth.light).square().mean()


def test_without_landmarks_the_guess_alone_is_nearly_as_good(
    head: HeadModel, people: tuple[Tensor, Tensor, FaceCodes]
) -> None:
    portraits, landmarks, truth = people
    codes = load_estimator("fit", head).fit(portraits, None)
    placed = project(head.landmarks(codes, head.vertices(codes)), codes)[..., :2]
    left, right, _ = ibug.eyes_and_mouth(landmarks)
    error = (placed - landmarks).norm(dim=2).mean(1) / (left - right).norm(dim=1)
    assert error.max() < 0.12
    assert (codes.pose - truth.pose).abs().max() < 0.15


def test_landmarks_are_believed_where_the_network_is_lost(
    head: HeadModel, people: tuple[Tensor, Tensor, FaceCodes]
) -> None:
    """Pictures whose faces are not where FFHQ crops have them."""
    portraits, landmarks, truth = people
    columns = round(0.15 * portraits.shape[-1])
    moved = torch.roll(portraits, columns, dims=3)
    landmarks = landmarks + torch.tensor([2 * columns / portraits.shape[-1], 0])
    codes = load_estimator("fit", head).fit(moved, landmarks)
    assert (codes.pose - truth.pose).abs().max() < 0.2
    placed = project(head.landmarks(codes, head.vertices(codes)), codes)[..., :2]
    assert (placed - landmarks)[:, 17:].norm(dim=2).mean() < 0.03


def test_an_unknown_estimator_is_an_error(head: HeadModel) -> None:
    with pytest.raises(DrigError, match="choose one of: fit"):
        load_estimator("magic", head)


def test_an_estimator_for_another_head_is_an_error() -> None:
    class Other:
        name = "other"

    with pytest.raises(DrigError, match="'other'"):
        load_estimator("fit", Other())  # type: ignore[arg-type]
