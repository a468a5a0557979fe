"""From a base rig and one person's faces to the person's own: the parts of stage 2 (SPEC 1, 6) around its training."""

import copy
from collections.abc import Sequence
from pathlib import Path

from torch.utils.data import Dataset

from drig.data.albums import Album, mean_shape
from drig.data.items import Item
from drig.data.mirroring import with_mirror_images
from drig.data.photos import to_network
from drig.diffusion.deltas import is_delta
from drig.diffusion.weights import load_weights
from drig.editing import Editor
from drig.faces.codes import FaceCodes
from drig.faces.estimators import estimate
from drig.faces.skin import mean_skin
from drig.reading import Face


def fit_album(editor: Editor, album: Album) -> list[Face]:
    """The faces of an album as the editor sees them, fitted in one batch."""
    codes = estimate(editor.estimator, album.portraits)
    return [Face(portrait, codes[i], ()) for i, portrait in enumerate(album.portraits)]


def of_person(editor: Editor, faces: Sequence[Face]) -> Editor:
    """The same editor for the person in these photos: with the mean of their shape (SPEC 6) and, for `fit`, skin."""
    person, codes = copy.copy(editor), FaceCodes.cat([face.codes for face in faces])
    person.mean_shape = mean_shape(codes)
    person.mean_skin = mean_skin(codes) if editor.estimator.name == "fit" else None
    return person


def album_dataset(editor: Editor, faces: Sequence[Face], *, mirror: bool) -> Dataset[Item]:
    """What stage 2 learns from: faces, and buffers as `editor` renders them; with `mirror` their mirror images too."""
    items = AlbumDataset(editor, faces)
    return with_mirror_images(items) if mirror else items


def own_editor(base: Editor, weights: Path) -> Editor:
    """The editor of what training over `base` left, who has the mean shape and skin that `base` had meanwhile."""
    if is_delta(weights):
        own = base.personalised(weights)
    else:
        own = Editor(load_weights(weights).rig, base.head, base.estimator, device=str(base.device))
    own.mean_shape, own.mean_skin = base.mean_shape, base.mean_skin
    return own


class AlbumDataset(Dataset[Item]):
    """An album in memory, its buffers rendered as `editor` will when it edits: with the mean shape and skin."""

    def __init__(self, editor: Editor, faces: Sequence[Face]) -> None:
        self.items = [
            {"image": to_network(face.portrait.image), "buffers": editor.buffers(editor.own(face.codes)).stacked()[0]}
            for face in faces
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        return self.items[index]
