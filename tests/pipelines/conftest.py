"""Photos and stores small enough for tests of pipelines."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from drig.data.photos import save_png
from drig.data.records import Record
from drig.data.store import BufferStoreWriter
from drig.diffusion.network import RigConfig
from drig.faces.buffers import render_buffers
from drig.faces.head import load_head, neutral_codes
from drig.pictures import Picture, to_picture

RIG = RigConfig(size=32, base_channels=32, channel_mult=(1, 1), blocks_per_level=1, attention_size=0)
"""A network that trains in milliseconds."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On tensors this small threads gain nothing, and on a busy machine they wait ten times as long for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def heads(count: int, size: int) -> list[Picture]:
    """Pictures of one head that turns a little, on grey: enough for a face detector."""
    head = load_head("open")
    codes = neutral_codes(head, count)
    pose = codes.pose.clone()
    pose[:, 1] = torch.linspace(-0.3, 0.3, count)
    buffers = render_buffers(head, codes.replace(pose=pose, cam=codes.cam * torch.tensor([0.8, 1, 1])), size)
    return [
        to_picture(rendered + (1 - alpha) * 0.5)
        for rendered, alpha in zip(buffers.rendered, buffers.alpha, strict=True)
    ]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder as users have them: three photos in sub-folders, and two files that are none."""
    folder = tmp_path / "photos"
    for i, picture in enumerate(heads(3, 256)):
        save_png(folder / f"person_{i}" / "a.png", picture)
    save_png(folder / "empty.png", np.full((256, 256, 3), 128, np.uint8))
    (folder / "notes.jpg").write_text("not a photo")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A buffer store of eight records of noise, 32 px."""
    numbers = np.random.default_rng(0)
    folder = tmp_path / "buffers"
    with BufferStoreWriter(folder, size=RIG.size, head="open", estimator="fit") as writer:
        for i in range(8):
            writer.put(
                Record(
                    key=f"{i}.png",
                    image=numbers.integers(0, 256, (32, 32, 3), np.uint8),
                    normal=numbers.uniform(-1, 1, (3, 32, 32)).astype(np.float32),
                    albedo=numbers.uniform(0, 1, (3, 32, 32)).astype(np.float32),
                    alpha=np.ones((32, 32), np.bool_),
                    codes={"light": np.ones((9, 3), np.float32)},
                    landmarks=np.zeros((68, 2), np.float32),
                )
            )
    return folder
