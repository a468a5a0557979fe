from dataclasses import replace
from pathlib import Path

import pytest
import torch

from drig.data.mirroring import Mirrored
from drig.diffusion.network import Rig
from drig.editing import Editor
from drig.faces.codes import FaceCodes
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head, neutral_codes
from drig.personalization import AlbumDataset, of_person
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


def test_a_person_has_the_mean_shape_and_skin_of_their_photos(editor: Editor, tmp_path: Path) -> None:
    faces = [editor.read(picture) for picture in heads(2, 192)]
    nobody, editor = editor, of_person(editor, faces)
    assert nobody.mean_shape is nobody.mean_skin is None
    before = nobody.edit(faces[0], faces[1], modes=["light"])
    codes = FaceCodes.cat([face.codes for face in faces])
    assert editor.mean_shape is not None
    assert editor.mean_skin is not None
    torch.testing.assert_close(editor.mean_shape, codes.shape.mean(0, keepdim=True))
    torch.testing.assert_close(editor.mean_skin, codes.tex.mean(0, keepdim=True))
    after = editor.edit(faces[0], faces[1], modes=["light"])
    assert torch.equal(after.codes.tex, editor.mean_skin)
    assert torch.equal(after.codes.light, editor.own(faces[1].codes).light)
    assert not torch.equal(after.codes.light, before.codes.light)
    torch.testing.assert_close(AlbumDataset(editor, faces)[1]["buffers"], editor.edit(faces[1]).buffers)
    editor.save(tmp_path / "person.safetensors")
    loaded = Editor.load(tmp_path / "person.safetensors")
    assert loaded.mean_skin is not None
    assert torch.equal(loaded.mean_skin, editor.mean_skin)
    assert torch.equal(loaded.edit(faces[0], faces[1], modes=["light"]).buffers, after.buffers)


def test_the_papers_estimator_keeps_every_photos_skin(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = [editor.read(picture) for picture in heads(2, 192)]
    monkeypatch.setattr(editor.estimator, "name", "deca")
    person = of_person(editor, faces)
    assert person.mean_shape is not None
    assert person.mean_skin is None
    assert person.own(faces[0].codes) is faces[0].codes


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
