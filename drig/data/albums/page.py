"""The doctor's findings as one HTML page with pictures, for people."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from drig.data.albums.doctor import AlbumCheck, AlbumFaces
from drig.data.albums.verdicts import (
    LITTLE_EXPRESSION,
    LITTLE_LIGHT,
    LITTLE_POSE,
    ONE_PLACE,
    TOO_FEW,
    Level,
    PhotoMeasures,
    Verdict,
)
from drig.faces.buffers import render_buffers
from drig.faces.head import HeadModel
from drig.faces.lighting import shade
from drig.pictures import Picture, to_picture
from drig.report import Card, Point, Section, write_report

_CELL = 160  # px of each of a photo's three pictures


def write_page(path: Path, name: str, check: AlbumCheck, head: HeadModel, config: str) -> None:
    """Write the page, whole or not at all."""
    verdicts = [_point(verdict) for verdict in check.verdicts] or [Point("nothing to complain of", "good")]
    sections = [
        Section("Verdict", points=verdicts),
        Section("Coverage", "Of the photos of the album's person, copies left out.", table=_coverage(check)),
        Section(
            "Photos",
            "Each portrait, the head fitted to it, and a ball in the light found on it, exposure and colour left "
            "out. Where all balls look alike, the light cannot be told from the face.",
            cards=list(_cards(check.faces, head)),
        ),
    ]
    if check.rejects:
        reasons = [Point(f"{key}: {reason}") for key, reason in check.rejects.items()]
        sections.append(Section("Not used", points=reasons))
    write_report(path, title=f"Album {name}", lead=check.summary, sections=sections, config=config)


def light_ball(light: Tensor, size: int) -> Picture:
    """(size, size, 3): a ball in the brightness of a light (9, 3), exposed so that its visible half is medium grey."""
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    x, y = torch.meshgrid(axis / 0.9, -axis / 0.9, indexing="xy")
    inside = x.square() + y.square() < 1
    z = (1 - x.square() - y.square()).clamp(min=0).sqrt()
    ball = shade(torch.stack([x, y, z], 2)[inside], light).mean(1)  # (P)
    picture = torch.full((size, size), 0.1)
    picture[inside] = 0.6 * ball / ball.mean().clamp(min=1e-6)
    return to_picture(picture.expand(3, -1, -1))


def _cards(faces: AlbumFaces, head: HeadModel) -> Iterator[Card]:
    for i, photo in enumerate(faces.photos):
        codes, portrait = faces.codes[i], faces.portraits[i].image
        rendered = to_picture(render_buffers(head, codes, _CELL).rendered[0])
        small = np.asarray(Image.fromarray(portrait).resize((_CELL, _CELL), Image.Resampling.LANCZOS))
        strip = np.hstack([small, rendered, light_ball(codes.light[0], _CELL)])
        state = Point("good", "good") if not photo.verdicts else None
        points = [*([state] if state else []), *map(_point, photo.verdicts), Point(_numbers(photo))]
        yield Card(photo.key, strip, points)


def _numbers(photo: PhotoMeasures) -> str:
    return (
        f"yaw {photo.yaw:.0f}°, pitch {photo.pitch:.0f}°, blur {photo.blur:.2f}, "
        f"landmark error {photo.landmark_error:.1f}%, unexplained {photo.covered:.0%}"
    )


def _coverage(check: AlbumCheck) -> list[list[str]]:
    found = check.variety
    yaw, pitch = (f"{low:.0f}° to {high:.0f}°" for low, high in (found.yaw, found.pitch))
    return [
        ["what", "found", "wanted"],
        ["usable photos", str(found.usable), f"{TOO_FEW} at least, better 10 to 20"],
        ["light, spread of shading", f"{found.light:.2f}", f"above {LITTLE_LIGHT:g}"],
        ["photos with the most frequent surroundings", f"{found.one_place:.0%}", f"below {ONE_PLACE:.0%}"],
        ["head pose, spread", f"{found.pose:.0f}° (yaw {yaw}, pitch {pitch})", f"above {LITTLE_POSE:g}°"],
        ["expression, spread", f"{found.expression:.2f}", f"above {LITTLE_EXPRESSION:g}"],
        ["compared with", check.compared_with, ""],
    ]


def _point(verdict: Verdict) -> Point:
    return Point(f"{verdict.level}: {verdict.text}", "bad" if verdict.level == Level.FAULT else "")
