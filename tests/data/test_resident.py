from typing import Any

import pytest
import torch
from torch import Tensor

from drig.data.mirroring import with_mirror_images
from drig.data.resident import ResidentDataset
from drig.errors import DrigError


def packed_faces(count: int = 5) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def planes(low: int, high: int, dtype: torch.dtype) -> Tensor:
        return torch.randint(low, high, (3, 8, 8), generator=generator).to(dtype)

    return [
        {
            "image": planes(0, 256, torch.uint8),
            "normal": planes(-127, 128, torch.int8),
            "albedo": planes(0, 128, torch.uint8),
            "light": torch.rand(9, 3, generator=generator),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("mirror", [False, True])
def test_it_holds_what_the_data_set_does_and_the_mirror_images_after_it(mirror: bool) -> None:
    faces: Any = packed_faces()
    counted: list[None] = []
    resident = ResidentDataset(faces, "cpu", mirror=mirror, on_item=lambda: counted.append(None))
    expected: Any = with_mirror_images(faces) if mirror else faces
    assert len(resident) == len(expected)
    assert len(counted) == 5
    chosen = torch.randperm(len(expected), generator=torch.Generator().manual_seed(1))
    batch = resident.batch(chosen)
    for place, index in enumerate(chosen.tolist()):
        for name, tensor in expected[index].items():
            assert torch.equal(resident[index][name], tensor)
            assert torch.equal(batch[name][place], tensor)
    with pytest.raises(IndexError):
        resident[len(expected)]


def test_a_data_set_that_leaves_no_room_on_the_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4_000, 80_000_000_000))
    with pytest.raises(DrigError, match=r"takes 0\.0 GB .*Train without --resident"):
        ResidentDataset(packed_faces(), "cuda")  # type: ignore[arg-type]
