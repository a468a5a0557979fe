"""The shipped open head: its file, its pose, its expressions, its landmarks and its colours."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from drig.errors import DrigError
from drig.faces.buffers import render_buffers
from drig.faces.camera import project
from drig.faces.codes import FaceCodes
from drig.faces.head import load_head, neutral_codes
from drig.faces.landmarks import LandmarkDetector
from drig.faces.open_head import OpenHead

UPPER_LIP, LOWER_LIP = 62, 66


@pytest.fixture(scope="module")
def head() -> OpenHead:
    return OpenHead.load()


def acting(head: OpenHead, name: str, value: float = 1.0) -> FaceCodes:
    """The mean head with one facial action."""
    exp = torch.zeros(1, head.exp_size)
    exp[:, head.expression_names.index(name)] = value
    return neutral_codes(head).replace(exp=exp)


def points(head: OpenHead, codes: FaceCodes) -> Tensor:
    return head.landmarks(codes, head.vertices(codes))[0]


def random_codes(head: OpenHead, count: int) -> FaceCodes:
    generator = torch.Generator().manual_seed(7)
    return neutral_codes(head, count).replace(
        shape=torch.randn(count, head.shape_size, generator=generator),
        tex=torch.randn(count, head.tex_size, generator=generator),
        exp=torch.rand(count, head.exp_size, generator=generator) * 0.3,
        pose=torch.randn(count, 6, generator=generator) * 0.2,
    )


def test_file_is_a_consistent_head_model(head: OpenHead) -> None:
    v = len(head.template) - 1
    assert 4000 < v < 6000
    assert head.faces.shape[1] == 3
    assert int(head.faces.max()) == v - 1
    assert bool((head.faces.flatten().bincount() > 0).all()), "every vertex is used"
    assert head.uv_faces.shape == head.faces.shape
    assert int(head.uv_faces.max()) == len(head.uvs) - 1
    assert float(head.uvs.min()) >= 0
    assert float(head.uvs.max()) <= 1
    assert 30 <= head.shape_size <= 100
    assert head.exp_size == len(head.expression_names) == 52
    assert head.tex_size == len(head.albedo_names) <= 20
    assert head.shape_basis.shape == (head.shape_size, v + 1, 3)
    assert head.expression_basis.shape == (52, v, 3)
    assert len(head.face_parts) == len(head.faces)
    torch.testing.assert_close(head.landmark_weights.sum(1), torch.ones(68))
    for name, mask in head.regions.items():
        assert mask.shape == head.albedo_mean.shape[1:], name
        assert 0 <= float(mask.min()) <= float(mask.max()) <= 1, name
        assert float(mask.max()) > 0.6, name


def test_skin_is_unwrapped_without_a_fold(head: OpenHead) -> None:
    skin = head.face_parts == head.part_names.index("skin")
    a, b, c = head.uvs.double()[head.uv_faces[skin]].unbind(1)
    (x1, y1), (x2, y2) = (b - a).T, (c - a).T
    signed = x1 * y2 - x2 * y1
    assert bool((signed >= 0).all()) or bool((signed <= 0).all())
    assert float(signed.abs().sum() / 2) > 0.75, "the skin fills the texture"


def test_head_is_in_metres_and_looks_at_the_viewer(head: OpenHead) -> None:
    codes = neutral_codes(head)
    vertices, marks = head.vertices(codes)[0], points(head, codes)
    width = vertices[:, 0].max() - vertices[:, 0].min()
    assert 0.15 < float(width) < 0.25
    nose, chin, brows = marks[30], marks[8], marks[17:27].mean(0)
    assert float(nose[2]) > float(vertices[:, 2].mean()) + 0.05
    assert float(chin[1]) < float(nose[1]) < float(brows[1])
    assert float(marks[36, 0]) < 0 < float(marks[45, 0]), "the person's right eye is on the image's left"
    outward = torch.linalg.cross(
        vertices[head.faces[:, 1]] - vertices[head.faces[:, 0]], vertices[head.faces[:, 2]] - vertices[head.faces[:, 0]]
    )
    skin = head.face_parts == head.part_names.index("skin")
    away = vertices[head.faces].mean(1) - torch.tensor([0.0, 0.03, 0.0])
    assert float(((outward * away).sum(1)[skin] > 0).float().mean()) > 0.8, "triangles face outward"


def test_zero_codes_are_the_template_and_albedo_mean(head: OpenHead) -> None:
    codes = neutral_codes(head, 2)
    torch.testing.assert_close(head.vertices(codes), head.template[:-1].expand(2, -1, -1), atol=1e-7, rtol=0)
    torch.testing.assert_close(head.albedo(codes), head.albedo_mean.expand(2, -1, -1, -1))


def test_global_rotation_is_rigid_about_the_pivot(head: OpenHead) -> None:
    codes = random_codes(head, 3)
    turned = codes.replace(pose=torch.cat([torch.tensor([[0.3, -0.8, 0.2]]).expand(3, -1), codes.pose[:, 3:]], 1))
    a, b = head.vertices(codes)[:, ::97].double(), head.vertices(turned)[:, ::97].double()
    torch.testing.assert_close(torch.cdist(a, a), torch.cdist(b, b), atol=1e-5, rtol=0)
    pivot = (head.template + torch.einsum("ns,svc->nvc", codes.shape, head.shape_basis))[:, -1:].double()
    torch.testing.assert_close(torch.cdist(a, pivot), torch.cdist(b, pivot), atol=1e-5, rtol=0)


def test_positive_yaw_turns_the_nose_to_the_right(head: OpenHead) -> None:
    pose = torch.tensor([[0.0, math.radians(30), 0.0, 0.0, 0.0, 0.0]])
    nose = points(head, neutral_codes(head).replace(pose=pose))[30]
    assert float(nose[0]) > 0.04


@pytest.mark.parametrize("how", ["expression", "jaw"])
def test_mouth_opens(head: OpenHead, how: str) -> None:
    rest = neutral_codes(head)
    jaw = torch.tensor([[0.0, 0.0, 0.0, 0.3, 0.0, 0.0]])
    codes = acting(head, "jawOpen") if how == "expression" else rest.replace(pose=jaw)
    before, after = points(head, rest), points(head, codes)

    def gap(marks: Tensor) -> float:
        return float(marks[UPPER_LIP, 1] - marks[LOWER_LIP, 1])

    assert gap(before) < 0.003
    assert gap(after) > 0.015
    assert float(before[8, 1] - after[8, 1]) > 0.015, "the chin goes down"
    still = [*range(17, 48)]
    torch.testing.assert_close(after[still], before[still], atol=0.002, rtol=0)


def test_jaw_carries_the_lower_teeth_and_tongue_only(head: OpenHead) -> None:
    pose = torch.tensor([[0.0, 0.0, 0.0, 0.3, 0.0, 0.0]])
    moved = (head.vertices(neutral_codes(head).replace(pose=pose))[0] - head.template[:-1]).norm(dim=1)

    def of(part: str) -> Tensor:
        corners: Tensor = head.faces[head.face_parts == head.part_names.index(part)]
        return torch.as_tensor(moved[corners.flatten()])

    assert float(of("teeth_lower").min()) > 0.005
    assert float(of("tongue").min()) > 0.0
    assert float(of("teeth_upper").max()) < 1e-6
    assert float(of("eye_left").max()) < 1e-6


@pytest.mark.parametrize(("side", "closes", "stays"), [("Left", (43, 47), (38, 40)), ("Right", (38, 40), (43, 47))])
def test_blink_closes_the_persons_own_eye(
    head: OpenHead, side: str, closes: tuple[int, int], stays: tuple[int, int]
) -> None:
    before, after = points(head, neutral_codes(head)), points(head, acting(head, f"eyeBlink{side}"))

    def opening(marks: Tensor, lids: tuple[int, int]) -> float:
        return float(marks[lids[0], 1] - marks[lids[1], 1])

    assert opening(after, closes) < 0.35 * opening(before, closes)
    assert opening(after, stays) == pytest.approx(opening(before, stays), abs=2e-4)


def test_smile_widens_the_mouth(head: OpenHead) -> None:
    exp = acting(head, "mouthSmileLeft").exp + acting(head, "mouthSmileRight").exp
    before, after = points(head, neutral_codes(head)), points(head, neutral_codes(head).replace(exp=exp))
    assert float(after[54, 0] - after[48, 0]) > float(before[54, 0] - before[48, 0]) + 0.004
    assert float(after[[48, 54], 1].mean()) > float(before[[48, 54], 1].mean())


def test_landmarks_are_symmetric_and_ordered(head: OpenHead) -> None:
    marks = points(head, neutral_codes(head))
    pairs = [(i, 16 - i) for i in range(8)] + [(i, 43 - i) for i in range(17, 22)]
    pairs += [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46), (31, 35), (32, 34)]
    pairs += [(48, 54), (49, 53), (50, 52), (59, 55), (58, 56), (60, 64), (61, 63), (67, 65)]
    right, left = marks[[a for a, _ in pairs]], marks[[b for _, b in pairs]]
    torch.testing.assert_close(right * torch.tensor([-1.0, 1, 1]), left, atol=0.0015, rtol=0)
    assert float(marks[[8, 27, 28, 29, 30, 33, 51, 57, 62, 66], 0].abs().max()) < 0.001
    assert bool((marks[17:27, 0].diff() > 0).all())
    assert bool((marks[27:31, 1].diff() < 0).all())


def test_dlib_agrees_on_rendered_people(head: OpenHead) -> None:
    count, size = 2, 256
    codes = random_codes(head, count)
    turn = torch.tensor([[0.0, 0.2, 0.0, 0, 0, 0], [0.1, -0.2, 0.05, 0, 0, 0]])
    codes = codes.replace(pose=turn, exp=torch.zeros(count, head.exp_size), tex=codes.tex * 0.5)
    buffers = render_buffers(head, codes, size)
    pictures = buffers.rendered.clamp(0, 1) + (1 - buffers.alpha) * 0.6
    places = (project(head.landmarks(codes, head.vertices(codes)), codes)[..., :2] + 1) * size / 2
    detector = LandmarkDetector()
    for picture, place in zip(pictures, places, strict=True):
        photo = (picture * 255).byte().permute(1, 2, 0).contiguous().numpy()
        found = torch.from_numpy(detector.detect(photo)[0].landmarks).float()
        eyes = (place[36:42].mean(0) - place[42:48].mean(0)).norm()
        error = (found - place).norm(dim=1) / eyes
        assert float(error[17:].mean()) < 0.04
        assert float(error[:17].mean()) < 0.15, "contour points do not slide"


def test_landmarks_follow_moved_vertices(head: OpenHead) -> None:
    codes = random_codes(head, 2)
    vertices, shift = head.vertices(codes), torch.tensor([0.01, -0.02, 0.03])
    torch.testing.assert_close(head.landmarks(codes, vertices + shift), head.landmarks(codes, vertices) + shift)


def test_shape_codes_have_unit_scale_and_no_pose(head: OpenHead) -> None:
    """A component neither shifts nor turns the skull, to first order: it is orthogonal to small rigid motions."""
    x, y, _ = head.template[:-1].T
    skin = torch.zeros(len(x), dtype=torch.bool)
    skin[head.faces[head.face_parts == 0].unique()] = True
    skull = skin & (head.jaw_weights[:, 0] < 0.01) & (y > -0.02) & (x.abs() < 0.072)
    place = head.template[:-1][skull] - head.template[:-1][skull].mean(0)
    change = head.shape_basis[:, :-1][:, skull]
    radius = place.square().sum().sqrt()
    turn = torch.linalg.cross(place.expand_as(change), change).sum(1).norm(dim=1) / radius**2
    assert float(turn.max()) < math.radians(1)
    assert float(change.mean(1).norm(dim=1).max()) < 0.001
    spread = head.shape_basis.square().sum((1, 2)).sqrt()
    assert bool((spread[:-1] >= spread[1:] * 0.99).all()), "sorted by variance"


def test_random_people_stay_head_like(head: OpenHead) -> None:
    codes = random_codes(head, 16).replace(exp=torch.zeros(16, 52), pose=torch.zeros(16, 6))
    marks = head.landmarks(codes, head.vertices(codes))
    eyes = (marks[:, 45] - marks[:, 36]).norm(dim=1)
    assert bool(((eyes > 0.075) & (eyes < 0.12)).all())
    assert bool((marks[:, 62, 1] - marks[:, 66, 1] < 0.004).all()), "mouths stay closed"


def test_albedo_stays_in_range_and_follows_its_names(head: OpenHead) -> None:
    codes = random_codes(head, 8)
    albedo = head.albedo(codes.replace(tex=codes.tex * 2))
    assert albedo.shape == (8, *head.albedo_mean.shape)
    assert float(albedo.min()) >= 0
    assert float(albedo.max()) <= 1
    lips, skin = head.regions["lips"] > 0.9, (head.regions["skin"] > 0.9) & (head.regions["scalp"] < 0.1)
    tone = head.albedo_basis[head.albedo_names.index("skin_tone")]
    red = head.albedo_basis[head.albedo_names.index("lips_red")]
    assert float(tone[:, skin].mean()) > 0.08
    assert float((red[0] - red[1])[lips].mean()) > 0.03
    assert float(red[:, skin].abs().max()) < 0.1


def test_gradients_reach_every_code(head: OpenHead) -> None:
    rest = neutral_codes(head, 2)
    fields = {name: getattr(rest, name).clone().requires_grad_() for name in ("shape", "exp", "pose", "tex")}
    codes = rest.replace(**fields)
    vertices = head.vertices(codes)
    loss = head.landmarks(codes, vertices).square().sum() + vertices.square().sum() + head.albedo(codes).sum()
    loss.backward()
    for name, value in fields.items():
        assert value.grad is not None
        assert bool(torch.isfinite(value.grad).all()), name
        assert bool((value.grad.abs().sum(1) > 0).all()), name
    assert bool((fields["pose"].grad[:, 3:].abs() > 0).any()), "also at zero rotation"


def test_load_head_knows_its_names(head: OpenHead) -> None:
    assert load_head("open").name == "open"
    with pytest.raises(DrigError, match="choose one of: open"):
        load_head("flames")


def test_a_folder_for_the_shipped_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DrigError, match="leave out its folder"):
        load_head("open", tmp_path)


def test_to_moves_every_tensor(head: OpenHead) -> None:
    moved = head.to("meta")
    assert moved.faces.device.type == moved.regions["skin"].device.type == moved.shape_basis.device.type == "meta"
