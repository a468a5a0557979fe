"""The network that the `fit` estimator starts from, as it is shipped."""

from importlib.resources import files
from pathlib import Path

import pytest
import torch
from scipy.spatial.transform import Rotation

from drig.data.photos import read_photo
from drig.data.synthetic import read_truth, write_people
from drig.faces import regressor
from drig.faces.codes import FaceCodes
from drig.faces.open_head import OpenHead
from drig.faces.regressor import Regressor, Sizes, crop, to_codes, to_numbers

SEED = 7
"""Of people that neither the training nor the benchmark has."""


@pytest.fixture(scope="module")
def head() -> OpenHead:
    return OpenHead.load()


@pytest.fixture(scope="module")
def shipped() -> Regressor:
    return Regressor.load()


@pytest.fixture(scope="module")
def people(head: OpenHead, tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.Tensor, FaceCodes]:
    """(N, 3, 128, 128) portraits and their truth."""
    made = list(
        write_people(tmp_path_factory.mktemp("people"), people=range(6), photos=2, size=128, seed=SEED, head=head)
    )
    images = torch.stack([torch.from_numpy(read_photo(path)) for path in made]).permute(0, 3, 1, 2) / 255
    return images, FaceCodes.cat([read_truth(path)[0] for path in made])


def test_file_is_small_and_of_the_shipped_head(head: OpenHead, shipped: Regressor) -> None:
    assert (files("drig.faces") / regressor.ASSET).read_bytes().__len__() < 10 * 2**20
    assert shipped.sizes == Sizes(head.shape_size, head.exp_size, head.tex_size)


def test_heads_are_read_off_portraits_of_strangers(
    head: OpenHead, shipped: Regressor, people: tuple[torch.Tensor, FaceCodes]
) -> None:
    """Without landmarks; the benchmark has the numbers, these are bounds that an untrained network is far beyond."""
    images, truth = people
    found = shipped.guess(images)
    turn = Rotation.from_rotvec(found.pose[:, :3].numpy()) * Rotation.from_rotvec(truth.pose[:, :3].numpy()).inv()
    assert torch.from_numpy(turn.magnitude()).rad2deg().median() < 4
    assert (found.exp - truth.exp).abs().mean() < 0.6 * truth.exp.abs().mean()
    assert (found.light - truth.light).square().mean() < 0.5 * truth.light.var(0).mean()
    error, spread = (head.albedo(found) - head.albedo(truth)).square().mean(), head.albedo(truth).var(0).mean()
    assert error < 0.5 * spread


def test_a_guess_does_not_depend_on_its_batch(shipped: Regressor, people: tuple[torch.Tensor, FaceCodes]) -> None:
    images, _ = people
    together, alone = shipped.guess(images)[[3]], shipped.guess(images[3:4])
    for name, value in together.as_dict().items():
        torch.testing.assert_close(alone.as_dict()[name], value, atol=1e-4, rtol=1e-4, msg=name)


def test_landmarks_are_used_where_they_are_given(shipped: Regressor, people: tuple[torch.Tensor, FaceCodes]) -> None:
    images, _ = people
    where = shipped.mean_points.expand(len(images), -1, -1)
    assert not torch.allclose(shipped.guess(images, where).exp, shipped.guess(images).exp, atol=1e-3)


def test_numbers_and_codes_are_each_others_inverse(people: tuple[torch.Tensor, FaceCodes]) -> None:
    _, truth = people
    sizes = Sizes(truth.shape.shape[1], truth.exp.shape[1], truth.tex.shape[1])
    again = to_codes(to_numbers(truth), sizes)
    for name in ("shape", "exp", "pose", "cam", "light", "tex"):
        torch.testing.assert_close(again.as_dict()[name], truth.as_dict()[name], msg=name)


def test_facial_actions_stay_between_0_and_1() -> None:
    sizes = Sizes(2, 3, 1)
    numbers = torch.full((1, sum(sizes.parts.values())), 5.0)
    assert torch.equal(to_codes(numbers, sizes).exp, torch.ones(1, 3))
    assert torch.equal(to_codes(-numbers, sizes).exp, torch.zeros(1, 3))


def test_crop_is_the_same_part_of_any_size() -> None:
    small = torch.rand(1, 3, 40, 40)
    large = torch.nn.functional.interpolate(small, (640, 640), mode="bilinear")
    reference = torch.nn.functional.interpolate(small, (320, 320), mode="bilinear")
    assert crop(large).shape == (1, 3, regressor.SIDE, regressor.SIDE)
    assert (crop(large) - crop(reference)).abs().mean() < 0.02


def test_what_is_saved_is_read_again(shipped: Regressor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped.save(tmp_path / "weights.safetensors")
    monkeypatch.setattr(regressor, "ASSET", str(tmp_path / "weights.safetensors"))
    for name, value in Regressor.load().state_dict().items():
        assert torch.equal(value, shipped.state_dict()[name]), name
