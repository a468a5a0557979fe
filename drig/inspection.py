"""How well the estimator explains photos: numbers for each photo, a table, and a picture to look at."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor
from torch.nn import functional

from drig.data.photos import read_photo
from drig.errors import DrigError, PhotoRejected
from drig.faces import ibug
from drig.faces.buffers import Buffers, render_buffers
from drig.faces.camera import project
from drig.faces.codes import FaceCodes
from drig.faces.controls import head_angles
from drig.faces.estimators import Estimator, estimate
from drig.faces.head import HeadModel
from drig.faces.landmarks import LandmarkDetector
from drig.faces.portraits import Portrait, find_portrait
from drig.faces.rasterizer import rasterize
from drig.pictures import Picture, buffer_pictures, contact_sheet, to_picture

BATCH = 16
"""Portraits that are fitted together; the results do not depend on it."""
UNEXPLAINED = 0.18
"""Mean difference of RGB in 0..1 beyond which the rendered head says nothing of a pixel. On bare real faces 3 to 13% of
the pixels are beyond, behind hair, a hand or a microphone up to 28%."""
ACTIONS = 4
"""How many facial actions are listed, from the strongest down."""
ALIKE = 0.15
"""By how much the two sides of an action may differ."""
SHEET_COLUMNS = ("portrait", "landmarks", "on the photo", "rendered", "normal", "albedo")
_FOUND, _FITTED = (0, 220, 0), (240, 0, 0)
_MESH_INK = (120, 255, 240)
_MESH_DETAIL = 2
"""The head's triangles are a few pixels wide: their edges are drawn this much finer, and then reduced."""
_MESH_LINE = 0.8
"""How far in these finer pixels an edge fades to nothing: hard lines would break up into dots."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """The face in a photo and what the estimator made of it."""

    portrait: Portrait
    codes: FaceCodes
    """One face."""
    landmarks: Tensor
    """(68, 2) image NDC: the fitted head's."""
    buffers: Buffers
    """Of one face."""
    error: float
    """Mean distance of fitted and detected landmarks, % of the distance between the eyes."""
    inner_error: float
    """The same without the contour, whose points slide over the head as it turns."""
    colour_error: float
    """Mean |rendered - portrait| on the face from the brows to the chin, % of the range."""
    unexplained: float
    """Share of that part of the face that is off by more than UNEXPLAINED: hands, hair, microphones, cast shadows."""
    angles: tuple[float, float, float]
    """Yaw, pitch, roll in degrees, signed as in Controls."""
    actions: tuple[tuple[str, float], ...]
    """The strongest facial actions."""


@dataclass(frozen=True, eq=False)
class Inspection:
    """One photo's outcome: a fitted face, or the reason why there is none."""

    photo: str
    outcome: Fitted | PhotoRejected


def inspect(
    photos: Sequence[str | Path], head: HeadModel, estimator: Estimator, size: int = 256, *, aligned: bool = False
) -> list[Inspection]:
    """Finds the largest face in each photo, fits the head to it and measures. DrigError where there is no such file.

    aligned: the photos are FFHQ crops already.
    """
    detector = LandmarkDetector()
    found = [(str(photo), _find(photo, detector, size, aligned)) for photo in photos]
    fitted = _fit([portrait for _, portrait in found if isinstance(portrait, Portrait)], head, estimator)
    return [Inspection(name, next(fitted) if isinstance(face, Portrait) else face) for name, face in found]


def table(inspections: Iterable[Inspection]) -> str:
    """One line for each photo, under a heading."""
    row = "{:<28} {:>5} {:>8} {:>8} {:>8} {:>5} {:>5} {:>5}  {}".format
    lines = [row("photo", "faces", "error %", "inner %", "colour %", "yaw", "pitch", "roll", "strongest actions")]
    for inspection in inspections:
        face, name = inspection.outcome, _short(inspection.photo)
        if isinstance(face, PhotoRejected):
            lines.append(f"{name:<28} rejected: {face}")
            continue
        actions = ", ".join(f"{action} {value:.1f}" for action, value in face.actions)
        errors = [f"{value:.1f}" for value in (face.error, face.inner_error, face.colour_error)]
        lines.append(row(name, face.portrait.faces_found, *errors, *(f"{angle:.0f}" for angle in face.angles), actions))
    return "\n".join(lines)


def sheet(inspections: Iterable[Inspection], cell: int = 200) -> Picture:
    """A row for each face: detected (green) and fitted (red) landmarks, the rendered head on the photo, the buffers.
    Of a photo without a usable face, the photo and the reason."""
    rows: list[Sequence[Picture | None]] = []
    labels = []
    for item in inspections:
        label, face = _short(item.photo).replace("/", "/\n"), item.outcome
        if isinstance(face, Fitted):
            rows.append(_pictures(face, cell))
            labels.append(f"{label}\n\nlandmarks {face.inner_error:.1f}%\ncolours {face.colour_error:.1f}%")
        else:
            rows.append([_whole(item.photo)] + [None] * (len(SHEET_COLUMNS) - 1))
            labels.append("\n".join([label, "", "rejected:", *textwrap.wrap(face.reason, 18)]))
    return contact_sheet(rows, cell=cell, columns=SHEET_COLUMNS, labels=labels)


def _whole(photo: str) -> Picture | None:
    """A photo as a square, nothing cut off; None where it cannot be read."""
    try:
        image = Image.fromarray(read_photo(photo))
    except DrigError:
        return None
    return np.asarray(ImageOps.pad(image, (max(image.size),) * 2, color=(255, 255, 255)))


def _find(photo: str | Path, detector: LandmarkDetector, size: int, aligned: bool) -> Portrait | PhotoRejected:
    try:
        return find_portrait(read_photo(photo), detector, size, aligned=aligned)
    except PhotoRejected as reason:
        return reason


def _fit(portraits: Sequence[Portrait], head: HeadModel, estimator: Estimator) -> Iterator[Fitted]:
    for start in range(0, len(portraits), BATCH):
        batch = portraits[start : start + BATCH]
        codes = estimate(estimator, batch)
        for i, portrait in enumerate(batch):
            yield measure(portrait, codes[i], head)


def measure(portrait: Portrait, codes: FaceCodes, head: HeadModel) -> Fitted:
    """How well a fitted face, one, explains its portrait."""
    image = torch.tensor(portrait.image).permute(2, 0, 1) / 255  # (3, S, S)
    landmarks = project(head.landmarks(codes, head.vertices(codes)), codes)[0, :, :2]
    detected = torch.from_numpy(portrait.landmarks)
    left, right, _ = ibug.eyes_and_mouth(detected)
    error = 100 * (landmarks - detected).norm(dim=1) / (left - right).norm()
    buffers = render_buffers(head, codes, image.shape[-1])
    face = buffers.alpha[0, 0].bool() & _face_mask(portrait)
    difference = (buffers.rendered[0].clamp(0, 1) - image).abs().mean(0)
    names = head.expression_names or tuple(f"exp {k}" for k in range(head.exp_size))
    yaw, pitch, roll = head_angles(codes)[0].tolist()
    return Fitted(
        portrait=portrait,
        codes=codes,
        landmarks=landmarks,
        buffers=buffers,
        error=error.mean().item(),
        inner_error=error[ibug.CONTOUR.stop :].mean().item(),
        colour_error=100 * difference[face].mean().item(),
        unexplained=(difference[face] > UNEXPLAINED).float().mean().item(),
        angles=(yaw, pitch, roll),
        actions=_strongest(dict(zip(names, codes.exp[0].tolist(), strict=True))),
    )


def _strongest(actions: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """The ACTIONS strongest; one that both sides do alike is one, without its side."""
    both: dict[str, float] = {}
    for name, value in actions.items():
        base = re.sub("(Left|Right)$", "", name)
        pair = [actions.get(base + side, value) for side in ("Left", "Right")]
        both[base if max(pair) - min(pair) < ALIKE else name] = value
    return tuple(sorted(both.items(), key=lambda item: -abs(item[1]))[:ACTIONS])


def _face_mask(portrait: Portrait) -> Tensor:
    """(S, S) bool: inside the detected contour and brows, outside the mouth, whose inside has a light of its own."""
    size = len(portrait.image)
    points = [tuple(point) for point in ((portrait.landmarks + 1) * size / 2).tolist()]
    mask = Image.new("1", (size, size))
    draw = ImageDraw.Draw(mask)
    draw.polygon([*points[ibug.CONTOUR], *points[26:16:-1]], fill=1)
    draw.polygon(points[60:68], fill=0)
    return torch.from_numpy(np.array(mask))


def _short(photo: str) -> str:
    """Folder and file name."""
    return "/".join(Path(photo).parts[-2:])


def _pictures(face: Fitted, cell: int) -> list[Picture]:
    image, buffers = face.portrait.image, face.buffers
    marked = landmark_picture(face.portrait, face.landmarks, 2 * cell)
    pasted = np.where(buffers.alpha[0, 0, ..., None].numpy() > 0, to_picture(buffers.rendered[0]), image)
    return [image, marked, pasted, *buffer_pictures(buffers.stacked()[0])]


def landmark_picture(portrait: Portrait, fitted: Tensor, size: int) -> Picture:
    """The portrait at size x size with the detected landmarks in green and the fitted head's (68, 2) in red."""
    marked = Image.fromarray(portrait.image).resize((size, size))
    draw = ImageDraw.Draw(marked)
    for points, colour in ((torch.from_numpy(portrait.landmarks), _FOUND), (fitted, _FITTED)):
        for x, y in ((points + 1) * (size / 2)).tolist():
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
    return np.asarray(marked)


def mesh_picture(image: Picture, points: Tensor, faces: Tensor) -> Picture:
    """The edges of a mesh's visible triangles over a square image: points (V, 3) in image NDC, faces (F, 3)."""
    size = len(image)
    finer = _MESH_DETAIL * size
    fragments = rasterize(points[None], faces, finer)
    face, bary = fragments.face[0], fragments.bary[0]  # (H, W), (H, W, 3)
    corners = points[faces, :2].double() * (finer / 2)  # (F, 3, 2) in pixels
    sides = corners.roll(-1, 1) - corners.roll(-2, 1)  # opposite each corner
    doubled_area = (sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0]).abs()
    heights = (doubled_area[:, None] / sides.norm(dim=2).clamp(min=1e-6)).float()  # (F, 3) of each corner over its side
    to_edge = (bary * heights[face.clamp(min=0)]).amin(-1)  # (H, W) pixels
    lines = (_MESH_LINE - to_edge).clamp(0, 1) * (face >= 0)
    share = functional.avg_pool2d(lines[None], _MESH_DETAIL)[0, ..., None].numpy()  # (S, S, 1)
    return np.asarray(np.rint(image + share * (np.array(_MESH_INK) - image)), np.uint8)
