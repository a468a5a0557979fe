"""People to measure on, with the true answers of edits: synthetic ones whom no rig has met, or a real album.

The true answer to an edit of a synthetic person is rendered. Of a real person it is known for one kind of edit: a photo
given light, expression and pose of another is that other photo, but for its background and hair.

S side of the portraits in pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, count, islice

import numpy as np
from numpy.typing import NDArray

from drig.data.albums import Album
from drig.data.synthetic import Person, Shot, render_portrait, sample_person, sample_shot
from drig.editing import Editor
from drig.errors import DrigError, PhotoRejected
from drig.faces.codes import EDIT_MODES, FaceCodes
from drig.faces.open_head import OpenHead
from drig.faces.portraits import trusted_portrait
from drig.metrics import Mask, Picture, face_region
from drig.personalization import fit_album
from drig.reading import Face

SEED = 2_000_003
"""Of the people: the quickstart and the released base have others."""
PHOTO_SIZE = 256
RECONSTRUCTION: tuple[str, ...] = ()
KINDS: tuple[tuple[str, ...], ...] = (
    RECONSTRUCTION,
    *(modes for length in (1, 2, 3) for modes in combinations(EDIT_MODES, length)),
)
"""What is asked: a reconstruction, and every set of edits that change the buffers."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What an edit should have given."""

    picture: Picture
    """(S, S, 3)"""
    codes: FaceCodes
    """One face."""
    landmarks: NDArray[np.floating]
    """(68, 2) in image NDC."""

    @property
    def face(self) -> Mask:
        """(S, S) what lies within the landmarks: brows to chin."""
        return face_region(self.landmarks, len(self.picture))


@dataclass(frozen=True, eq=False)
class Trial:
    """An edit whose answer is known."""

    source: int
    """Place among the subject's unseen photos."""
    target: int
    """Likewise: the photo that light, expression or pose come from."""
    modes: tuple[str, ...]
    """Empty: the source's reconstruction."""
    answer: Answer


@dataclass(frozen=True, eq=False)
class Subject:
    """A person to personalise for and to measure on."""

    name: str
    album: list[Face]
    """What personalisation may learn from."""
    same_light: list[Face]
    """The same photos, had all been taken in the light of the first: a bad album. Empty for real people."""
    unseen: list[Face]
    """None of them is in the album, but for a real person's sources."""
    trials: list[Trial]


def synthetic_subject(editor: Editor, index: int, *, album: int, unseen: int) -> Subject:
    """Person `index`, who has `album` photos and some unseen ones, each edited like the next in every one of KINDS.

    editor: reads the photos; any with the head, estimator and size of the rigs to be measured.
    """
    head = editor.head
    if not isinstance(head, OpenHead):
        raise DrigError(f"synthetic people are made of the open head, the rig works with {head.name!r}: give an album")
    person = sample_person(head, SEED, index)
    shots, faces = zip(*islice(_readable_shots(editor, person), album + unseen), strict=True)
    trials = [
        Trial(source, target, modes, _answer(head, person, shot.with_attributes(other, modes), editor.size))
        for source, shot in enumerate(shots[album:])
        for target, other in [((source + 1) % unseen, shots[album + (source + 1) % unseen])]
        for modes in KINDS
    ]
    lit = [_read_shot(editor, person, shot.with_attributes(shots[0], ["light"])) for shot in shots[:album]]
    same_light = [face for face in lit if face is not None]
    return Subject(f"person_{index:04d}", list(faces[:album]), same_light, list(faces[album:]), trials)


def left_out(editor: Editor, album: Album, index: int) -> Subject:
    """A real album without one of its photos, which is to be made of the photo before it: leave one out."""
    faces = fit_album(editor, album)
    target, source = faces[index], faces[index - 1]
    answer = Answer(target.portrait.image, target.codes, target.portrait.landmarks)
    trial = Trial(0, 1, EDIT_MODES, answer)
    return Subject(album.keys[index], [f for f in faces if f is not target], [], [source, target], [trial])


def _readable_shots(editor: Editor, person: Person) -> Iterator[tuple[Shot, Face]]:
    """The person's photos in which a face is found."""
    for index in count():
        shot = sample_shot(person, index)
        face = _read_shot(editor, person, shot)
        if face is not None:
            yield shot, face


def _read_shot(editor: Editor, person: Person, shot: Shot) -> Face | None:
    assert isinstance(editor.head, OpenHead)
    try:
        return editor.read(render_portrait(editor.head, person, shot, PHOTO_SIZE).image, aligned=True)
    except PhotoRejected:
        return None


def _answer(head: OpenHead, person: Person, shot: Shot, size: int) -> Answer:
    portrait = render_portrait(head, person, shot, PHOTO_SIZE)
    return Answer(trusted_portrait(portrait.image, size).image, portrait.codes, portrait.landmarks)
