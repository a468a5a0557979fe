"""Rendered heads as portraits: their truth is exact, and they are made in no time."""

import pytest
import torch

from drig.faces.buffers import render_buffers
from drig.faces.camera import project
from drig.faces.fit_light_prior import sample_lights
from drig.faces.head import neutral_codes
from drig.faces.open_head import OpenHead
from drig.training.regressor.portraits import SIZE, Portraits


@pytest.fixture(scope="package")
def head() -> OpenHead:
    return OpenHead.load()


@pytest.fixture(scope="package")
def portraits(head: OpenHead) -> Portraits:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(12, *shape, generator=generator)

    codes = neutral_codes(head, 12).replace(
        shape=0.7 * normal(head.shape_size),
        tex=0.5 * normal(head.tex_size),
        exp=(0.2 * normal(head.exp_size)).clamp(min=0),
        pose=torch.cat([torch.tensor([0.15, 0.3, 0.05]) * normal(3), torch.zeros(12, 3)], 1),
        cam=torch.tensor([6.0, 0.0, 0.0]) + torch.tensor([0.2, 0.01, 0.01]) * normal(3),
        light=0.5 * sample_lights(12, generator),
    )
    buffers = render_buffers(head, codes, SIZE)
    images = (buffers.rendered + 0.5 * (1 - buffers.alpha)).clamp(0, 1)
    landmarks = project(head.landmarks(codes, head.vertices(codes)), codes)[..., :2]
    return Portraits((images * 255).round().to(torch.uint8), landmarks, codes)
