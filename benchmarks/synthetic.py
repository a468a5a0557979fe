"""How fast synthetic portraits are made on one core, and whether faces are found in them where they are.

    python benchmarks/synthetic.py [--people 50] [--seed 1000]

Two photos of each person. The speeds are of CPU time, so that other processes count less; the accuracy is that of
dlib's detector and landmarks at 256 px, against the portraits' true landmarks, in % of the distance between the outer
corners of the eyes. The last table is the gap that the rig is to learn: how far the true codes, rendered, are from
the portrait's skin.
"""

import argparse
import os
import time
from collections import Counter

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: its threads wait by spinning, which is CPU time too

import numpy as np
import torch

from drig.data.synthetic import Person, SyntheticPortrait, render_portrait, sample_person, sample_shot
from drig.faces.buffers import render_buffers
from drig.faces.camera import project
from drig.faces.ibug import BROWS, CONTOUR, LEFT_EYE, MOUTH, NOSE, RIGHT_EYE
from drig.faces.landmarks import LandmarkDetector
from drig.faces.open_head import OpenHead

_SIZES = (64, 128, 256, 512)
_PARTS = {
    "contour": CONTOUR,
    "brows": BROWS,
    "nose": NOSE,
    "right eye": RIGHT_EYE,
    "left eye": LEFT_EYE,
    "mouth": MOUTH,
}
_EYE_CORNERS = (36, 45)


def speeds(head: OpenHead, people: list[Person], seconds_per_person: float) -> None:
    """Portraits per second at several sizes."""
    print(f"{'size':>6} {'portraits/s':>12} {'with 8 photos a person':>24} {'relative':>9}")
    reference = 0.0
    for size in _SIZES:
        render_portrait(head, people[0], sample_shot(people[0], 0), size)
        start = time.process_time()
        for person in people[:24]:
            render_portrait(head, person, sample_shot(person, 1), size)
        each = (time.process_time() - start) / len(people[:24])
        reference = reference or each
        shared = 1 / (each + seconds_per_person / 8)
        print(f"{size:6} {1 / each:12.1f} {shared:24.1f} {each / reference:9.2f}")


def accuracy(people: list[Person], portraits: list[SyntheticPortrait]) -> None:
    """What dlib finds."""
    detector = LandmarkDetector()
    errors, missed = [], Counter[str]()
    for i, portrait in enumerate(portraits):
        faces = detector.detect(portrait.image)
        if not faces:
            missed[people[i // 2].looks.hair] += 1
            continue
        found = (faces[0].landmarks + 0.5) * 2 / len(portrait.image) - 1
        first, last = portrait.landmarks[list(_EYE_CORNERS)]
        errors.append(np.linalg.norm(found - portrait.landmarks, axis=1) / np.linalg.norm(last - first))
    by_point = 100 * np.array(errors)
    print(f"found {len(errors)} of {len(portraits)} faces ({len(errors) / len(portraits):.1%}); missed: {dict(missed)}")
    print(
        f"landmark error {by_point.mean():.1f}%, inside the contour {by_point[:, CONTOUR.stop :].mean():.1f}%:", end=" "
    )
    print(", ".join(f"{name} {by_point[:, part].mean():.1f}%" for name, part in _PARTS.items()))


def gap(head: OpenHead, portraits: list[SyntheticPortrait]) -> None:
    """The true codes rendered, against the portraits."""
    overlap, shift, colour, correlation = [], [], [], []
    for portrait in portraits:
        size = len(portrait.image)
        buffers = render_buffers(head, portrait.codes, size)
        points = project(head.landmarks(portrait.codes, head.vertices(portrait.codes)), portrait.codes)[
            0, :, :2
        ].numpy()
        shift.append(np.linalg.norm(points - portrait.landmarks, axis=1).mean() * size / 2)
        skin, covered = portrait.skin > 0.95, buffers.alpha[0, 0].numpy() > 0
        overlap.append((skin & covered).sum() / skin.sum())
        rendered = buffers.rendered[0].permute(1, 2, 0).numpy()[skin & covered]
        picture = portrait.image[skin & covered] / 255
        colour.append(np.abs(rendered - picture).mean())
        correlation.append(np.corrcoef(rendered.mean(-1), picture.mean(-1))[0, 1])
    print(f"true codes: visible skin covered {np.mean(overlap):.1%}, landmarks {np.mean(shift):.2f} px away,", end=" ")
    print(f"rendered - portrait on skin {np.mean(colour):.3f} (mean absolute), correlation {np.mean(correlation):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = OpenHead.load()
    warm = sample_person(head, options.seed, 0)
    render_portrait(head, warm, sample_shot(warm, 0), 64)
    start = time.process_time()
    people = [sample_person(head, options.seed, i) for i in range(options.people)]
    seconds = (time.process_time() - start) / len(people)
    print(f"{1 / seconds:.1f} people/s")
    speeds(head, people, seconds)
    portraits = [render_portrait(head, person, sample_shot(person, j), 256) for person in people for j in range(2)]
    accuracy(people, portraits)
    gap(head, portraits)


if __name__ == "__main__":
    main()
