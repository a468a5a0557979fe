"""Blur and copies, on synthetic portraits."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from drig.data.albums.photo_quality import BLURRED, blur, duplicates
from drig.data.photos import read_photo
from drig.faces.landmarks import LandmarkDetector
from drig.faces.portraits import Portrait, find_portrait


@pytest.fixture(scope="module")
def portraits(synthetic_people: Path) -> list[Portrait]:
    detector = LandmarkDetector()
    paths = sorted((synthetic_people / "person_0000").glob("*.png"))
    return [find_portrait(read_photo(path), detector, 256, aligned=True) for path in paths]


def test_blur_is_named_and_sharpness_is_not(portraits: list[Portrait]) -> None:
    for portrait in portraits:
        soft = np.asarray(Image.fromarray(portrait.image).filter(ImageFilter.GaussianBlur(3)))
        assert blur(portrait) < BLURRED < blur(Portrait(soft, portrait.landmarks, 1))
        assert blur(Portrait(portrait.image // 3, portrait.landmarks, 1)) < BLURRED  # dark is not blurred


def test_a_copy_is_found_though_it_was_saved_smaller(portraits: list[Portrait]) -> None:
    file = io.BytesIO()
    Image.fromarray(portraits[1].image).resize((128, 128)).save(file, "JPEG", quality=60)
    copy = Portrait(read_photo(file.getvalue()), portraits[1].landmarks, 1)
    assert duplicates([*portraits, copy, portraits[0]]) == [None, None, None, 1, 0]
