"""The `fit` estimator: the open head fitted to landmarks, then light and albedo to colours. It needs no training."""

import torch
from torch import Tensor

from drig.faces.codes import FaceCodes
from drig.faces.fit_geometry import GeometryFit
from drig.faces.fit_light import LightFit
from drig.faces.open_head import OpenHead


class LandmarkFit:
    """Implements Estimator for the open head. The jaw's rotation stays zero: jawOpen is the same movement."""

    name = "fit"

    def __init__(self, head: OpenHead) -> None:
        self.geometry = GeometryFit(head)
        self.light = LightFit(head)

    @torch.no_grad()
    def fit(self, portraits: Tensor, landmarks: Tensor) -> FaceCodes:
        """Portraits (N, 3, H, W) in [0, 1], landmarks (N, 68, 2) in image NDC -> N faces."""
        found = self.geometry.fit(landmarks)
        n = len(landmarks)
        codes = FaceCodes(
            shape=found.shape,
            tex=landmarks.new_zeros(n, self.light.head.tex_size),
            exp=found.exp,
            pose=torch.cat([found.rotation, torch.zeros_like(found.rotation)], 1),
            cam=found.cam,
            light=landmarks.new_zeros(n, 9, 3),
            crop=torch.eye(2, 3).to(landmarks).repeat(n, 1, 1),
        )
        return self.light.fit(portraits, codes)
