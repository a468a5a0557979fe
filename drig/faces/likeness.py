"""What is known of one person beside their rig: the mean shape (SPEC 6) and, beyond the paper, their skin.

Legend: N photos, T texture size, S = size in pixels, D side of the photos in pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from drig.faces.buffers import Buffers, render_edited
from drig.faces.codes import FaceCodes
from drig.faces.head import HeadModel
from drig.faces.open_head import OpenHead
from drig.faces.skin import with_skin
from drig.faces.unwrapping import Unwrapped, unwrap

FOLLOWS_SKIN = "follows_skin"
"""What weights' metadata say of rigs that learnt from buffers with the detail of people's skin."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Likeness:
    """Somebody's own; None = every photo's own (shape, skin), or nothing known (detail)."""

    mean_shape: Tensor | None = None
    """(1, S) mean of the album's shape codes, which replaces every shape code."""
    mean_skin: Tensor | None = None
    """(1, K) likewise of its texture codes (`drig.faces.skin`)."""
    skin_detail: Tensor | None = None
    """(1, 3, T, T) factor on the albedo (`drig.faces.unwrapping`)."""

    @classmethod
    def of_shapes(cls, codes: FaceCodes) -> Self:
        """As in the paper: the person in N photos has their mean shape, and each photo's own skin."""
        return cls(mean_shape=codes.shape.mean(0, keepdim=True))

    @classmethod
    def of_skins(cls, head: HeadModel, codes: FaceCodes, photos: NDArray[np.uint8]) -> tuple[Self, Unwrapped]:
        """The person in N portraits (N, D, D, 3) of the open head, and these portraits unwrapped."""
        known = cls(mean_shape=codes.shape.mean(0, keepdim=True), mean_skin=codes.tex.mean(0, keepdim=True))
        unwrapped = unwrap(head, known.own(head, codes), photos)
        return cls(mean_shape=known.mean_shape, mean_skin=known.mean_skin, skin_detail=unwrapped.detail()), unwrapped

    @property
    def known(self) -> bool:
        """Whether anything is."""
        return any(tensor is not None for tensor in vars(self).values())

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """What `tensors` gave, among others."""
        found = {field.name: tensors.get(field.name) for field in fields(cls)}
        return cls(**{name: None if tensor is None else tensor.float() for name, tensor in found.items()})

    def tensors(self) -> dict[str, Tensor]:
        """What is known, by name, as it is kept in files."""
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: tensor.half() if name == "skin_detail" else tensor
            for name, tensor in known.items()
            if tensor is not None
        }

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return sum(tensor.nbytes for tensor in vars(self).values() if tensor is not None)

    def own(self, head: HeadModel, codes: FaceCodes) -> FaceCodes:
        """What the codes of photos are, given that they show this person: with that person's skin."""
        if self.mean_skin is None:
            return codes
        assert isinstance(head, OpenHead), "nobody with another head has a mean skin"
        return with_skin(head, codes, self.mean_skin)

    def shaped(self, codes: FaceCodes) -> FaceCodes:
        """Codes with the person's shape (SPEC 6)."""
        return codes if self.mean_shape is None else codes.replace(shape=self.mean_shape.expand_as(codes.shape))

    def buffers(self, head: HeadModel, source: FaceCodes, edited: FaceCodes, size: int) -> Buffers:
        """The buffers of the person's edited codes, the head held on the source's FFHQ centre."""
        return render_edited(head, source, self.shaped(edited), size, detail=self.skin_detail)


NOBODY = Likeness()
"""Whose photos all have what their own codes say: as a base rig edits."""
