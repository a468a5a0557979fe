"""Photos of a head whose skin is known: they tell how it is turned, and what it does."""

import pytest
import torch
from pytorch3d.transforms import axis_angle_to_matrix, matrix_to_axis_angle
from torch import Tensor

from drig.faces import fit_person
from drig.faces.buffers import render_buffers
from drig.faces.camera import project
from drig.faces.codes import FaceCodes
from drig.faces.fit import Fit
from drig.faces.fit_person import UNEXPLAINED, PersonFit
from drig.faces.head import neutral_codes
from drig.faces.lighting import directional_light
from drig.faces.open_head import OpenHead
from drig.faces.regressor import Regressor

COUNT = 4


@pytest.fixture(scope="module")
def head() -> OpenHead:
    return OpenHead.load()


@pytest.fixture(scope="module")
def fitter(head: OpenHead) -> PersonFit:
    return PersonFit(head, Regressor.load())


@pytest.fixture(scope="module")
def skin(head: OpenHead) -> Tensor:
    """(1, 3, T, T) moles, and lips."""
    field = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    moles = torch.nn.functional.interpolate(field, (256, 256), mode="bicubic").mul(0.15).exp()
    return moles * (1 - 0.4 * head.regions["lips"]) * (1 - 0.5 * head.regions["brows"])


@pytest.fixture(scope="module")
def truth(head: OpenHead) -> FaceCodes:
    rng = torch.Generator().manual_seed(2)
    pose = torch.cat([0.2 * torch.randn(COUNT, 3, generator=rng), torch.zeros(COUNT, 3)], 1)
    exp = torch.zeros(COUNT, head.exp_size)
    exp[:, head.expression_names.index("mouthSmileLeft")] = exp[:, head.expression_names.index("mouthSmileRight")] = 0.5
    light = directional_light(torch.tensor([0.5, 0.3, 1.0]), torch.tensor([0.5, 0.4, 0.4]), 0.3)
    return neutral_codes(head, COUNT).replace(pose=pose, exp=exp, light=light.expand(COUNT, 9, 3).clone())


@pytest.fixture(scope="module")
def guess(truth: FaceCodes) -> FaceCodes:
    """The truth, off by as much as an estimator's."""
    rng = torch.Generator().manual_seed(3)
    pose = truth.pose.clone()
    pose[:, :3] += 0.02 * torch.randn(COUNT, 3, generator=rng)
    cam = truth.cam + torch.tensor([0.04, 0.002, 0.002]) * torch.randn(COUNT, 3, generator=rng)
    return truth.replace(pose=pose, cam=cam, exp=0.7 * truth.exp, light=1.1 * truth.light)


def photos_of(head: OpenHead, codes: FaceCodes, detail: Tensor | None) -> Tensor:
    buffers = render_buffers(head, codes, 128, detail=detail)
    return (buffers.rendered + 0.4 * (1 - buffers.alpha)).clamp(0, 1)


def degrees(a: FaceCodes, b: FaceCodes) -> Tensor:
    between = axis_angle_to_matrix(a.pose[:, :3]) @ axis_angle_to_matrix(b.pose[:, :3]).mT
    turned: Tensor = matrix_to_axis_angle(between).norm(dim=1).rad2deg()
    return turned


def apart(head: OpenHead, a: FaceCodes, b: FaceCodes) -> Tensor:
    """(N,) how far landmarks within the face are apart in the picture, NDC."""
    points = [project(head.landmarks(codes, head.vertices(codes)), codes)[:, 17:, :2] for codes in (a, b)]
    distance: Tensor = (points[0] - points[1]).norm(dim=2).mean(1)
    return distance


def test_a_known_skin_tells_pose_expression_and_light(
    head: OpenHead, fitter: PersonFit, truth: FaceCodes, guess: FaceCodes, skin: Tensor
) -> None:
    photos = photos_of(head, truth, skin)
    found, unexplained = fitter.fit(photos, guess, skin)
    assert (degrees(found, truth) < degrees(guess, truth)).float().mean() >= 0.75
    assert degrees(found, truth).mean() < 0.9 * degrees(guess, truth).mean()  # held firmly
    assert apart(head, found, truth).mean() < 0.5 * apart(head, guess, truth).mean()
    assert (found.light - truth.light)[:, 0].abs().mean() < 0.5 * (guess.light - truth.light)[:, 0].abs().mean()
    off = [(render_buffers(head, c, 128, detail=skin).rendered - photos).abs().mean() for c in (found, guess)]
    assert off[0] < off[1]
    assert unexplained.max() < 0.12
    for name in ("shape", "tex", "crop"):
        assert torch.equal(getattr(found, name), getattr(guess, name))
    assert found.exp.min() >= 0


def test_the_truth_is_left_alone(head: OpenHead, fitter: PersonFit, truth: FaceCodes, skin: Tensor) -> None:
    found, unexplained = fitter.fit(photos_of(head, truth, skin), truth, skin)
    assert degrees(found, truth).max() < 0.2
    assert apart(head, found, truth).max() < 0.003
    assert (found.light - truth.light).abs().max() < 0.1
    assert unexplained.max() < 0.06


def test_faces_do_not_depend_on_their_neighbours(
    head: OpenHead,
    fitter: PersonFit,
    truth: FaceCodes,
    guess: FaceCodes,
    skin: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photos = photos_of(head, truth, skin)
    together, unexplained = fitter.fit(photos, guess, skin)
    monkeypatch.setattr(fit_person, "TOGETHER", 3)
    in_parts = fitter.fit(photos, guess, skin)[0]
    torch.testing.assert_close(in_parts.pose, together.pose, atol=2e-3, rtol=0)
    alone, share = fitter.fit(photos[2:3], guess[2:3], skin)
    torch.testing.assert_close(alone.pose, together.pose[2:3], atol=2e-3, rtol=0)
    torch.testing.assert_close(share, unexplained[2:3], atol=2e-3, rtol=0)


def test_a_photo_of_somebody_else_is_noticed(
    head: OpenHead, fitter: PersonFit, truth: FaceCodes, guess: FaceCodes, skin: Tensor
) -> None:
    other = photos_of(head, truth, skin.flip(-1, -2).clamp(0.5, 1.3) * (1 - 0.7 * head.regions["cheeks"]))
    assert fitter.fit(other, guess, skin)[1].min() > UNEXPLAINED
    estimator = Fit(head, Regressor.load())
    mixed = torch.cat([photos_of(head, truth, skin)[:2], other[2:]])
    assert estimator.refit(mixed, guess, skin)[1].tolist() == [True, True, False, False]


def test_nothing_to_see_changes_little(fitter: PersonFit, guess: FaceCodes, skin: Tensor) -> None:
    for level in (0.0, 1.0):
        found, unexplained = fitter.fit(torch.full((COUNT, 3, 128, 128), level), guess, skin)
        assert degrees(found, guess).max() < 3
        assert torch.isfinite(found.light).all()
        assert torch.isfinite(unexplained).all()


def test_without_its_network_an_estimator_does_not_refit(head: OpenHead, guess: FaceCodes, skin: Tensor) -> None:
    found, shown = Fit(head, None).refit(torch.zeros(COUNT, 3, 128, 128), guess, skin)
    assert found is guess
    assert not shown.any()
