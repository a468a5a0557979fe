"""The re-identification network: near for one person, far for two, whatever the batch."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from drig.data.photos import read_photo
from drig.errors import DrigError
from drig.faces.identity_embedding import SAME_PERSON, IdentityEmbedder, distances
from drig.faces.landmarks import LandmarkDetector
from drig.faces.portraits import Portrait, find_portrait

EMBEDDER = IdentityEmbedder()


@pytest.fixture(scope="module")
def portraits(synthetic_people: Path) -> list[Portrait]:
    """Two of one person, one of another."""
    names = ("person_0000/00.png", "person_0000/01.png", "person_0001/00.png")
    detector = LandmarkDetector()
    return [find_portrait(read_photo(synthetic_people / name), detector, 256, aligned=True) for name in names]


def test_one_person_is_nearer_than_another(portraits: list[Portrait]) -> None:
    between = distances(*[EMBEDDER.embed_portraits(portraits)] * 2)
    assert between.shape == (3, 3)
    assert np.diag(between).max() == 0
    assert between[0, 1] < SAME_PERSON
    assert between[0, 1] < between[:2, 2].min()


def test_neither_the_batch_nor_a_pickle_changes_a_number(portraits: list[Portrait]) -> None:
    together = EMBEDDER.embed_portraits(portraits * 6)  # more than a batch
    again: IdentityEmbedder = pickle.loads(pickle.dumps(EMBEDDER))
    alone = np.concatenate([again.embed_portraits([portrait]) for portrait in portraits])
    assert np.array_equal(together[:3], together[15:])
    np.testing.assert_allclose(together[:3], alone, atol=1e-5)


def test_a_face_in_a_larger_photo_is_the_same_face(portraits: list[Portrait]) -> None:
    image, points = portraits[0].image, ((portraits[0].landmarks + 1) * 256 - 1) / 2
    inside = np.pad(image, ((40, 0), (100, 30), (0, 0)))
    both = EMBEDDER.embed([image, inside], [points, points + np.array([100, 40])])
    assert distances(both[:1], both[1:]).item() < 0.05


def test_no_faces_give_no_rows_and_wrong_landmarks_are_refused(portraits: list[Portrait]) -> None:
    assert EMBEDDER.embed_portraits([]).shape == (0, 128)
    with pytest.raises(DrigError, match="one set for each photo"):
        EMBEDDER.embed([portraits[0].image], [])
    with pytest.raises(DrigError, match="68, 2"):
        EMBEDDER.embed([portraits[0].image], [np.zeros((5, 2))])


def test_real_people(shared: Path) -> None:
    detector = LandmarkDetector()
    names = [*(f"album_a/0{i}" for i in range(1, 5)), *(f"expressions/0{i}" for i in (3, 5, 6))]
    found = [find_portrait(read_photo(shared / "photos" / f"{name}.jpg"), detector, 256) for name in names]
    embeddings = EMBEDDER.embed_portraits(found)
    assert distances(embeddings[:4], embeddings[:4]).max() < 0.5
    assert distances(embeddings[:4], embeddings[4:]).min() > SAME_PERSON
