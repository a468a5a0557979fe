"""Face codes are checked, stay batched, and are edited without being changed."""

import pytest
import torch
from pytorch3d.transforms import axis_angle_to_matrix
from torch import Tensor

from drig.errors import DrigError
from drig.faces.codes import FaceCodes, blend, rotate_light, transfer


def some_codes(n: int, seed: int = 0, exp: int = 5) -> FaceCodes:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(n, *shape, generator=generator) * 0.5

    return FaceCodes(
        shape=draw(4), tex=draw(3), exp=draw(exp), pose=draw(6), cam=draw(3), light=draw(9, 3), crop=draw(2, 3)
    )


def test_indexing_stays_batched_and_round_trips() -> None:
    codes = some_codes(4)
    assert len(codes) == 4
    assert codes[1].shape.shape == (1, 4)
    assert torch.equal(codes[-1].pose, codes.pose[3:])
    assert torch.equal(codes[1:3].light, codes.light[1:3])
    assert torch.equal(codes[torch.tensor([2, 0])].exp, codes.exp[[2, 0]])
    joined = FaceCodes.cat([codes[:1], codes[1:]])
    assert all(torch.equal(a, joined.as_dict()[name]) for name, a in codes.as_dict().items())
    assert len(FaceCodes.from_dict(codes.as_dict())) == 4
    assert len(codes[:0]) == 0


def test_wrong_codes_are_refused() -> None:
    codes = some_codes(2)
    with pytest.raises(DrigError, match="pose"):
        codes.replace(pose=torch.zeros(2, 3))
    with pytest.raises(DrigError, match="float32"):
        codes.replace(light=codes.light.double())
    with pytest.raises(DrigError, match="differ"):
        codes.replace(cam=torch.zeros(3, 3))
    with pytest.raises(DrigError, match="fields"):
        FaceCodes.from_dict({"shape": codes.shape})
    with pytest.raises(DrigError, match="same head"):
        FaceCodes.cat([codes, some_codes(2, exp=6)])
    with pytest.raises(DrigError, match="at least one"):
        FaceCodes.cat([])


@pytest.mark.parametrize("targets", [1, 3])
def test_transfer_carries_only_its_modes(targets: int) -> None:
    source, target = some_codes(3), some_codes(targets, seed=1)
    before = source.as_dict() | {"pose": source.pose.clone()}
    light = transfer(source, target, ["light"])
    assert torch.equal(light.light, target.light.expand(3, 9, 3))
    assert all(torch.equal(light.as_dict()[k], before[k]) for k in before if k != "light")
    exp = transfer(source, target, ["exp"])
    assert torch.equal(exp.exp, target.exp.expand(3, 5))
    assert torch.equal(exp.pose[:, 3:], target.pose[:, 3:].expand(3, 3))
    assert torch.equal(exp.pose[:, :3], source.pose[:, :3])
    pose = transfer(source, target, {"pose"})
    assert torch.equal(pose.pose[:, :3], target.pose[:, :3].expand(3, 3))
    assert torch.equal(pose.pose[:, 3:], source.pose[:, 3:])
    assert torch.equal(pose.exp, source.exp)
    assert torch.equal(source.pose, before["pose"])


def test_transfer_refuses_what_it_cannot_do() -> None:
    source = some_codes(3)
    with pytest.raises(DrigError, match="light, exp, pose"):
        transfer(source, source, ["lights"])
    with pytest.raises(DrigError, match="list"):
        transfer(source, source, "light")
    with pytest.raises(DrigError, match="2 target faces"):
        transfer(source, some_codes(2), ["light"])
    with pytest.raises(DrigError, match="same head"):
        transfer(source, some_codes(3, exp=6), ["exp"])


def test_rotating_the_light_all_the_way_round_changes_nothing() -> None:
    codes = some_codes(2)
    third = axis_angle_to_matrix(torch.tensor([0.0, 2 * torch.pi / 3, 0.0]))
    turned = rotate_light(codes, third)
    assert (turned.light - codes.light).abs().max() > 0.1
    back = rotate_light(rotate_light(turned, third.expand(2, 3, 3)), third)
    torch.testing.assert_close(back.light, codes.light, atol=1e-5, rtol=0)


def test_blend_meets_its_ends_and_turns_along_the_arc() -> None:
    a, b = some_codes(2), some_codes(2, seed=1)
    for weight, end in ((0.0, a), (1.0, b)):
        mixed = blend(a, b, weight)
        for name, value in end.as_dict().items():
            torch.testing.assert_close(mixed.as_dict()[name], value, atol=1e-5, rtol=1e-5)
    left = a.replace(pose=torch.tensor([[0.0, -0.6, 0.0, 0.2, 0.0, 0.0]] * 2))
    right = a.replace(pose=torch.tensor([[0.0, 1.0, 0.0, 0.4, 0.0, 0.0]] * 2))
    expected = torch.tensor([[0.0, 0.2, 0.0, 0.3, 0.0, 0.0]] * 2)
    torch.testing.assert_close(blend(left, right, 0.5).pose, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(DrigError, match="as many"):
        blend(a, b[:1], 0.5)
