from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from drig.editing import Editor
from drig.evaluation.measures import MEASURES, Measures
from drig.evaluation.methods import FRAMES, METHODS, Maker
from drig.evaluation.subjects import Subject
from drig.evaluation.trials import answer
from drig.training.config import TrainingConfig

DELTA = TrainingConfig(
    samples=8, batch=4, learning_rate=1e-2, train_encoder=False, log_every=4, checkpoint_every=8, delta_rank=2
)
TRAINED = ("personalised", "1_photo", "same_light", "whole_rig")


@pytest.fixture
def maker(editor: Editor, subject: Subject, tmp_path: Path) -> Maker:
    whole = replace(DELTA, delta_rank=None)
    return Maker(editor, subject, DELTA, whole, tmp_path, mirror=True, steps=2, sampler="ddim")


def test_a_rig_answers_as_the_editor_edits(maker: Maker, editor: Editor, subject: Subject) -> None:
    for trial, made in zip(subject.trials, maker.answers("base"), strict=True):
        target = subject.unseen[trial.target] if trial.modes else None
        edited = editor.edit(subject.unseen[trial.source], target, modes=trial.modes, steps=2)
        assert np.abs(made.astype(int) - edited.image).max() <= 1


def test_the_papers_baseline_is_sampled_one_way_round(maker: Maker, editor: Editor) -> None:
    assert maker.editor("base") is editor
    editor.mirrored = True
    assert not maker.editor("plain_base").mirrored
    editor.mirrored = False


def test_each_way_to_personalise_learns_from_its_own_album(maker: Maker, editor: Editor) -> None:
    before = {name: tensor.clone() for name, tensor in editor.rig.state_dict().items()}
    answers = {method: np.stack(maker.answers(method)) for method in ("base", *TRAINED)}
    for i, one in enumerate(answers):
        for other in list(answers)[:i]:
            assert not np.array_equal(answers[one], answers[other]), (one, other)
    assert all((editor.rig.state_dict()[name] == tensor).all() for name, tensor in before.items())
    assert editor.likeness.mean_shape is None
    assert [maker.editor(method).delta is None for method in TRAINED] == [False, False, False, True]


def test_told_edits_with_the_same_rig_what_is_true(maker: Maker, subject: Subject) -> None:
    assert maker.editor("told") is maker.editor("personalised")
    for trial in subject.trials:
        told, asked = (maker.asked(method, trial) for method in ("told", "personalised"))
        source = maker.editor("personalised").reread(subject.unseen[trial.source]).codes
        for mode, name in (("light", "light"), ("exp", "exp")):
            expected = trial.answer.codes if mode in trial.modes else source
            assert torch.equal(getattr(told, name), getattr(expected, name))
            assert torch.equal(getattr(told, name), getattr(asked, name)) == (mode not in trial.modes)
        assert torch.equal(told.shape, source.shape)
    reconstruction = [i for i, trial in enumerate(subject.trials) if not trial.modes]
    answers = {method: np.stack(maker.answers(method)) for method in ("told", "personalised")}
    assert np.array_equal(answers["told"][reconstruction], answers["personalised"][reconstruction])
    assert not np.array_equal(answers["told"], answers["personalised"])


def test_the_persons_buffers_are_what_their_rig_follows(maker: Maker, subject: Subject) -> None:
    plain, own = (maker.answers(method) for method in ("buffers", "own_buffers"))
    assert not np.array_equal(np.stack(plain), np.stack(own))
    editor = maker.editor("personalised")
    for trial, made in zip(subject.trials, own, strict=True):
        asked = maker.asked("personalised", trial)
        followed = editor.buffers(editor.reread(subject.unseen[trial.source]).codes, asked).rendered[0]
        assert np.abs(made - 255.0 * followed.clamp(0, 1).permute(1, 2, 0).numpy()).max() < 1


def test_methods_that_need_more_photos_than_there_are_are_left_out(subject: Subject) -> None:
    assert [name for name, method in METHODS.items() if not method.is_possible(subject)] == ["10_photos", "5_photos"]


def test_the_table_has_a_row_for_each_answer_and_each_sweep(maker: Maker, editor: Editor, subject: Subject) -> None:
    done: list[str] = []
    measures = Measures(editor, [face.portrait for face in subject.album])
    found = answer(maker, measures, ("truth", "copy", "buffers", "base"), done.append)
    assert done == ["truth", "copy", "buffers", "base"]
    rows = found.rows
    assert (rows["edit"] == "sweep").sum() == 2
    assert len(rows) == 4 * len(subject.trials) + 2
    assert set(MEASURES) < set(rows.columns)
    assert rows[rows["method"] == "truth"]["face_psnr"].min() == np.inf
    copied = rows[(rows["method"] == "copy") & (rows["edit"] == "reconstruction")]
    assert copied["face_psnr"].min() == np.inf
    assert set(found.pictures) == {"source", "target", "truth", "copy", "buffers", "base"}
    assert all(made.shape == (len(subject.trials), 32, 32, 3) for made in found.pictures.values())


def test_a_sweep_turns_the_head_from_one_pose_to_the_other(maker: Maker, editor: Editor, subject: Subject) -> None:
    frames = maker.sweep("buffers")
    assert len(frames) == FRAMES
    source, target = subject.unseen
    start, end = (editor.edit(source, to, modes=["pose"] if to else (), steps=1).buffers[:3] for to in (None, target))
    for frame, expected in ((frames[0], start), (frames[-1], end)):
        assert np.abs(frame / 255 - expected.clamp(0, 1).permute(1, 2, 0).numpy()).max() < 0.01
