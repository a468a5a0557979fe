"""How far the regressor's guesses are off on people it has not seen, as the precision of a Gaussian."""

import torch
from pytorch3d.transforms import axis_angle_to_matrix
from torch import Tensor

from drig.faces.codes import FaceCodes
from drig.faces.fit_geometry import Geometry
from drig.faces.fit_light_prior import light_level
from drig.faces.regressor import Regressor
from drig.training.regressor.portraits import Portraits

BATCH = 64
FLOOR = 1e-3
"""Deviation that every number has at least."""


def measure(model: Regressor, portraits: Portraits) -> None:
    """Sets the model's precisions from its errors on these portraits."""
    truth = portraits.codes
    chunks = zip(portraits.images.split(BATCH), portraits.landmarks.split(BATCH), strict=True)
    guesses = FaceCodes.cat([model.guess(images.float() / 255, landmarks) for images, landmarks in chunks])
    step = _geometry(truth).step_from(_geometry(guesses))
    level = light_level(guesses.light)[:, None, None]
    light = ((truth.light - guesses.light) / level).mT.flatten(1)
    model.geometry_precision.copy_(_precision(step))
    model.light_precision.copy_(_precision(torch.cat([light, truth.tex - guesses.tex], 1)))


def _geometry(codes: FaceCodes) -> Geometry:
    return Geometry(axis_angle_to_matrix(codes.pose[:, :3]), codes.cam, codes.shape, codes.exp)


def _precision(errors: Tensor) -> Tensor:
    """(N, D) -> (D, D) inverse of their second moment, bias included."""
    errors = errors.double()
    moment = errors.mT @ errors / len(errors) + FLOOR**2 * torch.eye(errors.shape[1])
    precision: Tensor = torch.linalg.inv(moment).float()
    return precision
