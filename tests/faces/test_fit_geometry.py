"""Heads whose truth is known: what the fit must find from their landmarks."""

import pytest
import torch
from pytorch3d.transforms import axis_angle_to_matrix, matrix_to_axis_angle
from scipy.spatial.transform import Rotation
from torch import Tensor

from drig.faces import ibug
from drig.faces.camera import project
from drig.faces.codes import FaceCodes
from drig.faces.fit_contour import SLIDING, Contour
from drig.faces.fit_geometry import LIMITS, UNSEEN, Geometry, GeometryFit, GeometryPrior
from drig.faces.head import neutral_codes
from drig.faces.open_head import OpenHead


@pytest.fixture(scope="module")
def head() -> OpenHead:
    return OpenHead.load()


@pytest.fixture(scope="module")
def fitter(head: OpenHead) -> GeometryFit:
    return GeometryFit(head)


def random_heads(head: OpenHead, count: int = 16) -> FaceCodes:
    generator = torch.Generator().manual_seed(1)
    exp = torch.zeros(count, head.exp_size)
    exp[:, head.expression_names.index("jawOpen")] = torch.linspace(0, 0.8, count)
    for name in ("mouthSmileLeft", "mouthSmileRight"):
        exp[:, head.expression_names.index(name)] = torch.linspace(0, 0.8, count).roll(count // 2)
    turn = torch.tensor([0.15, 0.3, 0.1]) * torch.randn(count, 3, generator=generator)
    return neutral_codes(head, count).replace(
        shape=0.8 * torch.randn(count, head.shape_size, generator=generator),
        exp=exp,
        pose=torch.cat([turn, torch.zeros(count, 3)], 1),
        cam=torch.tensor([7.0, 0.01, -0.02]).repeat(count, 1),
    )


def geometry_of(codes: FaceCodes) -> Geometry:
    return Geometry(axis_angle_to_matrix(codes.pose[:, :3]), codes.cam, codes.shape, codes.exp)


def landmarks_of(head: OpenHead, codes: FaceCodes) -> Tensor:
    return project(head.landmarks(codes, head.vertices(codes)), codes)[..., :2]


def degrees_apart(geometry: Geometry, codes: FaceCodes) -> Tensor:
    fitted, truth = Rotation.from_matrix(geometry.rotation.numpy()), Rotation.from_rotvec(codes.pose[:, :3].numpy())
    return torch.from_numpy((fitted * truth.inv()).magnitude()).rad2deg()


def misfit(head: OpenHead, geometry: Geometry | None, codes: FaceCodes) -> Tensor:
    """Mean distance of the inner landmarks of unturned heads, mm, after moving and scaling: (N,)."""
    fitted = neutral_codes(head, len(codes))
    if geometry is not None:
        fitted = fitted.replace(shape=geometry.shape, exp=geometry.exp)
    truth = codes.replace(pose=torch.zeros_like(codes.pose))
    a, b = (head.landmarks(c, head.vertices(c))[:, 17:] for c in (fitted, truth))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    scale = (a * b).sum((1, 2), keepdim=True) / a.square().sum((1, 2), keepdim=True)
    metres: Tensor = (a * scale - b).norm(dim=2).mean(1)
    return 1000 * metres


def test_random_heads_are_found(head: OpenHead, fitter: GeometryFit) -> None:
    codes = random_heads(head)
    landmarks = landmarks_of(head, codes)
    eyes = (landmarks[:, 36:42].mean(1) - landmarks[:, 42:48].mean(1)).norm(dim=1)
    noise = 0.01 * eyes[:, None, None] * torch.randn(16, 68, 2, generator=torch.Generator().manual_seed(2))
    geometry = fitter.fit(landmarks + noise)

    assert degrees_apart(geometry, codes).mean() < 2.5
    assert degrees_apart(geometry, codes).max() < 7
    assert misfit(head, geometry, codes).mean() < 0.45 * misfit(head, None, codes).mean()
    jaw = head.expression_names.index("jawOpen")
    assert (geometry.exp[:, jaw] - codes.exp[:, jaw]).abs().mean() < 0.12

    fitted = codes.replace(
        shape=geometry.shape,
        exp=geometry.exp,
        cam=geometry.cam,
        pose=torch.cat([matrix_to_axis_angle(geometry.rotation), torch.zeros(16, 3)], 1),
    )
    error = (landmarks_of(head, fitted) - landmarks).norm(dim=2)[:, ibug.CONTOUR.stop :].mean(1) / eyes
    assert error.max() < 0.03


def test_the_mean_head_at_rest_is_itself(head: OpenHead, fitter: GeometryFit) -> None:
    geometry = fitter.fit(landmarks_of(head, neutral_codes(head)))
    assert geometry.exp.sum() < 0.05
    assert geometry.shape.norm() < 0.6
    assert degrees_apart(geometry, neutral_codes(head)).item() < 1
    torch.testing.assert_close(geometry.cam, neutral_codes(head).cam, rtol=0.02, atol=0.002)


def test_actions_stay_within_their_bounds(head: OpenHead, fitter: GeometryFit) -> None:
    landmarks = landmarks_of(head, random_heads(head))
    landmarks[:, ibug.MOUTH] += 0.1 * torch.randn(16, 20, 2, generator=torch.Generator().manual_seed(3))
    exp = fitter.fit(landmarks).exp
    assert exp.min() >= 0
    assert exp.max() <= 1
    assert exp.max() > 0.5  # the bounds were tried
    for name, values in zip(head.expression_names, exp.T, strict=True):
        assert values.max() <= LIMITS.get(name, 1) + 1e-6, name
        if name.startswith(UNSEEN):
            assert not values.any(), name


def test_a_face_is_fitted_alike_alone_and_in_company(head: OpenHead, fitter: GeometryFit) -> None:
    landmarks = landmarks_of(head, random_heads(head))
    together, alone = fitter.fit(landmarks), fitter.fit(landmarks[5:6])
    for name, value in vars(alone).items():
        torch.testing.assert_close(getattr(together, name)[5:6], value, atol=2e-3, rtol=1e-3, msg=name)


def test_a_landmark_far_off_moves_little(head: OpenHead, fitter: GeometryFit) -> None:
    codes = random_heads(head)
    landmarks = landmarks_of(head, codes)
    landmarks[:, 20] += torch.tensor([0.0, -0.3])  # a brow in the hair
    assert degrees_apart(fitter.fit(landmarks), codes).mean() < 3.5


def test_the_contour_slides_on_the_side_that_turns_away(head: OpenHead) -> None:
    contour = Contour(head)
    codes = neutral_codes(head, 2).replace(pose=torch.tensor([[0.0] * 6, [0, 0.6, 0, 0, 0, 0]]))

    def points(codes: FaceCodes) -> Tensor:
        return (head.vertices(codes)[:, contour.corners] * contour.weights[:, :, None]).sum(2)

    chosen = contour.choose(points(codes))
    rest = points(neutral_codes(head))[0]
    forward = rest[chosen, 2] - rest[:68, 2]  # (2, 68) metres in front of the landmark's own place
    assert not forward[:, [*range(6, 11), *range(17, 68)]].any()
    right_side = list(SLIDING[6:])  # the head looks to the image's right, so that side is hidden
    assert forward[1, right_side].mean() > forward[0, right_side].mean() + 0.01
    assert forward[1, list(SLIDING[:6])].mean() < 0.01


def test_a_step_leads_from_one_geometry_to_the_other(head: OpenHead, fitter: GeometryFit) -> None:
    there, here = (geometry_of(random_heads(head)[i]) for i in (range(8), range(8, 16)))
    arrived = here.moved(there.step_from(here), fitter.limit)
    for name, value in vars(there).items():
        torch.testing.assert_close(getattr(arrived, name), value, atol=1e-4, rtol=1e-4, msg=name)


def test_what_is_believed_before_counts_as_much_as_it_is_sure(head: OpenHead, fitter: GeometryFit) -> None:
    codes = random_heads(head)
    truth, landmarks = geometry_of(codes), landmarks_of(head, codes)
    wrong = truth.moved(0.3 * torch.ones(16, 6 + head.shape_size + head.exp_size), fitter.limit)
    weights = torch.eye(6 + head.shape_size + head.exp_size)
    sure = fitter.fit(landmarks, GeometryPrior(wrong, 1e8 * weights))
    assert torch.allclose(sure.shape, wrong.shape, atol=0.01)
    unsure = fitter.fit(landmarks, GeometryPrior(wrong, 1e-2 * weights))
    assert degrees_apart(unsure, codes).mean() < 0.5 * degrees_apart(wrong, codes).mean()
    right = fitter.fit(landmarks, GeometryPrior(truth, 1e3 * weights))
    assert degrees_apart(right, codes).mean() < 0.5 * degrees_apart(fitter.fit(landmarks), codes).mean()
