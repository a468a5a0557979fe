"""What is said of an album: numbers in, words out that a person can act on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from drig.data.albums.loading import WANTED
from drig.data.albums.photo_quality import BLURRED
from drig.data.albums.typical import UNUSUAL

TOO_FEW = 5
"""Usable photos. Below, there is one of each kind at most, and the mean shape is that of a moment."""
ONE_LIGHT = 0.05
"""Spread of light below which it is one: see the table in `variety`."""
LITTLE_LIGHT = 0.11
MUCH_LIGHT = 0.15
"""From here on the light differs even where the surroundings do not: a studio."""
ONE_PLACE = 0.8
"""Share of the photos with the same surroundings from which on the album is of one occasion."""
ONE_POSE = 3.0
"""Degrees. Synthetic photos of one pose have 1, by the estimate's noise; the posed album, a remark, has 7."""
LITTLE_POSE = 10.0
LITTLE_EXPRESSION = 0.2
COVERED = 0.18
"""Share of the face that the fitted head leaves unexplained. Bare faces reach 0.13, half hidden ones 0.2 to 0.3."""
BADLY_FITTED = 6.5
"""Landmark error in % of the distance between the eyes; good fits have 2 to 4, a scream 5."""
TURNED = 40.0
"""Yaw in degrees. Landmarks of the far side are guesses from here on."""
MANY = 1 / 3
"""Share of an album's photos from which on a fault of photos is one of the album."""


ENLARGED = 1.5
"""Times. Half again as large still looks sharp."""


class Level(StrEnum):
    REMARK = "remark"
    """Better without, good enough to train on."""
    FAULT = "fault"
    """Of a photo: leave it out. Of an album: do not train on it."""


@dataclass(frozen=True)
class Verdict:
    """One thing that is wrong, and what to do about it."""

    level: Level
    text: str


@dataclass(frozen=True, kw_only=True)
class PhotoMeasures:
    """One photo in numbers, and what follows from them."""

    key: str
    yaw: float
    """Degrees, signed as in Controls."""
    pitch: float
    person: int
    """0: the one that the album is about."""
    blur: float
    """0 sharp .. 1 blurred."""
    enlarged: float
    """How many times the face's pixels were enlarged; below 1 reduced. 0 = not known."""
    landmark_error: float
    """% of the distance between the eyes, the contour left out."""
    colour_error: float
    """% of the range."""
    covered: float
    """Share of the face that the fitted head does not explain."""
    place: int
    """Photos with the same surroundings have the same number."""
    repeats: str | None
    """Key of the photo that this one is a copy of, nearly."""
    percentiles: Mapping[str, float] = field(default_factory=dict)
    """Kind of code -> percentage of training photos that are less unusual."""

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return tuple(_of_photo(self))

    @property
    def usable(self) -> bool:
        return not any(verdict.level == Level.FAULT for verdict in self.verdicts)


@dataclass(frozen=True, kw_only=True)
class Variety:
    """What differs between the album's person's different photos; see `variety` for the units."""

    photos: int
    """How many there are, copies of others left out."""
    usable: int
    """How many of them have no fault of their own."""
    light: float
    pose: float
    expression: float
    one_place: float
    """Share of the photos that show the most frequent surroundings."""
    yaw: tuple[float, float]
    """Least and largest, degrees."""
    pitch: tuple[float, float]


def judge(photos: Sequence[PhotoMeasures], variety: Variety) -> tuple[Verdict, ...]:
    """What is wrong with the album as a whole, faults first."""
    found = [*_sameness(variety), *_people(photos), *_bad_photos(photos)]
    return tuple(sorted(found, key=lambda verdict: verdict.level != Level.FAULT))


def _of_photo(photo: PhotoMeasures) -> Iterator[Verdict]:
    if photo.person:
        yield Verdict(Level.FAULT, "shows another person")
    if photo.repeats is not None:
        yield Verdict(Level.FAULT, f"the same picture as {Path(photo.repeats).name}")
    if photo.blur >= BLURRED:
        yield Verdict(Level.FAULT, "blurred")
    if photo.landmark_error >= BADLY_FITTED:
        yield Verdict(Level.FAULT, "the head model does not fit: a hidden or strongly distorted face")
    if abs(photo.yaw) >= TURNED:
        side = "right" if photo.yaw > 0 else "left"
        yield Verdict(Level.REMARK, f"turned far to the picture's {side} ({abs(photo.yaw):.0f} degrees)")
    if photo.covered >= COVERED:
        yield Verdict(Level.REMARK, f"{photo.covered:.0%} of the face is covered or in a hard shadow")
    if photo.enlarged > ENLARGED:
        yield Verdict(Level.REMARK, f"the face had to be enlarged {photo.enlarged:.1f} times")
    if unusual := [kind for kind, percentile in photo.percentiles.items() if percentile >= UNUSUAL]:
        yield Verdict(Level.REMARK, f"unlike the training data in its {' and '.join(unusual)}")


def _sameness(variety: Variety) -> Iterator[Verdict]:
    """Of light, pose and expression; nothing can be said of less than two photos."""
    n, usable = variety.photos, variety.usable
    if usable < TOO_FEW:
        only = f"only {usable} usable photo{'' if usable == 1 else 's'}"
        yield Verdict(Level.FAULT, f"{only}: add photos of this person until there are {WANTED} to 20")
    if n < 2:
        return
    elsewhere = "add photos taken elsewhere (outdoors, at a window, in the evening)"
    together = round(variety.one_place * n)
    whole = f"all {n} photos" if together == n else f"{together} of {n} photos"
    if variety.light < ONE_LIGHT:
        yield Verdict(Level.FAULT, f"all {n} photos have the same light: {elsewhere}")
    elif variety.one_place >= ONE_PLACE and variety.light < MUCH_LIGHT:
        have = "have the same light and the same surroundings"
        yield Verdict(Level.FAULT, f"{whole} {have}, as of one occasion: {elsewhere}")
    elif variety.one_place >= ONE_PLACE:
        yield Verdict(Level.REMARK, f"{whole} have the same surroundings: photos taken elsewhere would help")
    elif variety.light < LITTLE_LIGHT:
        yield Verdict(
            Level.REMARK, "the light differs little from photo to photo: photos with light from a side would help"
        )
    turns = f"yaw {variety.yaw[0]:.0f} to {variety.yaw[1]:.0f} degrees"
    if variety.pose < ONE_POSE:
        yield Verdict(
            Level.FAULT, f"all {n} photos have the same head pose ({turns}): add photos that look elsewhere than here"
        )
    elif variety.pose < LITTLE_POSE:
        yield Verdict(
            Level.REMARK,
            f"the head hardly turns ({turns}): photos that look left, right, up and down would help",
        )
    if variety.expression < LITTLE_EXPRESSION:
        yield Verdict(
            Level.REMARK, "the expression is nearly always the same: add a laugh, a serious look, an open mouth"
        )


def _people(photos: Sequence[PhotoMeasures]) -> Iterator[Verdict]:
    if others := [photo for photo in photos if photo.person]:
        count = max(photo.person for photo in others)
        if 2 * len(others) > len(photos):
            yield Verdict(
                Level.FAULT,
                f"{len(photos)} photos show {count + 1} people: an album is of one person, remove the others",
            )
            return
        who = "another person" if count == 1 else f"{count} other people"
        yield Verdict(
            Level.FAULT,
            f"{len(others)} of {len(photos)} photos of {who} ({_names(others)}): take them out, or let "
            "`drig album build` choose",
        )


def _bad_photos(photos: Sequence[PhotoMeasures]) -> Iterator[Verdict]:
    """What several photos have in common; what is one photo's alone stands with the photo."""
    own = [photo for photo in photos if not photo.person]
    kinds = (
        ([p for p in own if p.blur >= BLURRED], Level.FAULT, "blurred", "give sharp ones instead"),
        ([p for p in own if p.repeats is not None], Level.REMARK, "the same as others", "give different ones"),
        ([p for p in own if p.covered >= COVERED], Level.REMARK, "partly covered", "add some without hands or hair"),
        ([p for p in own if p.enlarged > ENLARGED], Level.REMARK, "of few pixels", "use originals, or come closer"),
        (
            [p for p in own if max(p.percentiles.values(), default=0) >= UNUSUAL],
            Level.REMARK,
            "unlike the training data",
            "edits of such photos are poor, add ordinary ones",
        ),
    )
    for bad, worst, what, remedy in kinds:
        if bad:
            level = worst if len(bad) > MANY * len(own) else Level.REMARK
            yield Verdict(level, f"{len(bad)} of {len(own)} photos {what} ({_names(bad)}): {remedy}")


def _names(photos: Sequence[PhotoMeasures], most: int = 4) -> str:
    names = [Path(photo.key).name for photo in photos]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
