"""From a base rig and one person's faces to the person's own: the parts of stage 2 (SPEC 1, 6) around its training."""

from collections.abc import Sequence
from pathlib import Path

from torch.utils.data import Dataset

from drig.data.albums import Album
from drig.data.items import Item
from drig.data.mirroring import with_mirror_images
from drig.data.photos import to_network
from drig.diffusion.deltas import is_delta
from drig.diffusion.weights import load_weights
from drig.editing import Editor
from drig.faces.estimators import estimate
from drig.reading import Face


def fit_album(editor: Editor, album: Album) -> list[Face]:
    """The faces of an album as the editor sees them, fitted in one batch."""
    codes = estimate(editor.estimator, album.portraits)
    return [Face(portrait, codes[i], ()) for i, portrait in enumerate(album.portraits)]


def album_dataset(editor: Editor, faces: Sequence[Face], *, mirror: bool) -> Dataset[Item]:
    """What stage 2 learns from: faces, and buffers as `editor` renders them; with `mirror` their mirror images too."""
    items = AlbumDataset(editor, faces)
    return with_mirror_images(items) if mirror else items


def own_editor(base: Editor, weights: Path) -> Editor:
    """The editor of what training over `base` left, with the mean shape that `base` had meanwhile."""
    if is_delta(weights):
        own = base.personalised(weights)
    else:
        own = Editor(load_weights(weights).rig, base.head, base.estimator, device=str(base.device))
    own.mean_shape = base.mean_shape
    return own


class AlbumDataset(Dataset[Item]):
    """An album in memory, its buffers rendered as `editor` will render them when it edits: with the mean shape."""

    def __init__(self, editor: Editor, faces: Sequence[Face]) -> None:
        self.items = [
            {"image": to_network(face.portrait.image), "buffers": editor.buffers(face.codes).stacked()[0]}
            for face in faces
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        return self.items[index]
