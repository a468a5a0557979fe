"""The Editor, with an untrained rig: what it is told and what it renders do not depend on the weights."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from drig.both_ways import MIRRORED
from drig.data.photos import Photo, read_photo, to_network
from drig.diffusion.deltas import Delta, save_delta
from drig.diffusion.network import Rig, RigConfig
from drig.diffusion.samplers import SAMPLERS
from drig.diffusion.weights import save_weights
from drig.editing import Editor, edit_together
from drig.errors import DrigError, PhotoRejected
from drig.faces.controls import Controls, head_angles
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head
from drig.faces.ibug import ffhq_centre
from drig.faces.likeness import Likeness
from drig.reading import FaceReader

SMALL = RigConfig(size=64, base_channels=32, channel_mult=(1, 1), blocks_per_level=1, attention_size=0, patch=4)
STEPS = 2


@pytest.fixture(scope="module")
def photos(synthetic_people: Path) -> list[Photo]:
    """Two photos of one person."""
    return [read_photo(path) for path in sorted((synthetic_people / "person_0000").glob("*.png"))[:2]]


@pytest.fixture(scope="module")
def editor() -> Editor:
    head = load_head("open")
    rig = Rig.from_seed(SMALL, 0)
    generator = torch.Generator().manual_seed(1)
    for weight in rig.denoisingUNet.parameters():  # an untrained rig predicts zero, whatever it is told
        if weight.ndim > 1 and not weight.any():
            torch.nn.init.normal_(weight, std=0.05, generator=generator)
    return Editor(rig, head, load_estimator("fit", head))


def test_an_edit_is_a_portrait_of_the_rigs_size_and_repeats(editor: Editor, photos: list[Photo]) -> None:
    first, again, other = (
        editor.edit(photos[0], photos[1], modes=["light"], steps=STEPS, seed=seed, aligned=True) for seed in (3, 3, 4)
    )
    assert first.image.shape == (64, 64, 3)
    assert first.image.dtype == np.uint8
    assert np.array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)


def test_bfloat16_edits_look_the_same(editor: Editor, photos: list[Photo], monkeypatch: pytest.MonkeyPatch) -> None:
    source = editor.read(photos[0], aligned=True)
    pictures = []
    for capabilities in ({}, {"amx_bf16": True}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        pictures.append(editor.edit(source, steps=5).image.astype(int))
    difference = np.abs(pictures[0] - pictures[1])
    assert 0 < difference.mean() < 1  # of 255


def test_each_mode_takes_its_part_from_the_target_and_nothing_else(editor: Editor, photos: list[Photo]) -> None:
    source, target = (editor.read(photo, aligned=True) for photo in photos)
    expected = {
        "light": {"light": target.codes.light},
        "exp": {"exp": target.codes.exp},
        "pose": {"pose": torch.cat([target.codes.pose[:, :3], source.codes.pose[:, 3:]], 1)},
        "latent": {},
    }
    for mode, changes in expected.items():
        codes = editor.edit(source, target, modes=[mode], steps=STEPS).codes
        for name, value in source.codes.replace(**changes).as_dict().items():
            assert torch.equal(getattr(codes, name), value), (mode, name)


def test_the_latent_mode_takes_the_targets_global_code(editor: Editor, photos: list[Photo]) -> None:
    source, target = (editor.read(photo, aligned=True) for photo in photos)
    own, borrowed = editor.edit(source, steps=STEPS), editor.edit(source, target, modes=["latent"], steps=STEPS)
    assert torch.equal(own.buffers, borrowed.buffers)
    assert not np.array_equal(own.image, borrowed.image)


def test_an_editor_that_follows_skin_and_knows_nobody_sees_it_in_the_source(
    editor: Editor, photos: list[Photo]
) -> None:
    me, controls = editor.read(photos[0]), Controls(yaw=15)
    follower = copy.copy(editor)
    follower.follows_skin = True
    edit = follower.edit(me, controls=controls)
    known, (met,) = follower.of_person([me])
    assert known.meeting(met)[0] is known
    assert editor.meeting(me)[0] is editor
    # The photo tells its own skin: to read it again by that changes next to nothing.
    assert (edit.buffers - known.edit(met, controls=controls).buffers).abs().mean() < 0.01
    assert torch.equal(edit.codes.shape, me.codes.shape)
    off = [(each.edit(me).buffers[:3] - to_network(me.portrait.image) / 2 - 0.5).abs() for each in (follower, editor)]
    covered = follower.edit(me).buffers[3:6].abs().amax(0) > 0
    assert off[0][:, covered].mean() < 0.8 * off[1][:, covered].mean()


def test_a_mean_shape_replaces_the_shape_and_keeps_the_face_in_place(editor: Editor, photos: list[Photo]) -> None:
    mean_shape = torch.full((1, editor.head.shape_size), 0.3)
    own = Editor(editor.rig, editor.head, editor.estimator, likeness=Likeness(mean_shape=mean_shape))
    source = editor.read(photos[0], aligned=True)
    with_own, with_mean = editor.buffers(source.codes), own.buffers(source.codes)
    assert not torch.equal(with_own.normal, with_mean.normal)

    def centre(mask: torch.Tensor) -> torch.Tensor:
        return mask[0, 0].nonzero().float().mean(0)

    assert torch.dist(centre(with_own.alpha), centre(with_mean.alpha)) < 3  # pixels of 64


def test_a_turned_head_keeps_its_ffhq_centre(editor: Editor, photos: list[Photo]) -> None:
    from drig.faces.buffers import centre_shift

    source = editor.read(photos[0], aligned=True)
    turned = editor.edit(source, controls=Controls(yaw=30), steps=STEPS).codes
    head = editor.head
    before = ffhq_centre(head.landmarks(source.codes, head.vertices(source.codes)))
    after = ffhq_centre(
        head.landmarks(turned, head.vertices(turned) + centre_shift(head, source.codes, turned)[:, None])
    )
    assert torch.allclose(before, after, atol=1e-5)
    assert head_angles(turned)[0, 0] == pytest.approx(30, abs=1e-3)


def test_saved_and_loaded_it_edits_the_same(editor: Editor, photos: list[Photo], tmp_path: Path) -> None:
    mean_shape = torch.full((1, editor.head.shape_size), 0.2)
    own = Editor(editor.rig, editor.head, editor.estimator, likeness=Likeness(mean_shape=mean_shape))
    own.save(tmp_path / "rig.safetensors")
    loaded = Editor.load(tmp_path / "rig.safetensors")
    assert loaded.likeness.mean_shape is not None
    one, two = (e.edit(photos[0], controls=Controls(yaw=10), steps=STEPS, aligned=True) for e in (own, loaded))
    assert np.array_equal(one.image, two.image)


@pytest.fixture(scope="module")
def delta(editor: Editor) -> Delta:
    generator = torch.Generator().manual_seed(2)
    delta = Delta.start(editor.rig, 2, generator)
    for parameter in delta.requires_grad_(False).parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return delta


def test_people_who_are_deltas_share_the_rig_of_their_base(
    editor: Editor, delta: Delta, photos: list[Photo], tmp_path: Path
) -> None:
    def edit(by: Editor) -> Photo:
        return by.edit(photos[0], controls=Controls(yaw=10), steps=STEPS, aligned=True).image

    mean_shape = torch.full((1, editor.head.shape_size), 0.2)
    own = Editor(editor.rig, editor.head, editor.estimator, likeness=Likeness(mean_shape=mean_shape), delta=delta)
    editor.save(tmp_path / "base.safetensors")
    own.save(tmp_path / "ann.safetensors")
    assert (tmp_path / "ann.safetensors").stat().st_size < 0.1 * (tmp_path / "base.safetensors").stat().st_size
    base = Editor.load(tmp_path / "base.safetensors")
    before = edit(base)
    base.rig.train()  # as training over it leaves it
    ann = Editor.load(tmp_path / "ann.safetensors", base=base)
    assert not base.rig.training
    assert ann.rig is base.rig
    assert ann.likeness.mean_shape is not None
    alone = Editor.load(tmp_path / "ann.safetensors", base=tmp_path / "base.safetensors")
    assert np.array_equal(edit(ann), edit(alone))
    # Of 255: the file is in float16, and where edits are computed in bfloat16 a rounding may turn the other way.
    assert np.abs(edit(ann).astype(int) - edit(own)).mean() <= 1
    assert not np.array_equal(
        edit(ann), edit(Editor(base.rig, base.head, base.estimator, likeness=Likeness(mean_shape=mean_shape)))
    )
    assert np.array_equal(edit(base), before)
    assert base.likeness.mean_shape is None


def test_a_delta_needs_its_base_as_it_was(editor: Editor, delta: Delta, tmp_path: Path) -> None:
    save_delta(tmp_path / "ann.safetensors", delta, metadata={"head": "flame"})
    with pytest.raises(DrigError, match="give the base rig"):
        Editor.load(tmp_path / "ann.safetensors")
    with pytest.raises(DrigError, match="head 'flame' and its base says 'open'"):
        Editor.load(tmp_path / "ann.safetensors", base=editor)
    other = Editor(Rig.from_seed(SMALL, 1), editor.head, editor.estimator)
    with pytest.raises(DrigError, match="Give the weights that it was trained from"):
        other.personalised(tmp_path / "ann.safetensors")


def test_weights_that_do_not_name_their_head_are_refused(editor: Editor, tmp_path: Path) -> None:
    save_weights(tmp_path / "bare.safetensors", editor.rig)
    with pytest.raises(DrigError, match="head"):
        Editor.load(tmp_path / "bare.safetensors")


def test_progress_is_reported_step_by_step(editor: Editor, photos: list[Photo]) -> None:
    seen: list[tuple[int, int]] = []
    editor.edit(photos[0], steps=4, aligned=True, on_step=lambda step, total, x0: seen.append((step, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_sampler_can_be_chosen(editor: Editor, photos: list[Photo]) -> None:
    source = editor.read(photos[0], aligned=True)
    images = [editor.edit(source, steps=4, sampler=name).image for name in SAMPLERS]
    assert np.array_equal(images[0], editor.edit(source, steps=4).image)  # ddim, if nothing is said
    assert len({image.tobytes() for image in images}) == len(SAMPLERS)


def test_contradictory_requests_say_what_to_do(editor: Editor, photos: list[Photo]) -> None:
    with pytest.raises(DrigError, match="target photo"):
        editor.edit(photos[0], modes=["light"])
    with pytest.raises(DrigError, match="changes nothing"):
        editor.edit(photos[0], photos[1])
    with pytest.raises(DrigError, match="light, exp, pose, latent"):
        editor.edit(photos[0], photos[1], modes=["hair"])
    with pytest.raises(DrigError, match="choose one of: ddim"):
        editor.edit(photos[0], sampler="euler")
    with pytest.raises(PhotoRejected, match="no face"):
        editor.edit(np.zeros((200, 200, 3), np.uint8))


def test_a_portrait_read_for_a_larger_rig_is_reduced(editor: Editor, photos: list[Photo]) -> None:
    own = editor.read(photos[0], aligned=True)
    large = FaceReader(editor.head, editor.estimator).read(photos[0], 256, aligned=True)
    assert large.portrait.image.shape == (256, 256, 3)
    edits = [editor.edit(replace(face, codes=own.codes), steps=STEPS, seed=1).image for face in (own, large)]
    assert np.array_equal(edits[0], edits[1])


@pytest.mark.parametrize("mirrored", [False, True])
def test_edits_sampled_together_are_those_sampled_alone(
    editor: Editor, photos: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirrored: bool
) -> None:
    """Of different people over one base, with seeds and poses of their own."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # in bfloat16 rounding is seen
    face = editor.read(photos[0], aligned=True)
    people = []
    for seed in range(2):
        delta = Delta.start(editor.rig, 4, torch.Generator().manual_seed(seed))
        for parameter in delta.parameters():
            parameter.data += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
        metadata = {"head": "open", "estimator": "fit", MIRRORED: mirrored}
        save_delta(tmp_path / "delta.safetensors", delta, {}, metadata)
        people.append(editor.personalised(tmp_path / "delta.safetensors"))
    plans = [person.plan(face, controls=Controls(yaw=10 * i), seed=i) for i, person in enumerate([*people, people[0]])]
    together = edit_together(plans, steps=STEPS)
    alone = [edit_together([plan], steps=STEPS)[0] for plan in plans]
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one.image.astype(int) - other.image).max() <= 1  # sums in another order
        assert torch.equal(one.buffers, other.buffers)
    assert np.abs(together[0].image.astype(int) - together[1].image).mean() > 3
    assert np.abs(together[0].image.astype(int) - together[2].image).mean() > 3
    with pytest.raises(DrigError, match="apart"):
        edit_together([plans[0], editor.plan(face)], steps=STEPS)
    people[0].mirrored = not mirrored
    with pytest.raises(DrigError, match="apart"):
        edit_together(plans[:2], steps=STEPS)


def test_who_has_learnt_mirror_images_samples_both_ways_round(
    editor: Editor, photos: list[Photo], tmp_path: Path
) -> None:
    """And says so in its file."""
    source, pictures = editor.read(photos[0], aligned=True), []
    for mirrored in (False, True):
        saved = Editor(editor.rig, editor.head, editor.estimator, mirrored=mirrored)
        saved.save(tmp_path / "weights.safetensors")
        pictures.append(Editor.load(tmp_path / "weights.safetensors").edit(source, steps=STEPS).image.astype(int))
    assert np.array_equal(pictures[0], editor.edit(source, steps=STEPS).image)
    assert np.abs(pictures[0] - pictures[1]).mean() > 1
