"""Albums out of anything: who they are about, what is left out and why, and what is written."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from drig.data.albums import load_album
from drig.data.albums.building import AlbumBuilder, BuiltAlbum, check_free, count_reasons, list_sources, write_album
from drig.data.photos import read_photo, save_png
from drig.errors import DrigError
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head
from drig.faces.landmarks import LandmarkDetector
from tests.data.test_photos import write_video

HEAD = load_head("open")


@pytest.fixture(scope="module")
def builder() -> AlbumBuilder:
    return AlbumBuilder(head=HEAD, estimator=load_estimator("fit", HEAD))


@pytest.fixture(scope="module")
def mixture(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photos of one person, three of others, a copy, a blurred one, and one that is no photo."""
    folder, photos = tmp_path_factory.mktemp("mixture"), shared / "photos"
    for name in ("01", "02", "05", "06"):
        (folder / f"her{name}.jpg").write_bytes((photos / "album_a" / f"{name}.jpg").read_bytes())
    for name in ("03", "05", "06"):
        (folder / f"other{name}.jpg").write_bytes((photos / "expressions" / f"{name}.jpg").read_bytes())
    original = Image.fromarray(read_photo(folder / "her02.jpg"))
    original.resize((640, 480)).save(folder / "her02_copy.jpg", quality=70)
    soft = Image.fromarray(read_photo(photos / "album_a" / "07.jpg")).filter(ImageFilter.GaussianBlur(5))
    soft.save(folder / "her07_blurred.jpg")
    (folder / "letter.jpg").write_text("Dear Sir")
    return folder


@pytest.fixture(scope="module")
def built(builder: AlbumBuilder, mixture: Path) -> BuiltAlbum:
    return builder.choose(builder.find([str(mixture)], 256), least=3, most=20)


def test_the_person_of_most_photos_is_kept_and_the_rest_has_reasons(built: BuiltAlbum) -> None:
    assert [Path(c.source).name for c in built.candidates] == ["her01.jpg", "her02.jpg", "her05.jpg", "her06.jpg"]
    reasons = {Path(key).name: reason for key, reason in built.left_out.items()}
    assert reasons.pop("her02_copy.jpg").startswith("nearly the same as another")
    assert reasons.pop("her07_blurred.jpg") == "blurred"
    assert "not a photo" in reasons.pop("letter.jpg")
    assert set(reasons) == {"other03.jpg", "other05.jpg", "other06.jpg"}
    assert set(reasons.values()) == {"another person"}
    assert built.others == 3
    assert dict(count_reasons(built.left_out))["another person"] == 3


def test_a_photo_names_the_person_and_too_few_are_an_error(builder: AlbumBuilder, mixture: Path, shared: Path) -> None:
    found = builder.find([str(mixture / name) for name in ("her01.jpg", "her05.jpg", "other05.jpg")], 256)
    other = read_photo(mixture / "other05.jpg")
    with pytest.raises(DrigError, match=r"1 usable photo of one person, 2 are wanted(.|\n)*2 x another person"):
        builder.choose(found, least=2, most=20, like=other)
    with pytest.raises(DrigError, match="nobody in the sources is the person of --like"):
        builder.choose(found, least=2, most=20, like=read_photo(shared / "photos" / "poses" / "07.jpg"))


def test_the_written_album_is_taken_as_it_is_and_replaced_cleanly(built: BuiltAlbum, tmp_path: Path) -> None:
    folder = tmp_path / "her"
    write_album(built, folder)
    (folder / "09.png").write_bytes((folder / "00.png").read_bytes())  # of a larger album before
    write_album(built, folder)
    portraits = [f"0{i}.png" for i in range(4)]
    assert sorted(path.name for path in folder.iterdir()) == [*portraits, "album.json", "sheet.png"]
    album = load_album(folder, LandmarkDetector(), 64, aligned=True)
    assert list(album.keys) == portraits
    assert album.rejects == {}
    report = json.loads((folder / "album.json").read_text())
    assert report["portraits"]["00.png"]["source"].endswith("her01.jpg")
    assert len(report["photos"]) == 4


def test_folders_that_would_lose_something_are_refused(tmp_path: Path) -> None:
    save_png(tmp_path / "me" / "holiday.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DrigError, match="not empty"):
        check_free(tmp_path / "me")
    with pytest.raises(DrigError, match="one of the sources"):
        check_free(tmp_path / "me", [f"{tmp_path}/x/../me"])
    with pytest.raises(DrigError, match="is a file"):
        check_free(tmp_path / "me" / "holiday.png")
    check_free(tmp_path / "new")


def test_sources_are_photos_videos_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    save_png(folder / "b.png", np.zeros((8, 8, 3), np.uint8))
    write_video(folder / "a.mp4")
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.png").write_text("x")
    both = [str(folder / "a.mp4"), str(folder / "b.png")]
    assert list_sources([str(folder)]) == both
    assert list_sources([both[1], str(folder)]) == both[::-1]
    with pytest.raises(DrigError, match=r"gone\.jpg does not exist"):
        list_sources([str(tmp_path / "gone.jpg")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DrigError, match="no photo and no video"):
        list_sources([str(tmp_path / "empty")])


def test_sources_without_a_face_are_an_error_with_the_reasons(builder: AlbumBuilder, tmp_path: Path) -> None:
    for i in range(2):
        save_png(tmp_path / f"{i}.png", np.full((64, 64, 3), 40 * i, np.uint8))
    with pytest.raises(DrigError, match=r"no usable face in the sources\n  2 x no face found"):
        builder.choose(builder.find([str(tmp_path)], 64), least=2, most=3)


def test_every_face_of_a_group_photo_is_a_candidate(
    builder: AlbumBuilder, synthetic_people: Path, tmp_path: Path
) -> None:
    pair = [read_photo(synthetic_people / f"person_000{i}" / "00.png") for i in (0, 1)]
    save_png(tmp_path / "pair.png", np.hstack(pair))
    found = builder.find([str(tmp_path / "pair.png")], 128)
    assert [Path(c.key).name for c in found.candidates] == ["pair.png face 1", "pair.png face 2"]
    assert {c.photo for c in found.candidates} == {str(tmp_path / "pair.png")}
