import numpy as np
import pytest
import torch

from drig.data.released.light import solve_light
from drig.errors import PhotoRejected
from drig.faces.lighting import shade_image
from tests.data.test_records import ball


def buffers() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rendered, normal and albedo of a ball, and its light."""
    record = ball(64)
    shading = shade_image(torch.from_numpy(record.normal)[None], torch.from_numpy(record.light)[None])[0].numpy()
    return record.albedo * shading, record.normal, record.albedo, record.light


def test_the_light_comes_back() -> None:
    rendered, normal, albedo, light = buffers()
    np.testing.assert_allclose(solve_light(rendered, normal, albedo), light, atol=2e-5)


@pytest.mark.parametrize("colour", range(3))
def test_a_buffer_that_no_light_explains_is_rejected(colour: int) -> None:
    rendered, normal, albedo, _ = buffers()
    rendered[colour] += 0.01 * np.random.default_rng(0).normal(size=(64, 64)) * (albedo[0] > 0)
    with pytest.raises(PhotoRejected, match="no light explains its rendered buffer"):
        solve_light(rendered.astype(np.float32), normal, albedo)


def test_no_face_is_rejected() -> None:
    nothing = np.zeros((3, 16, 16), np.float32)
    with pytest.raises(PhotoRejected, match="no face"):
        solve_light(nothing, nothing, nothing)


def test_a_wall_has_some_light_that_explains_it() -> None:
    """One normal everywhere: many lights do, and none is a number that is not finite."""
    normal = np.zeros((3, 16, 16), np.float32)
    normal[2] = 1
    albedo = np.full((3, 16, 16), 0.5, np.float32)
    light = solve_light(albedo * np.float32(0.7), normal, albedo)
    shading = shade_image(torch.from_numpy(normal)[None], torch.from_numpy(light)[None])
    np.testing.assert_allclose(shading.numpy(), 0.7, atol=1e-5)
