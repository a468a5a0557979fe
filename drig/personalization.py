"""From a base rig and one person's faces to the person's own: the parts of stage 2 (SPEC 1, 6) around its training."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from drig.data.albums import Album
from drig.data.items import Item
from drig.data.mirroring import with_mirror_images
from drig.data.photos import to_network
from drig.diffusion.deltas import is_delta
from drig.diffusion.weights import load_weights
from drig.editing import Editor
from drig.faces.codes import FaceCodes
from drig.faces.estimators import estimate
from drig.faces.unwrapping import unwrap
from drig.reading import Face


def fit_album(editor: Editor, album: Album) -> list[Face]:
    """The faces of an album as the editor sees them, fitted in one batch."""
    codes = estimate(editor.estimator, album.portraits)
    return [Face(portrait, codes[i], ()) for i, portrait in enumerate(album.portraits)]


def album_dataset(editor: Editor, faces: Sequence[Face], *, mirror: bool) -> Dataset[Item]:
    """What stage 2 learns from: the faces that came with the editor from `Editor.of_person`, and their buffers.

    A photo's buffers have the detail of the skin that the other photos show, as will those of photos to come. mirror:
    their mirror images too.
    """
    details: Sequence[Tensor | None] = [None] * len(faces)
    if editor.likeness.skin_detail is not None:
        codes = FaceCodes.cat([face.codes for face in faces])
        seen = np.stack([face.portrait.seen for face in faces])
        details = unwrap(editor.head, editor.own(codes), seen).detail_of_others().split(1)
    items = AlbumDataset(editor, faces, details)
    return with_mirror_images(items) if mirror else items


def own_editor(base: Editor, weights: Path, *, mirror: bool) -> Editor:
    """The editor of what training over `base` left, with the person whom `base` had meanwhile.

    mirror: it was trained on mirror images, too.
    """
    if is_delta(weights):
        own = base.personalised(weights)
    else:
        rig, device = load_weights(weights).rig, str(base.device)
        own = Editor(rig, base.head, base.estimator, follows_skin=base.follows_skin, device=device)
    own.likeness, own.mirrored = base.likeness, mirror
    return own


class AlbumDataset(Dataset[Item]):
    """Photos in memory, their buffers rendered as `editor` will when it edits them.

    details: for each photo what stands for the detail of the person's skin (1, 3, T, T); None = the editor's.
    """

    def __init__(self, editor: Editor, faces: Sequence[Face], details: Sequence[Tensor | None] | None = None) -> None:
        self.items = []
        for face, detail in zip(faces, details or [None] * len(faces), strict=True):
            own = copy.copy(editor)
            own.likeness = editor.likeness if detail is None else replace(editor.likeness, skin_detail=detail)
            buffers = own.buffers(own.own(face.codes)).stacked()[0]
            self.items.append({"image": to_network(face.portrait.image), "buffers": buffers})

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        return self.items[index]
