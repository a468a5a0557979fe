from pathlib import Path

import numpy as np
import pytest

from drig import patience
from drig.data.photos import Photo, read_photo
from drig.data.records import decode
from drig.data.synthetic import read_truth, write_people
from drig.errors import DrigError
from drig.faces.open_head import OpenHead
from pipelines import face_mappers
from pipelines.face_mappers import Batch, BufferRenderer, PortraitFinder


def batch_of(*sources: Path) -> Batch:
    names = [str(source) for source in sources]
    return {"key": np.array([Path(name).name for name in names], object), "source": np.array(names, object)}


def test_every_photo_comes_out_as_a_record_or_as_a_reject(photos: Path) -> None:
    sources = (photos / "person_0/a.png", photos / "empty.png", photos / "notes.jpg", photos / "gone.png")
    found = PortraitFinder(64)(batch_of(*sources))
    assert found["image"].shape == (4, 64, 64, 3)
    assert found["landmarks"].shape == (4, 68, 2)
    rendered = BufferRenderer("open", None, "fit", device="cpu")(found)
    assert [bool(record) for record in rendered["record"]] == [True, False, False, False]
    reasons = list(rendered["reason"])
    assert reasons[0] == ""
    for reason, expected in zip(reasons[1:], ("no face found", "not a photo", "does not exist"), strict=True):
        assert expected in reason


def test_what_cannot_be_read_now_is_waited_for_and_then_an_outage(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [DrigError("Please reduce your request rate.")]

    def throttled(source: str) -> Photo:
        if errors:
            raise errors.pop()
        return read_photo(source)

    monkeypatch.setattr(face_mappers, "read_photo", throttled)
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.0)
    sources = batch_of(photos / "person_0/a.png", photos / "notes.jpg")
    found = PortraitFinder(64, patience_s=60)(sources)
    assert list(found["outage"]) == [False, False]
    assert found["reason"][0] == ""
    errors.append(DrigError("Please reduce your request rate."))
    rendered = BufferRenderer("open", None, "fit", device="cpu")(PortraitFinder(64)(sources))
    assert list(rendered["outage"]) == [True, False]
    assert list(rendered["record"]) == [b"", b""]
    assert "request rate" in rendered["reason"][0]


def test_record_holds_the_portrait_and_what_was_fitted_to_it(photos: Path) -> None:
    found = PortraitFinder(64)(batch_of(photos / "person_0/a.png", photos / "person_2/a.png"))
    records = [decode(content) for content in BufferRenderer("open", None, "fit", device="cpu")(found)["record"]]
    for i, record in enumerate(records):
        np.testing.assert_array_equal(record.image, found["image"][i])
        assert 0.2 < record.alpha.mean() < 0.9
        assert record.codes["pose"].shape == (6,)
    # The photos were turned by -0.3 and 0.3 about the vertical axis.
    assert records[0].codes["pose"][1] == pytest.approx(-0.3, abs=0.15)
    assert records[1].codes["pose"][1] == pytest.approx(0.3, abs=0.15)


def test_a_small_portrait_is_read_as_well_as_a_larger_one(photos: Path) -> None:
    render = BufferRenderer("open", None, "fit", device="cpu")
    sources = batch_of(photos / "person_0/a.png", photos / "person_2/a.png", photos / "notes.jpg")
    small, large = (render(PortraitFinder(size)(sources))["record"] for size in (64, 128))
    for one, other in zip(small[:2], large[:2], strict=True):
        assert (decode(one).size, decode(other).size) == (64, 128)
        for name, code in decode(one).codes.items():
            if name != "crop":
                np.testing.assert_allclose(code, decode(other).codes[name], atol=1e-4, err_msg=name)
    assert small[2] == large[2] == b""


def test_ffhq_crops_can_be_taken_at_their_word(tmp_path: Path) -> None:
    """No detector runs: the records have no landmarks, and codes close to the truth all the same."""
    head = OpenHead.load()
    made = list(write_people(tmp_path, people=range(2), photos=2, size=128, seed=13, head=head))
    found = PortraitFinder(128, aligned=True, detect=False)(batch_of(*made))
    assert np.isnan(found["landmarks"]).all()
    rendered = BufferRenderer("open", None, "fit", device="cpu")(found)
    assert list(rendered["reason"]) == [""] * 4
    for path, content in zip(made, rendered["record"], strict=True):
        record, truth = decode(content), read_truth(path)[0]
        assert record.landmarks is None
        assert np.abs(record.codes["pose"][:3] - truth.pose[0, :3].numpy()).max() < 0.12


def test_a_batch_of_rejects_alone_goes_through(photos: Path) -> None:
    found = PortraitFinder(64)(batch_of(photos / "notes.jpg"))
    rendered = BufferRenderer("open", None, "fit", device="cpu")(found)
    assert list(rendered["record"]) == [b""]


def test_numbers_that_are_not_finite_are_a_reject(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = BufferRenderer("open", None, "fit", device="cpu")
    estimate = renderer.estimator.fit
    found = PortraitFinder(64)(batch_of(photos / "person_0/a.png"))
    monkeypatch.setattr(
        renderer.estimator, "fit", lambda *given: (codes := estimate(*given)).replace(light=codes.light * np.nan)
    )
    rendered = renderer(found)
    assert "could not be fitted" in rendered["reason"][0]
    assert rendered["record"][0] == b""
