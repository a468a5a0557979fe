"""What a rig makes of one photo, at a look: a lamp that goes round the head, a head that turns, expressions."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch

from drig.editing import Editor
from drig.faces.controls import Controls, apply_controls
from drig.pictures import Picture, contact_sheet, to_picture
from drig.reading import Face

SWEEPS: Mapping[str, Sequence[Controls]] = MappingProxyType(
    {
        "light": [
            Controls(light_direction=towards)
            for towards in (
                (-1, 0.2, 0.3),
                (-1, 0.5, 1),
                (0, 1, 0.6),
                (0, 0, 1),
                (0, -1, 0.6),
                (1, 0.5, 1),
                (1, 0.2, 0.3),
            )
        ],
        "pose": [
            *(Controls(yaw=yaw, pitch=0) for yaw in (-30, -15, 0, 15, 30)),
            Controls(yaw=0, pitch=15),
            Controls(yaw=0, pitch=-15),
        ],
        "expression": [
            Controls(mood=mood) for mood in ("rest", "smile", "laugh", "surprise", "frown", "sad", "pucker")
        ],
    }
)
"""Edits by row."""


def showcase(editor: Editor, face: Face, *, steps: int | None = None, sampler: str = "ddim", seed: int = 0) -> Picture:
    """A sheet with a row of edits for each of SWEEPS, under each the buffers that it followed.

    FLAME's expressions have no names, so that with it there is no row of these.
    """
    sweeps = {name: sweep for name, sweep in SWEEPS.items() if name != "expression" or editor.expression_names}
    rows: list[list[Picture | None]] = []
    editor, face = editor.meeting(face)
    source = face.codes
    for controls in sweeps.values():
        edited = [apply_controls(source, one, editor.expression_names) for one in controls]
        buffers = [editor.buffers(source, codes) for codes in edited]
        made = editor.sample(
            torch.cat([one.stacked() for one in buffers]),  # (N, 9, S, S)
            [face.portrait.image] * len(buffers),
            steps=steps,
            sampler=sampler,
            seed=seed,
        )
        rows.append([face.portrait.image, *made])
        rows.append([None, *(to_picture(one.rendered[0]) for one in buffers)])
    labels = [label for name in sweeps for label in (name, "")]
    return contact_sheet(rows, cell=128, columns=["source"], labels=labels)
