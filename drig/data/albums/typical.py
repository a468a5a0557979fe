"""How far photos lie from what the base rig was trained on: beyond it, buffers mean little to the network.

Legend: N photos, M training photos, D numbers of one kind of code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from drig.data.store import BufferStore
from drig.errors import DrigError
from drig.faces.codes import FaceCodes
from drig.faces.controls import head_angles
from drig.faces.fit_light_prior import light_prior
from drig.faces.head import HeadModel

Array = NDArray[np.float64]

UNUSUAL = 99.0
"""Percentile from which on a photo is called unlike the training data: one in a hundred of these is, too."""
_MOST_RECORDS = 4000  # of a store; more would not move a percentile
_FEWEST_RECORDS = 50


class Training(Protocol):
    """What photos are compared with."""

    name: str

    def percentiles(self, codes: FaceCodes) -> dict[str, Array]:
        """For each kind of code (N,) percentages of training photos that lie nearer to the mean, by Mahalanobis."""
        ...


class HeadPriors:
    """Stands in where no store is given: what the head and light models hold for likely, before any photo is seen.

    Shape and albedo codes count standard deviations; light has its simulated statistics. Pose and expression have none.
    """

    name = "the head model's own statistics"

    def percentiles(self, codes: FaceCodes) -> dict[str, Array]:
        prior = light_prior()
        off = (codes.light.cpu().mT.flatten(1) - prior.mean).numpy().astype(np.float64)  # (N, 27)
        squares = {
            "light": np.einsum("ni,ij,nj->n", off, prior.precision.numpy().astype(np.float64), off),
            "shape": codes.shape.cpu().square().sum(1).numpy(),
            "albedo": codes.tex.cpu().square().sum(1).numpy(),
        }
        sizes = {"light": 27, "shape": codes.shape.shape[1], "albedo": codes.tex.shape[1]}
        return {kind: 100 * chi2.cdf(square, sizes[kind]) for kind, square in squares.items()}


@dataclass(frozen=True)
class _Cloud:
    """Numbers of one kind over the training photos."""

    mean: Array
    """(D,)"""
    whiten: Array
    """(D, D): Mahalanobis distances are norms of (x - mean) @ whiten."""
    distances: Array
    """(M,) of the training photos, sorted."""

    @classmethod
    def of(cls, values: Array) -> "_Cloud":
        """Values (M, D)."""
        mean = values.mean(0)
        covariance = np.atleast_2d(np.cov(values.T))
        # Codes that hardly vary, or fewer photos than codes, would make any difference infinitely far.
        covariance += (1e-2 * np.trace(covariance) / len(mean) + 1e-12) * np.eye(len(mean))
        whiten = np.linalg.inv(np.linalg.cholesky(covariance)).T
        return cls(mean, whiten, np.sort(np.linalg.norm((values - mean) @ whiten, axis=1)))

    def percentiles(self, values: Array) -> Array:
        """Values (N, D) -> (N,)."""
        distances = np.linalg.norm((values - self.mean) @ self.whiten, axis=1)
        return np.asarray(100 * np.searchsorted(self.distances, distances) / len(self.distances))


class StoreStatistics:
    """The codes of a buffer store's records, evenly drawn from it."""

    def __init__(self, store: BufferStore, head: HeadModel) -> None:
        """Raises DrigError for a store of another head model, or one too small to compare with."""
        kind = store.manifest.kind
        if kind.head != head.name:
            raise DrigError(f"{store.folder} holds codes of head {kind.head!r}, the album those of {head.name!r}")
        if len(store) < _FEWEST_RECORDS:
            raise DrigError(f"{store.folder} holds {len(store)} records; comparing takes {_FEWEST_RECORDS} or more")
        chosen = np.linspace(0, len(store) - 1, min(len(store), _MOST_RECORDS)).round().astype(int)
        records = FaceCodes.cat([store.read(int(i)).face_codes() for i in chosen])
        self.name = f"{len(store):,} training photos"
        self.clouds = {kind: _Cloud.of(values) for kind, values in _kinds(records).items()}

    def percentiles(self, codes: FaceCodes) -> dict[str, Array]:
        values = _kinds(codes)
        return {kind: cloud.percentiles(values[kind]) for kind, cloud in self.clouds.items()}


def load_training(store: Path | None, head: HeadModel) -> Training:
    """What to compare with: a buffer store's records, or without one the head's priors."""
    return HeadPriors() if store is None else StoreStatistics(BufferStore(store), head)


def _kinds(codes: FaceCodes) -> Mapping[str, Array]:
    """The codes that are compared, each (N, D)."""
    tensors = {"expression": codes.exp, "light": codes.light.flatten(1), "shape": codes.shape, "albedo": codes.tex}
    found = {kind: tensor.cpu().numpy().astype(np.float64) for kind, tensor in tensors.items()}
    return {"pose": head_angles(codes).astype(np.float64), **found}
