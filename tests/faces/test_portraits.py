"""Photo to portrait: landmarks that fit the crop, ready-made crops, and reasons for rejection."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.data import data_dir

from drig.errors import PhotoRejected
from drig.faces.alignment import face_quad
from drig.faces.ibug import ffhq_centre
from drig.faces.landmarks import LandmarkDetector
from drig.faces.portraits import DETAIL, Portrait, find_portrait, trusted_portrait

Photo = NDArray[np.uint8]


def _bundled(name: str) -> Photo:
    """A picture that comes inside scikit-image: the astronaut (NASA, public domain) or the cat."""
    return np.asarray(Image.open(Path(data_dir) / f"{name}.png").convert("RGB"))


@pytest.fixture(scope="module")
def detector() -> LandmarkDetector:
    return LandmarkDetector()


@pytest.fixture(scope="module")
def astronaut() -> Photo:
    return _bundled("astronaut")


@pytest.fixture(scope="module")
def portrait(detector: LandmarkDetector, astronaut: Photo) -> Portrait:
    return find_portrait(astronaut, detector, 256)


def test_landmarks_move_with_the_crop(detector: LandmarkDetector, portrait: Portrait) -> None:
    assert portrait.image.shape == (256, 256, 3)
    assert portrait.faces_found == 1
    assert portrait.landmarks.dtype == np.float32
    np.testing.assert_allclose(ffhq_centre(portrait.landmarks), 0, atol=1e-5)
    found = (2 * detector.detect(portrait.image)[0].landmarks + 1) / 256 - 1
    assert np.abs(found - portrait.landmarks).mean() < 0.02


def test_estimators_see_more_of_a_small_portrait(detector: LandmarkDetector, astronaut: Photo) -> None:
    for photo, aligned in ((astronaut, False), (find_portrait(astronaut, detector, 256).image, True)):
        small, large = (find_portrait(photo, detector, size, aligned=aligned) for size in (64, DETAIL))
        assert small.image.shape == (64, 64, 3)
        assert np.array_equal(small.seen, large.image)
        assert large.seen is large.image


def test_an_aligned_photo_is_only_resized(detector: LandmarkDetector, portrait: Portrait) -> None:
    again = find_portrait(portrait.image, detector, 128, aligned=True)
    smaller = Image.fromarray(portrait.image).resize((128, 128), Image.Resampling.LANCZOS)
    assert np.array_equal(again.image, np.asarray(smaller))
    assert np.abs(again.landmarks - portrait.landmarks).mean() < 0.02


def test_two_faces_give_the_largest_and_the_count(detector: LandmarkDetector, portrait: Portrait) -> None:
    small = np.asarray(Image.fromarray(portrait.image).resize((160, 160)))
    both = np.hstack([np.pad(small, ((48, 48), (0, 0), (0, 0))), portrait.image])
    largest = find_portrait(both, detector, 256)
    assert largest.faces_found == 2
    assert np.abs(largest.landmarks - portrait.landmarks).mean() < 0.03


def test_rejections_say_why(detector: LandmarkDetector, astronaut: Photo) -> None:
    with pytest.raises(PhotoRejected, match="no face"):
        find_portrait(_bundled("chelsea"), detector, 256)
    tiny = np.asarray(Image.fromarray(astronaut).resize((160, 160)))
    with pytest.raises(PhotoRejected, match=r"too small: .* 128 are needed"):
        find_portrait(tiny, detector, 512)
    with pytest.raises(PhotoRejected, match="not an FFHQ crop"):
        find_portrait(astronaut, detector, 256, aligned=True)
    with pytest.raises(PhotoRejected, match="square"):
        find_portrait(astronaut[:400], detector, 256, aligned=True)


def test_a_portrait_knows_how_large_its_crop_was(detector: LandmarkDetector, astronaut: Photo) -> None:
    large = np.asarray(Image.fromarray(astronaut).resize((1024, 1024), Image.Resampling.BICUBIC))
    sides = [find_portrait(photo, detector, 64).source_side for photo in (astronaut, large)]
    assert sides[0] == pytest.approx(190, abs=40)
    assert sides[1] == pytest.approx(2 * sides[0], rel=0.05)


def test_a_portrait_knows_where_in_the_photo_it_was(detector: LandmarkDetector, astronaut: Photo) -> None:
    cut = find_portrait(astronaut, detector, 64)
    landmarks = detector.detect(astronaut)[0].landmarks
    assert cut.to_portrait is not None
    moved = landmarks @ cut.to_portrait[:, :2].T + cut.to_portrait[:, 2]
    np.testing.assert_allclose((2 * moved + 1) / 64 - 1, cut.landmarks, atol=1e-4)
    # Its corners are those of the crop that FFHQ takes, counted from the photo's corner and clockwise.
    np.testing.assert_allclose(cut.corners(), face_quad(landmarks)[[0, 3, 2, 1]] + 0.5, atol=0.6)


def test_the_corners_of_an_aligned_photo_are_its_own(detector: LandmarkDetector, portrait: Portrait) -> None:
    again = find_portrait(portrait.image, detector, 64, aligned=True)
    np.testing.assert_allclose(again.corners(), [[0, 0], [256, 0], [256, 256], [0, 256]], atol=1e-9)


def test_a_head_in_profile_is_rejected_with_the_reason(detector: LandmarkDetector, shared: Path) -> None:
    photo = np.asarray(Image.open(shared / "photos/poses/01.jpg").convert("RGB"))
    with pytest.raises(PhotoRejected, match="turned away"):
        find_portrait(photo, detector, 256)


def test_a_crop_taken_at_its_word_is_only_resized(portrait: Portrait) -> None:
    trusted = trusted_portrait(portrait.image, 64)
    assert np.array_equal(
        trusted.image, np.asarray(Image.fromarray(portrait.image).resize((64, 64), Image.Resampling.LANCZOS))
    )
    assert np.isnan(trusted.landmarks).all()
    assert np.array_equal(trusted.seen, trusted_portrait(portrait.image, DETAIL).image)
    with pytest.raises(PhotoRejected, match="square"):
        trusted_portrait(portrait.image[:100], 64)
