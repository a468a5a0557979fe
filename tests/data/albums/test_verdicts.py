"""Words: what is said of which numbers, and that it says what to do."""

from dataclasses import replace

import pytest

from drig.data.albums.verdicts import Level, PhotoMeasures, Variety, Verdict, judge

GOOD = PhotoMeasures(
    key="me/01.jpg",
    yaw=5,
    pitch=0,
    person=0,
    blur=0.45,
    enlarged=0.5,
    landmark_error=2.0,
    colour_error=5.0,
    covered=0.05,
    place=0,
    repeats=None,
    percentiles={"light": 50.0},
)
VARIED = Variety(photos=20, usable=20, light=0.16, pose=15, expression=0.5, one_place=0.2, yaw=(-20, 20), pitch=(-5, 5))


def photos(*changed: PhotoMeasures) -> list[PhotoMeasures]:
    return [*changed, *[GOOD] * (20 - len(changed))]


def test_a_good_album_needs_no_words() -> None:
    assert judge(photos(), VARIED) == ()
    assert GOOD.verdicts == ()
    assert GOOD.usable


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"light": 0.02}, Level.FAULT, "all 20 photos have the same light: add photos taken elsewhere"),
        (
            {"light": 0.12, "one_place": 0.9},
            Level.FAULT,
            "18 of 20 photos have the same light and the same surroundings, as of one occasion: add photos taken",
        ),
        ({"one_place": 1.0}, Level.REMARK, "all 20 photos have the same surroundings"),
        ({"light": 0.09}, Level.REMARK, "light differs little"),
        ({"pose": 1.0, "yaw": (2, 4)}, Level.FAULT, "same head pose (yaw 2 to 4 degrees): add"),
        ({"pose": 7.0}, Level.REMARK, "hardly turns"),
        ({"expression": 0.1}, Level.REMARK, "add a laugh"),
        ({"usable": 1}, Level.FAULT, "only 1 usable photo: add photos of this person until there are 10 to 20"),
    ],
)
def test_sameness_has_words(change: dict[str, float], level: Level, words: str) -> None:
    (verdict,) = judge(photos(), replace(VARIED, **change))  # type: ignore[arg-type]
    assert verdict.level == level
    assert words in verdict.text


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"person": 2}, Level.FAULT, "another person"),
        ({"repeats": "me/00.jpg"}, Level.FAULT, "the same picture as 00.jpg"),
        ({"blur": 0.7}, Level.FAULT, "blurred"),
        ({"landmark_error": 9.0}, Level.FAULT, "does not fit"),
        ({"covered": 0.25}, Level.REMARK, "25% of the face is covered"),
        ({"enlarged": 2.0}, Level.REMARK, "enlarged 2.0 times"),
        ({"yaw": -50.0}, Level.REMARK, "turned far to the picture's left (50 degrees)"),
        ({"percentiles": {"pose": 99.5, "light": 3.0}}, Level.REMARK, "unlike the training data in its pose"),
    ],
)
def test_a_photo_says_what_is_wrong_with_it(change: dict[str, object], level: Level, words: str) -> None:
    photo = replace(GOOD, **change)  # type: ignore[arg-type]
    assert photo.verdicts[0].level == level
    assert words in photo.verdicts[0].text
    assert photo.usable == (level == Level.REMARK)


def test_strangers_are_a_fault_of_the_album() -> None:
    (verdict,) = judge(photos(replace(GOOD, person=1, key="x/you.jpg")), VARIED)
    assert verdict == Verdict(
        Level.FAULT,
        "1 of 20 photos of another person (you.jpg): take them out, or let `drig album build` choose",
    )
    crowd = [replace(GOOD, person=i) for i in range(6)]
    assert "6 photos show 6 people" in judge(crowd, replace(VARIED, usable=5))[0].text


def test_blur_is_a_remark_on_a_few_and_a_fault_of_many() -> None:
    blurred = [replace(GOOD, blur=0.8, key=f"{i}.jpg") for i in range(8)]
    (few,) = judge(photos(*blurred[:1]), VARIED)
    (many,) = judge(photos(*blurred), VARIED)
    assert few == Verdict(Level.REMARK, "1 of 20 photos blurred (0.jpg): give sharp ones instead")
    assert many.level == Level.FAULT
    assert "8 of 20 photos blurred (0.jpg, 1.jpg, 2.jpg, 3.jpg and 4 more)" in many.text


def test_faults_come_first() -> None:
    found = judge(photos(replace(GOOD, blur=0.8)), replace(VARIED, expression=0.1, light=0.01))
    assert [verdict.level for verdict in found] == [Level.FAULT, Level.REMARK, Level.REMARK]
