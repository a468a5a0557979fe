import numpy as np
import pytest
import torch
from torch.nn import functional

from drig.editing import Editor
from drig.evaluation.features import FaceFeatures
from drig.evaluation.measures import MEASURES, Measures, flicker, turn
from drig.evaluation.subjects import Subject
from drig.faces.controls import Controls, apply_controls
from drig.faces.head import neutral_codes
from drig.metrics import Picture


@pytest.fixture(scope="module")
def measures(editor: Editor, subject: Subject) -> Measures:
    return Measures(editor, [face.portrait for face in subject.album])


def images(pictures: list[Picture]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255


def test_a_perfect_answer_is_best_in_every_measure(measures: Measures, subject: Subject) -> None:
    answers = [trial.answer for trial in subject.trials]
    truth = [answer.codes for answer in answers]
    perfect = measures([answer.picture for answer in answers], answers, truth)
    spoilt = measures([255 - answer.picture for answer in answers], answers, truth)
    assert set(perfect[0]) == set(MEASURES) - {"flicker"}
    for name, sign in {"face_psnr": 1, "psnr": 1, "face_ssim": 1, "ssim": 1, "features": -1, "light": -1}.items():
        assert all(sign * a[name] > sign * b[name] for a, b in zip(perfect, spoilt, strict=True)), name
    assert perfect[0]["features"] == 0


def test_what_was_asked_for_is_measured_apart_from_the_truth(measures: Measures, subject: Subject) -> None:
    pictures, answers = zip(*((trial.answer.picture, trial.answer) for trial in subject.trials), strict=True)
    truth = [answer.codes for answer in answers]
    turned = [apply_controls(codes, Controls(yaw=20), measures.head.expression_names) for codes in truth]
    right, wrong = (measures(pictures, answers, asked) for asked in (truth, turned))
    for one, other, codes, wish in zip(right, wrong, truth, turned, strict=True):
        for name in ("light", "exp", "pose"):
            assert one[f"asked_{name}"] == one[name] == other[name]
        assert other["asked_exp"] == pytest.approx(other["exp"], abs=1e-4)
        assert other["asked_pose"] == pytest.approx(float(turn(codes, wish)), abs=other["pose"] + 1e-3)


def test_errors_of_codes_are_what_was_changed(measures: Measures, editor: Editor) -> None:
    codes = neutral_codes(editor.head)
    turned = apply_controls(codes, Controls(yaw=20), editor.expression_names)
    assert float(turn(turned, codes)) == pytest.approx(20, abs=1e-3)
    assert float(measures.expression(turned, codes)) == pytest.approx(0, abs=1e-4)
    smiling = apply_controls(codes, Controls(expression={"mouthSmileLeft": 1.0}), editor.expression_names)
    assert float(measures.expression(smiling, codes)) > 1
    brighter = codes.replace(light=codes.light * 1.1)
    assert float(measures.light(brighter, codes)) > 0.02
    assert float(measures.light(codes, codes)) == 0


def test_the_features_see_blur_and_noise_that_grow(subject: Subject) -> None:
    features, photos = FaceFeatures(), images([face.portrait.image for face in subject.album])
    seen = []
    for size in (24, 12, 6):
        blurred = functional.interpolate(functional.interpolate(photos, (size, size), mode="area"), photos.shape[-2:])
        seen.append(features.distance(blurred, photos).mean())
    noise = torch.randn(photos.shape, generator=torch.Generator().manual_seed(0))
    noisy = [features.distance((photos + level * noise).clamp(0, 1), photos).mean() for level in (0.02, 0.1)]
    assert 0 < seen[0] < seen[1] < seen[2]
    assert 0 < noisy[0] < noisy[1]
    torch.testing.assert_close(features.distance(photos[:1], photos[1:2]), features.distance(photos[1:2], photos[:1]))


def test_a_steady_change_does_not_flicker() -> None:
    steady = [np.full((8, 8, 3), level, np.uint8) for level in (10, 20, 30, 40)]
    assert flicker(steady) == 0
    assert flicker([steady[0], steady[3], steady[0], steady[3]]) == pytest.approx(100 * 60 / 255)
