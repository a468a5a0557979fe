import math

import pytest
import torch

from drig.faces.buffers import render_buffers
from drig.faces.codes import FaceCodes
from drig.faces.head import neutral_codes
from drig.faces.open_head import OpenHead
from drig.faces.skin import DOUBT, with_skin


@pytest.fixture(scope="module")
def head() -> OpenHead:
    return OpenHead.load()


def faces(head: OpenHead, spread: float) -> FaceCodes:
    """Four photos whose texture codes are this far apart."""
    generator = torch.Generator().manual_seed(3)
    tex = 0.4 + spread * torch.randn(4, head.tex_size, generator=generator)
    return neutral_codes(head, 4).replace(tex=tex)


def test_photos_of_one_person_get_one_skin_and_stay_as_bright(head: OpenHead) -> None:
    codes = faces(head, 0.1)
    own = with_skin(head, codes, codes.tex.mean(0, keepdim=True))
    assert torch.equal(own.tex, codes.tex.mean(0, keepdim=True).expand(4, -1))
    for name, value in codes.as_dict().items():
        if name not in ("tex", "light"):
            assert torch.equal(getattr(own, name), value)
    before, after = (render_buffers(head, each, 48) for each in (codes, own))
    brightness = [(each.rendered * each.alpha).sum((2, 3)) / each.alpha.sum((2, 3)) for each in (before, after)]
    plain = render_buffers(head, codes.replace(tex=own.tex), 48)
    changed = (plain.rendered * plain.alpha).sum((2, 3)) / plain.alpha.sum((2, 3))
    assert (brightness[1] - brightness[0]).abs().mean() < 0.4 * (changed - brightness[0]).abs().mean()


def test_the_light_of_somebody_with_another_skin_is_left_alone(head: OpenHead) -> None:
    dark, light = (neutral_codes(head).replace(tex=torch.full((1, head.tex_size), value)) for value in (-1.5, 1.5))
    ratio = head.skin_colour(dark) / head.skin_colour(light)
    assert ratio.log().abs().max() > 4 * DOUBT
    gain = with_skin(head, dark, light.tex).light / dark.light
    assert gain[dark.light != 0].log().abs().max() == pytest.approx(DOUBT, abs=1e-5)
    assert math.exp(DOUBT) < 1.1


def test_the_skins_colour_is_that_of_the_texture(head: OpenHead) -> None:
    codes = faces(head, 0.5)
    weight = head.regions["skin"] / head.regions["skin"].sum()
    torch.testing.assert_close(head.skin_colour(codes), (head.albedo(codes) * weight).sum((2, 3)), atol=0.01, rtol=0)
