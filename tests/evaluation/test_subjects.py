from pathlib import Path

import numpy as np
import torch

from drig.data.albums import load_album
from drig.editing import Editor
from drig.evaluation.measures import Measures, turn
from drig.evaluation.subjects import KINDS, Subject, left_out
from drig.faces.codes import EDIT_MODES
from drig.metrics import psnr


def test_every_unseen_photo_is_edited_in_every_way(subject: Subject) -> None:
    assert (len(subject.album), len(subject.same_light), len(subject.unseen)) == (3, 3, 2)
    assert [(trial.source, trial.target, trial.modes) for trial in subject.trials] == [
        (source, 1 - source, modes) for source in range(2) for modes in KINDS
    ]
    assert len(KINDS) == 8


def test_the_answer_to_a_reconstruction_is_the_photo(subject: Subject) -> None:
    for trial in subject.trials:
        if not trial.modes:
            assert np.array_equal(trial.answer.picture, subject.unseen[trial.source].portrait.image)


def test_an_answer_has_what_was_asked_of_the_target_and_the_rest_of_the_source(
    subject: Subject, editor: Editor
) -> None:
    measures = Measures(editor, [face.portrait for face in subject.album])
    answers = {trial.modes: trial.answer for trial in subject.trials if trial.source == 0}
    source, target = answers[()].codes, answers[("light", "exp", "pose")].codes
    for modes, answer in answers.items():
        for mode in EDIT_MODES:
            like, unlike = (target, source) if mode in modes else (source, target)
            if mode == "exp":  # the same numbers; light is fitted to what is visible, and so is the pose to the crop
                assert torch.equal(answer.codes.exp, like.exp)
            error = {"light": measures.light, "exp": measures.expression, "pose": turn}[mode]
            assert error(answer.codes, like) <= error(answer.codes, unlike)


def test_the_face_lies_within_its_landmarks(subject: Subject) -> None:
    answer = subject.trials[0].answer
    assert 0.1 < answer.face.mean() < 0.5


def test_an_album_of_one_light_shows_the_same_photos_otherwise_lit(subject: Subject, editor: Editor) -> None:
    measures = Measures(editor, [face.portrait for face in subject.album])
    first, other = subject.same_light[0], subject.same_light[1]
    assert np.array_equal(first.portrait.image, subject.album[0].portrait.image)
    assert psnr(other.portrait.image, subject.album[1].portrait.image) < 30
    assert measures.light(other.codes, first.codes) < measures.light(subject.album[1].codes, first.codes)


def test_of_a_real_album_each_photo_is_left_out_once(editor: Editor, synthetic_people: Path) -> None:
    album = load_album(synthetic_people / "person_0000", editor.detector, editor.size)
    one = left_out(editor, album, 0)
    (trial,) = one.trials
    assert len(one.album) == len(album.keys) - 1
    assert not any(face is one.unseen[trial.target] for face in one.album)
    assert np.array_equal(trial.answer.picture, album.portraits[0].image)
    assert np.array_equal(one.unseen[trial.source].portrait.image, album.portraits[-1].image)
