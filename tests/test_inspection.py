"""Real photos through detector and estimator: heads must sit on heads, open mouths be open."""

from pathlib import Path

import pytest
import torch

from drig.errors import DrigError, PhotoRejected
from drig.faces.estimators import Estimator, load_estimator
from drig.faces.fit_light_prior import sphere
from drig.faces.head import HeadModel, load_head
from drig.faces.lighting import shade
from drig.faces.portraits import Portrait
from drig.inspection import SHEET_COLUMNS, Fitted, inspect, measure, sheet, table


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head("open")


@pytest.fixture(scope="module")
def estimator(head: HeadModel) -> Estimator:
    return load_estimator("fit", head)


def test_real_photos(shared: Path, head: HeadModel, estimator: Estimator) -> None:
    names = ["album_a/02", "album_a/06", "expressions/06", "expressions/07", "poses/01", "poses/05", "poses/08"]
    inspections = inspect([shared / "photos" / f"{name}.jpg" for name in names], head, estimator)
    outcomes = dict(zip(names, (item.outcome for item in inspections), strict=True))

    profile = outcomes.pop("poses/01")
    assert isinstance(profile, PhotoRejected)
    fitted = {name: face for name, face in outcomes.items() if isinstance(face, Fitted)}
    assert fitted.keys() == outcomes.keys()
    for name, face in fitted.items():
        assert face.inner_error < (6 if name == "expressions/07" else 3.5), name
        assert face.colour_error < 13, name
        assert shade(sphere(200), face.codes.light).min() > 0, name
        assert face.codes.tex.abs().max() < 3.5, name
    assert dict(fitted["expressions/07"].actions)["jawOpen"] > 0.7
    assert abs(fitted["album_a/02"].angles[0]) < 12
    assert fitted["poses/08"].angles[0] < -15
    neutral = fitted["album_a/06"].codes.exp
    assert neutral.sum() < 0.35 * fitted["expressions/07"].codes.exp.sum()

    same = torch.cat([fitted[name].codes.shape for name in ("album_a/02", "album_a/06")])
    other = torch.cat([fitted[name].codes.shape for name in ("expressions/06", "poses/05", "poses/08")])
    assert torch.dist(same[0], same[1]) < 0.75 * torch.cdist(same, other).mean()

    lines = table(inspections).splitlines()
    assert len(lines) == 1 + len(names)
    assert "poses/01.jpg" in lines[5]
    assert "rejected: the face is turned away" in lines[5]
    height, width, _ = sheet(inspections, cell=40).shape
    assert height > 40 * len(names)  # the rejected one too
    assert width > 40 * len(SHEET_COLUMNS)


def test_files_that_are_no_photos_are_rejected_with_a_reason(
    tmp_path: Path, head: HeadModel, estimator: Estimator
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("not a photo")
    (inspection,) = inspect([text], head, estimator)
    assert isinstance(inspection.outcome, PhotoRejected)
    assert "rejected:" in table([inspection])


def test_a_missing_file_is_an_error(tmp_path: Path, head: HeadModel, estimator: Estimator) -> None:
    with pytest.raises(DrigError, match=r"nowhere\.jpg"):
        inspect([tmp_path / "nowhere.jpg"], head, estimator)


def test_a_covered_face_is_less_explained(synthetic_people: Path, head: HeadModel, estimator: Estimator) -> None:
    (seen,) = inspect([synthetic_people / "person_0000" / "00.png"], head, estimator, aligned=True)
    assert isinstance(seen.outcome, Fitted)
    portrait, codes = seen.outcome.portrait, seen.outcome.codes
    image = portrait.image.copy()
    image[150:200, 90:170] = (30, 160, 60)  # a green cup before the mouth
    covered = measure(Portrait(image, portrait.landmarks, 1), codes, head)
    assert covered.unexplained > seen.outcome.unexplained + 0.1
    assert covered.error == seen.outcome.error
