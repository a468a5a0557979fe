from dataclasses import replace

import pytest
import torch

from drig.data.mirroring import Mirrored
from drig.diffusion.network import Rig
from drig.editing import Editor
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head, neutral_codes
from drig.personalization import AlbumDataset
from tests.pipelines.conftest import RIG, heads


@pytest.fixture
def editor() -> Editor:
    head = load_head("open")
    return Editor(Rig.from_seed(RIG, 0), head, load_estimator("fit", head))


def test_training_sees_the_buffers_that_editing_renders(editor: Editor) -> None:
    faces = [editor.read(picture) for picture in heads(2, 192)]
    own_shape = AlbumDataset(editor, faces[:1])[0]["buffers"]
    editor.mean_shape = faces[1].codes.shape + 2.0
    item = AlbumDataset(editor, faces[:1])[0]
    torch.testing.assert_close(item["buffers"], editor.edit(faces[0]).buffers)
    assert not torch.equal(item["buffers"], own_shape)
    assert item["image"].shape == (3, 32, 32)


def test_a_mirrored_photo_has_the_buffers_of_a_head_that_turns_the_other_way(editor: Editor) -> None:
    face = editor.read(heads(1, 192)[0])
    turns = torch.tensor([[0.0, 0.3, 0, 0, 0, 0], [0.0, -0.3, 0, 0, 0, 0]])
    codes = neutral_codes(editor.head, 2).replace(pose=turns)
    items = AlbumDataset(editor, [replace(face, codes=codes[i]) for i in range(2)])
    mirrored = Mirrored(items)[0]
    assert torch.equal(mirrored["image"], items[0]["image"].flip(-1))
    torch.testing.assert_close(Mirrored(Mirrored(items))[0]["buffers"], items[0]["buffers"])
    assert (mirrored["buffers"] - items[1]["buffers"]).abs().mean() < 0.01  # the skin itself is not symmetric
    assert (items[0]["buffers"].flip(-1) - items[1]["buffers"])[3].abs().mean() > 0.2
