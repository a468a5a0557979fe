"""Estimators: portraits and landmarks -> face codes. Any of them serves wherever codes are needed."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drig.errors import DrigError
from drig.faces.codes import FaceCodes
from drig.faces.head import HeadModel
from drig.faces.open_head import OpenHead
from drig.faces.portraits import Portrait

ESTIMATORS = ("fit", "deca")
"""The estimators that `load_estimator` knows."""


class Estimator(Protocol):
    """Portraits -> the codes of one head model."""

    name: str

    def fit(self, portraits: Tensor, landmarks: Tensor | None) -> FaceCodes:
        """Portraits (N, 3, H, W) in [0, 1], landmarks (N, 68, 2) in image NDC -> N faces. Deterministic, batched.

        Without landmarks the portraits are taken for exact FFHQ crops, in which every face is in the same place.
        """
        ...


def estimate(estimator: Estimator, portraits: Sequence[Portrait]) -> FaceCodes:
    """The codes of portraits of one size, with landmarks, as one batch on the CPU."""
    landmarks = torch.from_numpy(np.stack([portrait.landmarks for portrait in portraits]))
    return estimator.fit(to_pictures(np.stack([portrait.seen for portrait in portraits])), landmarks)


def to_pictures(photos: NDArray[np.uint8]) -> Tensor:
    """Photos (N, H, W, 3) as estimators take them: (N, 3, H, W) in [0, 1]."""
    return torch.tensor(photos).permute(0, 3, 1, 2) / 255  # a copy: photos may not be writable


def load_estimator(name: str, head: HeadModel) -> Estimator:
    """The estimator of that name for a head model. Raises DrigError for an unknown one, or one for another head."""
    if name not in ESTIMATORS:
        raise DrigError(f"estimator {name!r} is unknown; choose one of: {', '.join(ESTIMATORS)}")
    if name == "deca":
        from drig.faces.deca import Deca
        from drig.faces.flame import FlameHead

        if not isinstance(head, FlameHead):
            raise DrigError(f"estimator deca works with the FLAME head, not with {head.name!r}: use --head flame")
        return Deca(head)
    if not isinstance(head, OpenHead):
        raise DrigError(f"estimator fit works with the open head, not with {head.name!r}: use --head open")
    from drig.faces.fit import Fit
    from drig.faces.regressor import Regressor

    return Fit(head, Regressor.load().to(head.template.device))
