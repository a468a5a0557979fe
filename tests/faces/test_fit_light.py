"""Rendered heads as photos: what the fit must find from their colours, and what must not lead it astray."""

import pytest
import torch
from torch import Tensor

from drig.faces.buffers import render_buffers
from drig.faces.codes import FaceCodes
from drig.faces.fit_light import LightFit
from drig.faces.fit_light_prior import light_prior, sample_lights, sphere
from drig.faces.head import neutral_codes
from drig.faces.lighting import directional_light, shade
from drig.faces.open_head import OpenHead

SIZE = 96


@pytest.fixture(scope="module")
def head() -> OpenHead:
    return OpenHead.load()


@pytest.fixture(scope="module")
def fitter(head: OpenHead) -> LightFit:
    return LightFit(head)


@pytest.fixture(scope="module")
def truth(head: OpenHead) -> FaceCodes:
    generator = torch.Generator().manual_seed(4)
    return neutral_codes(head, 12).replace(
        tex=0.7 * torch.randn(12, head.tex_size, generator=generator), light=sample_lights(12, generator)
    )


def photos_of(head: OpenHead, codes: FaceCodes) -> Tensor:
    buffers = render_buffers(head, codes, SIZE)
    return (buffers.rendered + 0.4 * (1 - buffers.alpha)).clamp(0, 1)


def shading_error(fitted: FaceCodes, truth: FaceCodes, *, front: bool) -> Tensor:
    """(N,) mean difference on half of the sphere, relative to the true shading of the front."""
    directions = sphere(200)
    a, b = shade(directions, fitted.light), shade(directions, truth.light)
    half = (directions[:, 2] > 0) == front
    return (a - b)[:, half].abs().mean((1, 2)) / b[:, directions[:, 2] > 0].mean((1, 2))


def test_light_and_skin_are_found(head: OpenHead, fitter: LightFit, truth: FaceCodes) -> None:
    photos = photos_of(head, truth)
    fitted = fitter.fit(photos, truth.replace(light=torch.zeros_like(truth.light), tex=torch.zeros_like(truth.tex)))

    buffers = render_buffers(head, fitted, SIZE)
    difference = (buffers.rendered.clamp(0, 1) - photos).abs() * buffers.alpha
    assert difference.sum() / buffers.alpha.sum() / 3 < 0.04  # eyes, ears and scalp included, which are not looked at
    # How bright the light is and how dark the skin cannot be told apart exactly: that is most of these errors.
    assert shading_error(fitted, truth, front=True).mean() < 0.15
    assert shading_error(fitted, truth, front=False).mean() < 0.2
    assert (fitted.tex[:, 0] - truth.tex[:, 0]).abs().mean() < 0.45
    assert fitted.tex.abs().max() < 3


def test_the_direction_of_light_is_found(head: OpenHead, fitter: LightFit) -> None:
    directions = torch.tensor([[-1.0, 0, 1], [1, 0, 1], [0, 1, 1], [0, -0.7, 1]])
    lamps = torch.stack([directional_light(direction, torch.full((3,), 0.7), 0.4) for direction in directions])
    codes = neutral_codes(head, 4).replace(light=lamps)
    fitted = fitter.fit(photos_of(head, codes), codes)
    found = torch.nn.functional.normalize(fitted.light[:, 1:4].mean(2), dim=1)  # band 1 is a vector towards the light
    cosine = (found * torch.nn.functional.normalize(directions, dim=1)).sum(1)
    assert cosine.min() > 0.8


def test_hair_over_the_forehead_changes_little(head: OpenHead, fitter: LightFit, truth: FaceCodes) -> None:
    photos = photos_of(head, truth)
    plain = fitter.fit(photos, truth)
    photos[:, :, : int(0.42 * SIZE)] = torch.tensor([0.15, 0.1, 0.08])[:, None, None]
    covered = fitter.fit(photos, truth)
    assert shading_error(covered, plain, front=True).mean() < 0.12
    assert (covered.tex[:, 0] - plain.tex[:, 0]).abs().mean() < 0.3


@pytest.mark.parametrize("level", [0.0, 0.02, 1.0])
def test_light_stays_sane_on_photos_that_say_nothing(head: OpenHead, fitter: LightFit, level: float) -> None:
    fitted = fitter.fit(torch.full((1, 3, SIZE, SIZE), level), neutral_codes(head))
    shading = shade(sphere(200), fitted.light)
    assert shading.min() > 0
    assert shading.max() < 4
    assert fitted.tex.abs().max() < 5


def test_shading_is_positive_all_over_the_sphere(head: OpenHead, fitter: LightFit) -> None:
    codes = neutral_codes(head, 6)
    generator = torch.Generator().manual_seed(5)
    noise = torch.nn.functional.interpolate(torch.rand(6, 3, 5, 5, generator=generator), (SIZE, SIZE), mode="bilinear")
    fitted = fitter.fit(noise, codes)
    assert shade(sphere(400), fitted.light).min() > -0.01


def test_a_face_is_fitted_alike_alone_and_in_company(head: OpenHead, fitter: LightFit, truth: FaceCodes) -> None:
    codes = truth.replace(cam=truth.cam * torch.linspace(0.4, 1.2, 12)[:, None])  # each covers another number of pixels
    photos = photos_of(head, codes)
    together, alone = fitter.fit(photos, codes), fitter.fit(photos[3:4], codes[3])
    torch.testing.assert_close(together[3].light, alone.light, atol=2e-3, rtol=0)
    torch.testing.assert_close(together[3].tex, alone.tex, atol=5e-3, rtol=0)


def test_a_head_out_of_the_picture_gets_the_typical_light(head: OpenHead, fitter: LightFit) -> None:
    codes = neutral_codes(head)
    away = codes.replace(cam=torch.tensor([[6.0, 5.0, 0.0]]))
    fitted = fitter.fit(torch.full((1, 3, SIZE, SIZE), 0.5), away)
    assert torch.isfinite(fitted.light).all()
    assert not fitted.tex.any()


def test_simulated_lights_light_faces() -> None:
    lights = sample_lights(500, torch.Generator().manual_seed(0))
    directions = sphere(300)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(300))
    torch.testing.assert_close(directions.mean(0), torch.zeros(3), atol=0.01, rtol=0)
    shading = shade(directions, lights)
    assert shading.min() > -0.05
    assert abs(shading[:, directions[:, 2] > 0.5].mean().item() - 1) < 0.05
    prior = light_prior()
    torch.testing.assert_close(prior.precision, prior.precision.T, rtol=1e-3, atol=1e-2)
    assert torch.linalg.eigvalsh(prior.precision).min() > 0
