"""People and shots: the same every time, what is whose, and what the truth beside a portrait says about it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from drig.data.photos import read_photo
from drig.data.synthetic import (
    Person,
    SyntheticPortrait,
    read_truth,
    render_portrait,
    sample_person,
    sample_shot,
    write_people,
)
from drig.errors import DrigError
from drig.faces.buffers import render_buffers
from drig.faces.camera import project
from drig.faces.ibug import eyes_and_mouth
from drig.faces.landmarks import LandmarkDetector
from drig.faces.open_head import OpenHead

SEED = 5
SIZE = 256


@pytest.fixture(scope="module")
def head() -> OpenHead:
    return OpenHead.load()


@pytest.fixture(scope="module")
def people(head: OpenHead) -> list[Person]:
    return [sample_person(head, SEED, i) for i in range(6)]


@pytest.fixture(scope="module")
def portraits(head: OpenHead, people: list[Person]) -> list[SyntheticPortrait]:
    return [render_portrait(head, person, sample_shot(person, j), SIZE) for person in people for j in range(2)]


def test_the_same_person_and_photo_every_time(
    head: OpenHead, people: list[Person], portraits: list[SyntheticPortrait]
) -> None:
    again = sample_person(head, SEED, 3)  # without the people and photos before it
    portrait = render_portrait(head, again, sample_shot(again, 1), SIZE)
    assert again.looks == people[3].looks
    assert np.array_equal(portrait.image, portraits[7].image)
    assert torch.equal(portrait.codes.light, portraits[7].codes.light)


def test_people_differ_and_their_photos_differ(people: list[Person], portraits: list[SyntheticPortrait]) -> None:
    assert len({person.looks for person in people}) == len(people)
    pictures = {portrait.image.tobytes() for portrait in portraits}
    assert len(pictures) == len(portraits)
    another = sample_shot(people[0], 1)
    assert another.light != sample_shot(people[0], 0).light


def test_identity_codes_are_the_persons_and_the_rest_the_shots(portraits: list[SyntheticPortrait]) -> None:
    first, second, other = portraits[0].codes, portraits[1].codes, portraits[2].codes
    assert torch.equal(first.shape, second.shape)
    assert torch.equal(first.tex, second.tex)
    assert not torch.equal(first.shape, other.shape)
    for name in ("exp", "pose", "light"):
        assert not torch.equal(getattr(first, name), getattr(second, name))


def test_portraits_are_framed_like_ffhq(portraits: list[SyntheticPortrait]) -> None:
    for portrait in portraits:
        left, right, mouth = eyes_and_mouth(portrait.landmarks.astype(np.float64))
        eyes = (left + right) / 2
        assert np.abs(eyes + 0.1 * (mouth - eyes)).max() < 0.06  # the crop's middle, but for the framing's error
        size = max(2 * np.hypot(*(right - left)), 1.8 * np.hypot(*(mouth - eyes)))
        assert size == pytest.approx(1, abs=0.06)  # half the crop's side


def test_codes_projected_by_the_rig_land_on_the_portraits_landmarks(
    head: OpenHead, portraits: list[SyntheticPortrait]
) -> None:
    """The codes' camera has no perspective: the difference is that, a few pixels at the ears."""
    errors = []
    for portrait in portraits:
        vertices = head.vertices(portrait.codes)
        landmarks = project(head.landmarks(portrait.codes, vertices), portrait.codes)[0, :, :2].numpy()
        gap = np.linalg.norm(landmarks - portrait.landmarks, axis=1) * SIZE / 2
        assert gap[17:].mean() < 2.0
        errors.append(gap.mean())
    assert np.mean(errors) < 2.0


def test_rendered_buffers_cover_the_visible_skin_and_explain_its_colour(
    head: OpenHead, portraits: list[SyntheticPortrait]
) -> None:
    for portrait in portraits:
        buffers = render_buffers(head, portrait.codes, SIZE)
        face = buffers.alpha[0, 0].numpy() > 0
        skin = portrait.skin > 0.95
        assert (skin & face).sum() / skin.sum() > 0.93
        rendered = buffers.rendered[0].permute(1, 2, 0).numpy()[skin & face]
        picture = portrait.image[skin & face] / 255
        assert np.corrcoef(rendered.mean(-1), picture.mean(-1))[0, 1] > 0.5
        assert np.abs(np.median(rendered - picture)) < 0.12


def test_faces_are_found_where_they_are(portraits: list[SyntheticPortrait]) -> None:
    """The share over many portraits is measured by benchmarks/synthetic.py."""
    detector = LandmarkDetector()
    errors = []
    for portrait in portraits:
        faces = detector.detect(portrait.image)
        if faces:
            left, right, _ = eyes_and_mouth(portrait.landmarks)
            found = (faces[0].landmarks + 0.5) * 2 / SIZE - 1
            gap = np.linalg.norm(found - portrait.landmarks, axis=1).mean()
            errors.append(gap / np.hypot(*(right - left)))
    assert len(errors) >= len(portraits) - 1
    assert np.mean(errors) < 0.08


def test_light_from_another_photo_changes_the_light_alone(head: OpenHead, people: list[Person]) -> None:
    person = people[1]
    first, second = sample_shot(person, 0), sample_shot(person, 1)
    before = render_portrait(head, person, first, 64)
    edited = render_portrait(head, person, first.with_attributes(second, ["light"]), 64)
    after = render_portrait(head, person, second, 64)
    for name in ("shape", "exp", "pose", "cam"):
        assert torch.equal(getattr(edited.codes, name), getattr(before.codes, name))
    assert np.array_equal(edited.landmarks, before.landmarks)
    gap = (edited.codes.light - after.codes.light).abs().mean()
    assert gap < 0.5 * (edited.codes.light - before.codes.light).abs().mean()
    skin = before.skin > 0.9
    assert np.abs(edited.image[skin].astype(float) - before.image[skin]).mean() > 4


def test_pose_and_expression_from_another_photo_are_what_an_edit_transfers(
    head: OpenHead, people: list[Person]
) -> None:
    person = people[2]
    first, second = sample_shot(person, 0), sample_shot(person, 1)
    before, after = (render_portrait(head, person, shot, 64) for shot in (first, second))
    posed = render_portrait(head, person, first.with_attributes(second, ["pose"]), 64)
    assert torch.allclose(posed.codes.pose, after.codes.pose, atol=0.02)
    assert torch.equal(posed.codes.exp, before.codes.exp)
    assert posed.codes.cam[0, 0] == pytest.approx(float(before.codes.cam[0, 0]), rel=0.03)  # the camera stays
    smiling = render_portrait(head, person, first.with_attributes(second, ["exp"]), 64)
    assert torch.allclose(smiling.codes.pose, before.codes.pose, atol=1e-4)
    assert torch.equal(smiling.codes.exp, after.codes.exp)
    with pytest.raises(DrigError, match="latent"):
        first.with_attributes(second, ["latent"])


def test_hair_hides_skin_and_casts_a_shadow(head: OpenHead, people: list[Person]) -> None:
    hidden, shown = 0.0, 0.0
    for person in (person for person in people if person.hair is not None):
        shot = sample_shot(person, 0)
        with_hair = render_portrait(head, person, shot, 64)
        without = render_portrait(head, replace(person, hair=None), shot, 64)
        hidden += float(without.skin.sum() - with_hair.skin.sum())
        shown += float(without.skin.sum())
        face = (with_hair.skin > 0.99) & (without.skin > 0.99)
        assert with_hair.image[face].mean() < without.image[face].mean()
    assert hidden > 0.05 * shown  # over all styles: a crop hides little, long hair much


def test_people_are_written_once_and_kept(tmp_path: Path, head: OpenHead) -> None:
    def write(people: range, seed: int = SEED) -> list[Path]:
        return list(write_people(tmp_path, people=people, photos=2, size=32, seed=seed, head=head))

    second = write(range(1, 2))
    assert [path.relative_to(tmp_path).as_posix() for path in second] == ["person_0001/00.png", "person_0001/01.png"]
    codes, landmarks = read_truth(second[0])
    assert len(codes) == 1
    assert landmarks.shape == (68, 2)
    times = [path.stat().st_mtime_ns for path in second]
    second[1].unlink()
    both = write(range(2))
    assert len(both) == 4
    assert second[0].stat().st_mtime_ns == times[0]
    person = sample_person(head, SEED, 1)
    assert np.array_equal(read_photo(second[1]), render_portrait(head, person, sample_shot(person, 1), 32).image)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".png", ".safetensors")]
    with pytest.raises(DrigError, match="seed"):
        write(range(1), seed=SEED + 1)
