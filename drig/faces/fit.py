"""The `fit` estimator: a small network's guess at the open head's codes, refined on landmarks and on colours.

The guess is where both fits start and what they hold on to, as firmly as the network deserves it.
"""

import torch
from pytorch3d.transforms import axis_angle_to_matrix, matrix_to_axis_angle
from torch import Tensor

from drig.errors import DrigError
from drig.faces.codes import FaceCodes
from drig.faces.fit_geometry import Geometry, GeometryFit, GeometryPrior
from drig.faces.fit_light import LightFit
from drig.faces.head import neutral_codes
from drig.faces.open_head import OpenHead
from drig.faces.regressor import Regressor


class Fit:
    """Implements Estimator for the open head. The jaw's rotation stays zero: jawOpen is the same movement.

    Args:
        regressor: makes the guess; None leaves landmarks and colours alone, with what is known of faces in general.
    """

    name = "fit"

    def __init__(self, head: OpenHead, regressor: Regressor | None) -> None:
        self.regressor = regressor
        self.geometry = GeometryFit(head)
        self.light = LightFit(head)

    @torch.no_grad()
    def fit(self, portraits: Tensor, landmarks: Tensor | None) -> FaceCodes:
        """Portraits (N, 3, H, W) in [0, 1], landmarks (N, 68, 2) in image NDC or None -> N faces."""
        if self.regressor is None:
            if landmarks is None:
                raise DrigError("without its network the estimator needs landmarks: give them")
            found = self.geometry.fit(landmarks)
            return self.light.fit(portraits, _with(neutral_codes(self.light.head, len(portraits)), found))
        codes = self.regressor.guess(portraits, landmarks)
        if landmarks is not None:
            turned = axis_angle_to_matrix(codes.pose[:, :3])
            mean = Geometry(rotation=turned, cam=codes.cam, shape=codes.shape, exp=codes.exp)
            prior = GeometryPrior(mean, self.regressor.geometry_precision)
            codes = _with(codes, self.geometry.fit(landmarks, prior))
        return self.light.fit(portraits, codes, self.regressor.light_precision)


def _with(codes: FaceCodes, found: Geometry) -> FaceCodes:
    rotation = matrix_to_axis_angle(found.rotation)
    pose = torch.cat([rotation, torch.zeros_like(rotation)], 1)
    return codes.replace(shape=found.shape, exp=found.exp, pose=pose, cam=found.cam)
