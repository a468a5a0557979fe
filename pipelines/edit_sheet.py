"""One person's edits on one picture: light, expression and pose, by stage 1 alone and by the person's own rig."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from drig.editing import Editor
from drig.faces.codes import FaceCodes
from drig.faces.portraits import Portrait
from drig.metrics import psnr
from drig.pictures import Picture, buffer_pictures, contact_sheet
from drig.reading import Face

MODES = ("light", "exp", "pose")
COLUMNS = ("source", "target", "target buffers", "edited buffers", "normals", "stage 1 alone", "personalised")
Truth = Callable[[str, str, str], Portrait | None]
"""(source key, target key, mode) -> the portrait that the edit should give, known for synthetic people; None where no
face is found in it."""


@dataclass(frozen=True)
class OneEdit:
    """What was asked, and the answers."""

    source: str
    target: str
    mode: str
    before: Picture
    """By stage 1 alone."""
    after: Picture
    """By the person's rig."""
    truth: Portrait | None

    def psnr(self) -> tuple[float, float] | None:
        """dB of the face, brows to chin, of before and after against the truth, where it is known."""
        if self.truth is None:
            return None
        image, face = self.truth.image, self.truth.face
        return psnr(self.before, image, face), psnr(self.after, image, face)


@dataclass(frozen=True)
class EditSheet:
    """Edits of one person and the picture that shows them."""

    identity: str
    picture: Picture
    edits: tuple[OneEdit, ...]


def edit_sheet(
    identity: str,
    base: Editor,
    own: Editor,
    faces: Mapping[str, Face],
    sources: Sequence[str],
    *,
    seed: int,
    truth: Truth | None = None,
) -> EditSheet:
    """Edit the sources, one for each mode in turn, like the other photo of the person that differs most in it."""
    edits, rows = [], []
    for number, mode in enumerate(MODES):
        source = sources[number % len(sources)]
        target = max((key for key in faces if key != source), key=lambda k: _distance(faces[source], faces[k], mode))
        before = base.edit(faces[source], faces[target], modes=[mode], seed=seed)
        after = own.edit(faces[source], faces[target], modes=[mode], seed=seed)
        answer = None if truth is None else truth(source, target, mode)
        edits.append(OneEdit(source, target, mode, before.image, after.image, answer))
        target_buffers = buffer_pictures(own.buffers(own.reread(faces[target]).codes).stacked()[0])
        edited_buffers = buffer_pictures(after.buffers)
        row = [faces[source].portrait.image, faces[target].portrait.image, target_buffers[0], *edited_buffers[:2]]
        rows.append([*row, before.image, after.image])
        if truth is not None:
            rows[-1].append(np.zeros_like(after.image) if answer is None else answer.image)
    columns = [*COLUMNS, *([] if truth is None else ["true answer"])]
    picture = contact_sheet(rows, columns=columns, labels=[f"{identity}\n{mode}" for mode in MODES])
    return EditSheet(identity, picture, tuple(edits))


def _distance(a: Face, b: Face, mode: str) -> float:
    """How much two faces differ in what a mode takes over."""
    values: dict[str, Callable[[FaceCodes], torch.Tensor]] = {
        "light": lambda codes: codes.light,
        "exp": lambda codes: codes.exp,
        "pose": lambda codes: codes.pose[:, :3],
    }
    return float((values[mode](a.codes) - values[mode](b.codes)).norm())
