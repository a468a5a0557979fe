"""The shape basis: random adults from Anny's controls, freed of what belongs to the pose, in principal components.

A sample is moved, turned and scaled onto the mean (similarity Procrustes over the skull and upper face): where the
head is and how it is turned is the pose's, and its size is the camera's, which under weak perspective cannot tell a
large head from a near one. Controls that turn or shift the head on its neck or drop the jaw are left out altogether.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from drig.faces.bake_open_head.source import PHENOTYPES, Source

SAMPLES = 4000
MAX_COMPONENTS = 100
VARIANCE = 0.99

_POSE_CONTROLS = re.compile(
    "chin-jaw-drop|head-angle|head-trans|neck-trans|measure-neck-height|(mouth|nose)-trans-out|mouth-angles"
)
_SPREAD = 0.22  # standard deviation of a local control, of its range of -1..1
_ASYMMETRY = 0.15  # share of a paired control's variance that left and right do not have in common
_STRONG = re.compile("ear-(shape|flap|wing|rot)|neck-|head-|forehead|nose-compression|nose-greek|cupsbow|eye-push")


@dataclass(frozen=True, eq=False)
class Shapes:
    """Head shapes as a linear model, in metres; x image-right, y up, z towards the viewer, origin at the mean pivot."""

    mean: NDArray[np.float64]
    """(V + 1, 3); the last point is the pivot."""
    basis: NDArray[np.float64]
    """(S, V + 1, 3) displacement for one standard deviation."""
    scale: float
    """Factor from MakeHuman's metres to these."""
    explained: float
    """Share of the samples' variance."""


def shape_model(source: Source, generator: np.random.Generator) -> Shapes:
    """Samples, aligns and reduces: components are sorted by variance, with a positive largest coordinate."""
    heads = _sample_heads(source, generator)
    rigid = _rigid_vertices(source)
    size = np.sqrt(np.square(heads[:, rigid] - heads[:, rigid].mean(1, keepdims=True)).sum((1, 2))).mean()
    aligned, mean = _align(heads, rigid)
    reference = source.vertices[rigid]
    scale = size / np.sqrt(np.square(reference - reference.mean(0)).sum())
    mean = mean - mean[-1]
    centred = (aligned - aligned.mean(0)).reshape(len(heads), -1)
    variance, basis = _principal_components(centred)
    kept = min(MAX_COMPONENTS, int(np.searchsorted(np.cumsum(variance) / variance.sum(), VARIANCE)) + 1)
    basis = basis[:kept] * np.sqrt(variance[:kept, None])
    return Shapes(mean, basis.reshape(kept, -1, 3), float(scale), float(variance[:kept].sum() / variance.sum()))


def _sample_heads(source: Source, generator: np.random.Generator) -> NDArray[np.float32]:
    """(N, V + 1, 3) random people in MakeHuman's frame."""
    base = np.concatenate([source.vertices, source.pivot]).astype(np.float32)
    weights = source.phenotype_weights(_sample_phenotypes(generator))
    local = _sample_local(source.local_names, generator)
    signed = np.stack([np.maximum(local, 0), np.maximum(-local, 0)], -1)  # (N, L, 2)
    heads = weights.astype(np.float32) @ source.phenotype_targets.reshape(weights.shape[1], -1)
    heads += signed.reshape(len(local), -1).astype(np.float32) @ source.local_targets.reshape(-1, base.size)
    return heads.reshape(-1, *base.shape) + base


def _sample_phenotypes(generator: np.random.Generator) -> NDArray[np.float64]:
    """(N, 9) values of PHENOTYPES: mostly adults of 20-70 years, of all ancestries and mixtures."""
    n = SAMPLES
    ancestry = generator.dirichlet([0.5, 0.5, 0.5], n)
    columns = {
        "gender": generator.beta(0.5, 0.5, n),  # 0 male, 1 female
        "age": 0.62 + 0.36 * generator.beta(1.3, 2.2, n),  # Anny's 1/3 is a child, 2/3 is 25 years, 1 is 90
        "muscle": generator.normal(0.5, 0.17, n),
        "weight": generator.normal(0.5, 0.17, n),
        "height": generator.normal(0.5, 0.15, n),
        "proportions": generator.normal(0.6, 0.15, n),
        "african": ancestry[:, 0],
        "asian": ancestry[:, 1],
        "caucasian": ancestry[:, 2],
    }
    return np.clip(np.stack([columns[name] for name in PHENOTYPES], 1), 0, 1)


def _sample_local(names: NDArray[np.str_], generator: np.random.Generator) -> NDArray[np.float64]:
    """(N, L) local controls in -1..1; those of a left and a right side mostly agree."""
    pairs = [re.sub("^[lr]-", "", name) for name in names]
    shared = {pair: generator.normal(size=SAMPLES) for pair in dict.fromkeys(pairs)}
    columns = []
    for name, pair in zip(names, pairs, strict=True):
        own = generator.normal(size=SAMPLES)
        value = shared[pair] if name == pair else np.sqrt(1 - _ASYMMETRY) * shared[pair] + np.sqrt(_ASYMMETRY) * own
        spread = 0.0 if _POSE_CONTROLS.search(pair) else _SPREAD / 2 if _STRONG.search(pair) else _SPREAD
        columns.append(spread * value)
    return np.asarray(np.clip(np.stack(columns, 1), -0.8, 0.8))


def _rigid_vertices(source: Source) -> NDArray[np.intp]:
    """Skin above the mouth and without the jaw, ears and neck: what turns with the skull."""
    skin = np.isin(np.arange(len(source.vertices)), source.faces[source.part == 0])
    x, y, _ = source.vertices.T
    return np.flatnonzero(skin & (source.jaw_weights < 0.01) & (y > 0.68) & (np.abs(x) < 0.068))


def _align(heads: NDArray[np.float32], rigid: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Generalised similarity Procrustes: (N, V, 3) heads on their mean, and the mean at the samples' mean size."""
    points = heads[:, rigid].astype(np.float64)
    centre = points.mean(1, keepdims=True)
    points = points - centre
    norms = np.sqrt(np.square(points).sum((1, 2), keepdims=True))
    units = points / norms
    target = units.mean(0)
    for _ in range(10):
        u, _, vt = np.linalg.svd(np.einsum("npi,pj->nij", units, target))
        sign = np.linalg.det(u @ vt)
        u[:, :, 2] *= sign[:, None]
        rotation = u @ vt  # (N, 3, 3), from the right
        mean = (units @ rotation).mean(0)
        mean[:, 0] -= mean[:, 0].mean()
        target = mean / np.linalg.norm(mean)
    size = norms.mean()
    aligned = ((heads - centre) * (size / norms)) @ rotation
    return aligned.astype(np.float32), aligned.mean(0)


def _principal_components(centred: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, D) centred samples -> variances (C,) and unit components (C, D), through the N x N Gram matrix."""
    gram = (centred @ centred.T).astype(np.float64)
    last = len(gram) - 1
    values, vectors = eigh(gram, subset_by_index=(last - 2 * MAX_COMPONENTS, last))
    values, vectors = values[::-1], vectors[:, ::-1]
    total = np.trace(gram)
    basis = (vectors / np.sqrt(values)).T @ centred.astype(np.float64)
    basis *= np.sign(basis[np.arange(len(basis)), np.abs(basis).argmax(1)])[:, None]
    variance = values / len(centred)
    variance = np.append(variance, (total / len(centred)) - variance.sum())  # the rest, so that shares are of the whole
    return variance, np.concatenate([basis, np.zeros_like(basis[:1])])
