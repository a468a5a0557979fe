"""Synthetic portraits: people who do not exist, photographed with known face codes.

    person = sample_person(head, seed, 7)
    shot = sample_shot(person, 3)
    portrait = render_portrait(head, person, shot, size=256)

A person is what stays the same from photo to photo (head shape, skin, hair, glasses), a shot what does not (pose,
expression, light, camera, clothes, background). The picture has what the physical buffers lack, and beside it are the
face codes that explain the rest.
"""

from drig.data.synthetic.people import Looks, Person, sample_person
from drig.data.synthetic.render import SyntheticPortrait, render_portrait
from drig.data.synthetic.shots import Shot, sample_shot
from drig.data.synthetic.writing import read_truth, write_people

__all__ = [
    "Looks",
    "Person",
    "Shot",
    "SyntheticPortrait",
    "read_truth",
    "render_portrait",
    "sample_person",
    "sample_shot",
    "write_people",
]
