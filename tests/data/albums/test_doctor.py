"""The doctor on real albums: sameness must be flagged, a good album must pass."""

import json
from pathlib import Path

from drig.data.albums import load_album
from drig.data.albums.doctor import AlbumCheck, examine, fit_portraits, table
from drig.data.albums.page import light_ball, write_page
from drig.data.albums.verdicts import Level
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head, neutral_codes
from drig.faces.identity_embedding import IdentityEmbedder
from drig.faces.landmarks import LandmarkDetector

HEAD = load_head("open")


def check(source: Path, *, aligned: bool = False) -> AlbumCheck:
    album = load_album(source, LandmarkDetector(), 256, aligned=aligned)
    return examine(album, fit_portraits(album.portraits, load_estimator("fit", HEAD)), HEAD, IdentityEmbedder())


def words(found: AlbumCheck, level: Level) -> str:
    return "\n".join(verdict.text for verdict in found.verdicts if verdict.level == level)


def test_an_album_cut_from_one_talk_is_flagged_for_its_sameness(shared: Path) -> None:
    found = check(shared / "photos" / "clip.mp4")
    assert not found.passes
    assert "have the same light and the same surroundings" in words(found, Level.FAULT)
    assert "add photos taken elsewhere" in words(found, Level.FAULT)
    assert "of another person" in words(found, Level.FAULT)  # the audience
    assert "Do not train" in table(found)


def test_posed_photos_of_many_events_pass_with_remarks(shared: Path, tmp_path: Path) -> None:
    found = check(shared / "photos" / "album_a")
    assert found.passes
    assert not words(found, Level.FAULT)
    assert "the head hardly turns" in words(found, Level.REMARK)
    assert all(photo.usable for photo in found.faces.photos)
    assert json.loads(json.dumps(found.report()))["passes"] is True
    write_page(tmp_path / "report.html", "a <b>", found, HEAD, "album: a")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure>") == 8
    assert "Album a &lt;b&gt;" in page


def test_three_synthetic_portraits_are_too_few(synthetic_people: Path) -> None:
    found = check(synthetic_people / "person_0000", aligned=True)
    assert "only 3 usable photos: add photos" in words(found, Level.FAULT)
    lines = table(found).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["00.png", "01.png", "02.png"]


def test_the_ball_is_bright_where_the_light_comes_from() -> None:
    light = neutral_codes(HEAD).light[0].clone()
    light[1] = 0.8  # from the image's right
    ball = light_ball(light, 64).astype(int)
    assert ball[32, 50].min() > ball[32, 14].max() + 30
    assert (ball[0, 0] < 40).all()
