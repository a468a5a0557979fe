import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from drig.data.albums import load_album
from drig.data.photos import save_png
from drig.errors import DrigError
from drig.faces.landmarks import Face, LandmarkDetector
from tests.data.test_photos import write_video

LANDMARKS = np.zeros((68, 2))
LANDMARKS[36:42], LANDMARKS[42:48] = (76, 84), (116, 84)
LANDMARKS[48], LANDMARKS[54] = (82, 124), (110, 124)


class ColourDetector(LandmarkDetector):
    """Finds as many faces as the photo's red level says."""

    def detect(self, photo: NDArray[np.uint8]) -> list[Face]:
        return [Face((56, 56, 136, 136), LANDMARKS, 1.0)] * int(photo[0, 0, 0])


def photo(faces: int) -> NDArray[np.uint8]:
    return np.full((192, 192, 3), (faces, 90, 90), np.uint8)


def fill(folder: Path, faces: list[int]) -> Path:
    for index, count in enumerate(faces):
        save_png(folder / f"{index}.png", photo(count))
    return folder


def test_a_folder_becomes_portraits_rejects_and_warnings(tmp_path: Path) -> None:
    fill(tmp_path, [1, 0, 2, 1])
    (tmp_path / "4.jpg").write_text("no photo")
    album = load_album(tmp_path, ColourDetector(), 64)
    assert album.keys == ("0.png", "2.png", "3.png")
    assert album.images.shape == (3, 64, 64, 3)
    assert album.landmarks.shape == (3, 68, 2)
    assert set(album.rejects) == {"1.png", "4.jpg"}
    assert "no face" in album.rejects["1.png"]
    assert "not a photo" in album.rejects["4.jpg"]
    assert any("2.png shows 2 faces" in warning for warning in album.warnings)
    assert any("only 3 portraits" in warning for warning in album.warnings)
    assert json.loads(json.dumps(album.report()))["photos"] == 3


def test_ten_clean_photos_give_no_warning(tmp_path: Path) -> None:
    album = load_album(fill(tmp_path, [1] * 10), ColourDetector(), 64)
    assert album.warnings == ()
    assert album.rejects == {}


def test_the_sheet_of_a_built_album_is_no_portrait(tmp_path: Path) -> None:
    fill(tmp_path, [1, 1])
    save_png(tmp_path / "sheet.png", photo(1))
    assert "sheet.png" in load_album(tmp_path, ColourDetector(), 64).keys
    (tmp_path / "album.json").write_text("{}")
    assert load_album(tmp_path, ColourDetector(), 64).keys == ("0.png", "1.png")


def test_a_list_keeps_its_order_and_its_names(tmp_path: Path) -> None:
    fill(tmp_path, [1, 1, 1])
    paths = [tmp_path / "2.png", tmp_path / "0.png"]
    assert load_album(paths, ColourDetector(), 64).keys == tuple(str(path) for path in paths)
    with pytest.raises(DrigError, match="does not exist"):
        load_album([*paths, tmp_path / "absent.png"], ColourDetector(), 64)


@pytest.mark.parametrize("faces", [[1], [1, 0, 0]])
def test_an_album_of_one_portrait_is_refused_with_the_reasons(tmp_path: Path, faces: list[int]) -> None:
    fill(tmp_path, faces)
    with pytest.raises(DrigError, match="gives 1 usable portrait; an album needs at least 2") as raised:
        load_album(tmp_path, ColourDetector(), 64)
    assert str(raised.value).count("no face") == faces.count(0)


def test_a_video_is_sampled_over_its_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "v.mp4")

    class Everywhere(LandmarkDetector):
        def detect(self, photo: NDArray[np.uint8]) -> list[Face]:
            return [Face((10, 10, 40, 40), LANDMARKS / 3, 1.0)]

    album = load_album(tmp_path / "v.mp4", Everywhere(), 32)
    assert len(album.keys) == 8
    assert album.keys[1] == "v.mp4 0.50 s"
    assert any("one video" in warning for warning in album.warnings)
    monkeypatch.setattr("drig.data.albums.loading.MOST_FRAMES", 4)
    assert load_album(tmp_path / "v.mp4", Everywhere(), 32).keys == tuple(f"v.mp4 {s:.2f} s" for s in (0, 1, 2, 3))


def test_the_shared_album_gives_portraits(shared: Path) -> None:
    album = load_album(shared / "photos" / "album_a", LandmarkDetector(), 64)
    assert len(album.portraits) + len(album.rejects) == 8
    assert len(album.portraits) >= 6
    eyes = album.landmarks[:, 36:48].mean(1)
    assert np.abs(eyes).max() < 0.4  # aligned: the eyes are near the middle
