"""Photos of heads whose skin is known, unwrapped."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from drig.faces.buffers import render_buffers
from drig.faces.codes import FaceCodes
from drig.faces.head import neutral_codes
from drig.faces.open_head import OpenHead
from drig.faces.unwrapping import FURTHEST, unwrap

SIZE = 192


@pytest.fixture(scope="module")
def head() -> OpenHead:
    return OpenHead.load()


@pytest.fixture(scope="module")
def codes(head: OpenHead) -> FaceCodes:
    """Three photos: from the front and from both sides."""
    turned = torch.zeros(3, 6)
    turned[:, 1] = torch.tensor([0.0, 0.6, -0.6])
    return neutral_codes(head, 3).replace(pose=turned)


@pytest.fixture(scope="module")
def painted(head: OpenHead) -> Tensor:
    """(1, 3, T, T) a skin of darker lips and cheeks."""
    lips, cheeks = head.regions["lips"], head.regions["cheeks"]
    return torch.stack([1 - 0.2 * lips - 0.3 * cheeks, 1 - 0.5 * lips, 1 - 0.4 * lips - 0.3 * cheeks])[None]


def photos(head: OpenHead, codes: FaceCodes, detail: Tensor | None) -> NDArray[np.uint8]:
    rendered = render_buffers(head, codes, SIZE, detail=detail).rendered.clamp(0, 1)
    return (255 * rendered).round().byte().permute(0, 2, 3, 1).numpy()


def test_what_the_head_explains_has_no_detail(head: OpenHead, codes: FaceCodes) -> None:
    unwrapped = unwrap(head, codes, photos(head, codes, None))
    seen = unwrapped.weight.amax(0, keepdim=True) > 0.5
    assert 0.1 < seen.float().mean() < 0.9
    assert (unwrapped.detail() - 1).abs().where(seen, torch.zeros(())).mean() < 0.02


def test_what_is_painted_on_the_skin_is_found(head: OpenHead, codes: FaceCodes, painted: Tensor) -> None:
    detail = unwrap(head, codes, photos(head, codes, painted)).detail()
    for region, colour in (("lips", [0.8, 0.5, 0.6]), ("cheeks", [0.7, 1.0, 0.7])):
        inside = (head.regions[region] > 0.9).expand(1, 3, -1, -1)
        found = detail[inside].view(3, -1).median(1).values
        torch.testing.assert_close(found, torch.tensor(colour), atol=0.1, rtol=0)  # blurred, and a little doubted
    # An edit that shows it is the photo that was not there.
    turned = codes[:1].replace(pose=torch.tensor([[0.1, 0.3, 0, 0, 0, 0]]))
    truth, plain, own = (photos(head, turned, each).astype(float) for each in (painted, None, detail))
    assert np.square(own - truth).mean() < 0.2 * np.square(plain - truth).mean()


def test_the_far_side_of_a_turned_head_is_not_seen(head: OpenHead, codes: FaceCodes) -> None:
    weight = unwrap(head, codes, photos(head, codes, None)).weight  # (3, 1, T, T)
    cheeks = head.regions["cheeks"] > 0.5
    left = cheeks & (torch.arange(cheeks.shape[1]) < cheeks.shape[1] / 2)
    sides = [(weight[i, 0][left].mean(), weight[i, 0][cheeks & ~left].mean()) for i in (1, 2)]
    assert (sides[0][0] - sides[0][1]) * (sides[1][0] - sides[1][1]) < 0
    assert min(sides[0]) < 0.5 * max(sides[0])
    inside = head.regions["mouth"] > 0.9  # behind closed lips
    assert weight[0, 0][inside].mean() < 0.1
    assert weight.min() >= 0


def test_each_photo_is_left_out_of_its_own_detail(head: OpenHead, codes: FaceCodes, painted: Tensor) -> None:
    shown = photos(head, codes, painted)
    unwrapped = unwrap(head, codes, shown)
    others = unwrapped.detail_of_others()
    for i in range(3):
        rest = [j for j in range(3) if j != i]
        alone = unwrap(head, codes[rest], shown[rest]).detail()
        torch.testing.assert_close(others[i : i + 1], alone, atol=2e-3, rtol=2e-3)
    assert torch.equal(unwrap(head, codes[:1], shown[:1]).detail_of_others(), torch.ones(1, *painted.shape[1:]))


def test_what_one_photo_sees_alone_counts_little(head: OpenHead, codes: FaceCodes, painted: Tensor) -> None:
    codes = FaceCodes.cat([codes, codes])
    shown = photos(head, codes, painted)
    clean = unwrap(head, codes, shown).detail()
    shown[0] //= 4  # a cast shadow
    unwrapped = unwrap(head, codes, shown)
    seen = (unwrapped.weight[1:].sum(0) > 1)[0]
    off = (unwrapped.detail() / clean).log().abs()[0, :, seen].mean()
    assert off < 0.03 < np.log(4) / len(codes) / 4  # a quarter of the mean's error


def test_a_photo_of_something_else_is_bounded(head: OpenHead, codes: FaceCodes) -> None:
    for colour in (0, 255):
        detail = unwrap(head, codes, np.full((3, SIZE, SIZE, 3), colour, np.uint8)).detail()
        assert torch.isfinite(detail).all()
        assert detail.log().abs().max() <= FURTHEST + 1e-3
