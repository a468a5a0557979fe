"""Who an album is about, when photos show several people."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from drig.data.albums.variety import by_size

ONE_PERSON = 0.57
"""Mean distance between two groups of faces up to which they are one person's. Groups of one person on the shared
photos join at 0.54 at the latest (a dark video), those of two people at 0.60, of two synthetic ones at 0.59; single
faces of look-alikes at 0.50. The network's own bound of 0.6 is for pairs, and would join some people."""


def people(embeddings: NDArray[np.float32]) -> NDArray[np.int64]:
    """Embeddings (N, 128) -> (N,) who each face is: 0 for the person of most faces, and so on.

    Average linkage: one look-alike photo does not join two people, and one bad photo does not leave its person.
    """
    if len(embeddings) < 2:
        return np.zeros(len(embeddings), np.int64)
    return by_size(fcluster(linkage(embeddings, "average"), ONE_PERSON, "distance"))


def faces_of(person: int, who: NDArray[np.int64], photos: Sequence[str], sizes: Sequence[float]) -> list[int]:
    """The person's faces, at most one a photo: the largest (mirrors and posters show people twice)."""
    best: dict[str, int] = {}
    for i in np.flatnonzero(who == person).tolist():
        if photos[i] not in best or sizes[i] > sizes[best[photos[i]]]:
            best[photos[i]] = i
    return sorted(best.values())
