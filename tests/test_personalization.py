from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from drig.data.mirroring import Mirrored
from drig.data.photos import to_network
from drig.diffusion.network import Rig
from drig.editing import Editor
from drig.faces.codes import FaceCodes
from drig.faces.estimators import Estimator, load_estimator
from drig.faces.head import load_head, neutral_codes
from drig.faces.likeness import NOBODY, Likeness
from drig.faces.unwrapping import unwrap
from drig.personalization import AlbumDataset, album_dataset
from tests.pipelines.conftest import RIG, heads


@pytest.fixture
def editor() -> Editor:
    head = load_head("open")
    return Editor(Rig.from_seed(RIG, 0), head, load_estimator("fit", head), follows_skin=True)


def test_training_sees_the_buffers_that_editing_renders(editor: Editor) -> None:
    faces = [editor.read(picture) for picture in heads(2, 192)]
    own_shape = AlbumDataset(editor, faces[:1])[0]["buffers"]
    editor.likeness = Likeness(mean_shape=faces[1].codes.shape + 2.0)
    item = AlbumDataset(editor, faces[:1])[0]
    torch.testing.assert_close(item["buffers"], editor.edit(faces[0]).buffers)
    assert not torch.equal(item["buffers"], own_shape)
    assert item["image"].shape == (3, 32, 32)


def test_a_person_has_the_mean_shape_and_skin_of_their_photos(editor: Editor, tmp_path: Path) -> None:
    faces = [editor.read(picture) for picture in heads(2, 192)]
    nobody, (editor, _) = editor, editor.of_person(faces)
    assert nobody.likeness is NOBODY
    before = nobody.edit(faces[0], faces[1], modes=["light"])
    codes = FaceCodes.cat([face.codes for face in faces])
    likeness = editor.likeness
    assert likeness.mean_shape is not None
    assert likeness.mean_skin is not None
    assert likeness.skin_detail is not None
    torch.testing.assert_close(likeness.mean_shape, codes.shape.mean(0, keepdim=True))
    torch.testing.assert_close(likeness.mean_skin, codes.tex.mean(0, keepdim=True))
    after = editor.edit(faces[0], faces[1], modes=["light"])
    assert torch.equal(after.codes.tex, likeness.mean_skin)
    assert torch.equal(after.codes.light, editor.reread(faces[1]).codes.light)
    assert not torch.equal(after.codes.light, before.codes.light)
    source = editor.reread(faces[1])
    torch.testing.assert_close(AlbumDataset(editor, [source])[0]["buffers"], editor.edit(faces[1]).buffers)
    editor.save(tmp_path / "person.safetensors")
    loaded = Editor.load(tmp_path / "person.safetensors")
    for name, tensor in likeness.tensors().items():
        assert torch.equal(getattr(loaded.likeness, name), tensor.float())
    assert torch.equal(loaded.edit(faces[0], faces[1], modes=["light"]).buffers, after.buffers)


def test_a_photo_is_learnt_from_with_the_skin_that_the_others_show(editor: Editor) -> None:
    faces = [editor.read(picture) for picture in heads(3, 192)]
    person, known = editor.of_person(faces)
    items = album_dataset(person, known, mirror=False)
    for i, face in enumerate(known):
        others = editor.of_person([other for other in faces if other is not faces[i]])[0].likeness
        detail = unwrap(person.head, face.codes, face.portrait.seen[None]).detail()
        # Not bit for bit: the others alone have another mean skin, and are read again by each other.
        near, far = (AlbumDataset(person, [face], [each])[0]["buffers"] for each in (others.skin_detail, detail))
        assert (items[i]["buffers"] - near).abs().mean() < 0.6 * (items[i]["buffers"] - far).abs().mean()


def test_the_photos_of_a_person_are_read_again_by_the_skin_that_the_others_show(editor: Editor) -> None:
    faces = [editor.read(picture) for picture in heads(3, 192)]
    person, known = editor.of_person(faces)
    plain = AlbumDataset(person, faces)
    for i, (before, after) in enumerate(zip(faces, known, strict=True)):
        assert after.portrait is before.portrait
        assert not torch.equal(after.codes.pose, before.codes.pose)
        photo, again = to_network(after.portrait.image) / 2 + 0.5, AlbumDataset(person, [after])[0]["buffers"]
        off = [(b[:3] - photo).abs()[:, again[3:6].any(0)].mean() for b in (again, plain[i]["buffers"])]
        assert off[0] < off[1]


def test_somebody_elses_photo_keeps_what_was_read_of_it(editor: Editor) -> None:
    faces = [editor.read(picture) for picture in heads(3, 192)]
    person, _ = editor.of_person(faces)
    dark = np.where(np.arange(len(faces[0].portrait.seen))[:, None, None] % 16 < 8, 20, faces[0].portrait.seen)
    portrait = replace(faces[0].portrait, image=dark.astype(np.uint8), detail=None)
    stranger = replace(faces[0], portrait=portrait)
    assert torch.equal(person.reread(stranger).codes.pose, stranger.codes.pose)
    assert torch.equal(person.reread(stranger).codes.shape, stranger.codes.shape)
    assert not torch.equal(person.reread(faces[0]).codes.pose, faces[0].codes.pose)


def test_the_detail_of_a_skin_is_for_rigs_that_have_learnt_it(editor: Editor, tmp_path: Path) -> None:
    faces = [editor.read(picture) for picture in heads(2, 192)]
    with_detail, known = editor.of_person(faces)
    editor.follows_skin = False
    without, kept = editor.of_person(faces)
    assert kept == faces
    assert without.likeness.skin_detail is None
    assert without.likeness.mean_skin is not None
    pairs = ((with_detail, known), (without, kept))
    items = [album_dataset(each, album, mirror=False)[0]["buffers"] for each, album in pairs]
    assert not torch.equal(items[0], items[1])
    for each in (with_detail, without):
        each.save(tmp_path / "weights.safetensors")
        assert Editor.load(tmp_path / "weights.safetensors").follows_skin == each.follows_skin


class Deca:
    """Some other estimator."""

    name = "deca"

    def __init__(self, guess: Estimator) -> None:
        self.fit = guess.fit


def test_the_papers_estimator_keeps_every_photos_skin(editor: Editor) -> None:
    editor = Editor(editor.rig, editor.head, Deca(editor.estimator), follows_skin=True)
    faces = [editor.read(picture) for picture in heads(2, 192)]
    person, known = editor.of_person(faces)
    assert known == faces
    assert person.likeness.mean_shape is not None
    assert person.likeness.mean_skin is person.likeness.skin_detail is None
    assert person.own(faces[0].codes) is faces[0].codes
    assert person.reread(faces[0]).codes is faces[0].codes


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
