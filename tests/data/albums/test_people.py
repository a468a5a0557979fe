"""Who is who, on made-up embeddings."""

import numpy as np

from drig.data.albums.people import faces_of, people


def embeddings(*persons: int) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 0.015, (len(persons), 128))
    return (np.eye(128)[list(persons)] * 0.8 + noise).astype(np.float32)


def test_the_person_of_most_faces_is_the_first() -> None:
    assert people(embeddings(4, 2, 2, 4, 2, 7)).tolist() == [1, 0, 0, 1, 0, 2]
    assert people(embeddings(4, 2)).tolist() == [0, 1]  # a tie: the earlier one
    assert people(embeddings(3)).tolist() == [0]


def test_of_two_faces_in_one_photo_the_larger_is_the_persons() -> None:
    who = np.array([0, 0, 1, 0])
    assert faces_of(0, who, ["a", "a", "a", "b"], [50, 80, 90, 20]) == [1, 3]
