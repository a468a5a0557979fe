"""The `fit` estimator: a small network's guess at the open head's codes, refined on landmarks and on colours.

The guess is where both fits start and what they hold on to, as firmly as the network deserves it.
"""

import torch
from pytorch3d.transforms import axis_angle_to_matrix, matrix_to_axis_angle
from torch import Tensor
from torch.nn import functional

from drig.errors import DrigError
from drig.faces import ibug
from drig.faces.camera import project
from drig.faces.codes import FaceCodes
from drig.faces.fit_geometry import Geometry, GeometryFit, GeometryPrior
from drig.faces.fit_light import LightFit
from drig.faces.fit_person import UNEXPLAINED, PersonFit
from drig.faces.head import neutral_codes
from drig.faces.open_head import OpenHead
from drig.faces.portraits import DETAIL
from drig.faces.regressor import Regressor

MISPLACED = 0.13
"""Mean distance of the guess's landmarks from the detected ones, in inter-ocular distances, beyond which it is not
believed. Real portraits have 0.05, at most 0.105; those shifted by a tenth of their side 0.14."""


class Fit:
    """Implements Estimator for the open head. The jaw's rotation stays zero: jawOpen is the same movement.

    Args:
        regressor: makes the guess; None leaves landmarks and colours alone, with what is known of faces in general.
    """

    name = "fit"

    def __init__(self, head: OpenHead, regressor: Regressor | None) -> None:
        self.head = head
        self.regressor = regressor
        self.geometry = GeometryFit(head)
        self.light = LightFit(head)
        self.person = PersonFit(head, regressor) if regressor else None

    @torch.no_grad()
    def fit(self, portraits: Tensor, landmarks: Tensor | None) -> FaceCodes:
        """Portraits (N, 3, H, W) in [0, 1], landmarks (N, 68, 2) in image NDC or None -> N faces."""
        portraits = _enlarged(portraits)
        if self.regressor is None:
            if landmarks is None:
                raise DrigError("without its network the estimator needs landmarks: give them")
            return self._without_guess(portraits, landmarks)
        guess = self.regressor.guess(portraits, landmarks)
        if landmarks is None:
            return self.light.fit(portraits, guess, self.regressor.light_precision)
        turned = axis_angle_to_matrix(guess.pose[:, :3])
        mean = Geometry(rotation=turned, cam=guess.cam, shape=guess.shape, exp=guess.exp)
        prior = GeometryPrior(mean, self.regressor.geometry_precision)
        codes = _with(guess, self.geometry.fit(landmarks, prior))
        codes = self.light.fit(portraits, codes, self.regressor.light_precision)
        lost = self._misplaced(guess, landmarks).nonzero()[:, 0]
        if len(lost):
            order = torch.arange(len(codes), device=lost.device)
            order[lost] = len(codes) + torch.arange(len(lost), device=lost.device)
            codes = FaceCodes.cat([codes, self._without_guess(portraits[lost], landmarks[lost])])[order]
        return codes

    @torch.no_grad()
    def refit(self, portraits: Tensor, codes: FaceCodes, detail: Tensor) -> tuple[FaceCodes, Tensor]:
        """Portraits (N, 3, H, W) in [0, 1] of somebody with the shape and texture of `codes` and the detail (N or
        1, 3, T, T) -> better codes, and (N,) bool: the photo does show that person. Without the network nothing is
        known of that, and the codes are no better."""
        if self.person is None:
            return codes, torch.zeros(len(codes), dtype=torch.bool)
        found, unexplained = self.person.fit(portraits, codes, detail)
        return found, unexplained < UNEXPLAINED

    def _without_guess(self, portraits: Tensor, landmarks: Tensor) -> FaceCodes:
        found = self.geometry.fit(landmarks)
        return self.light.fit(portraits, _with(neutral_codes(self.head, len(portraits)), found))

    def _misplaced(self, codes: FaceCodes, landmarks: Tensor) -> Tensor:
        """(N,) bool: the network did not understand the picture, as happens to one that is no FFHQ crop."""
        placed = project(self.head.landmarks(codes, self.head.vertices(codes)), codes)[..., :2]
        error = (placed - landmarks)[:, ibug.CONTOUR.stop :].norm(dim=2).mean(1)  # (N,)
        left, right, _ = ibug.eyes_and_mouth(landmarks)
        misplaced: Tensor = error > MISPLACED * (left - right).norm(dim=1)
        return misplaced


def _enlarged(portraits: Tensor) -> Tensor:
    """At least DETAIL px: all that follows resamples, and smears pixels that are as coarse as its grids."""
    if portraits.shape[-1] >= DETAIL:
        return portraits
    return functional.interpolate(portraits, (DETAIL, DETAIL), mode="bicubic").clamp(0, 1)


def _with(codes: FaceCodes, found: Geometry) -> FaceCodes:
    rotation = matrix_to_axis_angle(found.rotation)
    pose = torch.cat([rotation, torch.zeros_like(rotation)], 1)
    return codes.replace(shape=found.shape, exp=found.exp, pose=pose, cam=found.cam)
