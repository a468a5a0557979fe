from pathlib import Path
from unittest.mock import Mock

import pytest

from drig import storage
from drig.errors import DrigError
from pipelines.album_list import find_albums, fingerprint


@pytest.fixture(params=["local", "s3"])
def people(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """ann and bob in folders, cem in a video, and what is nobody."""
    root = str(tmp_path / "root") if request.param == "local" else str(request.getfixturevalue("bucket"))
    for name in ("ann/0.png", "ann/1.jpg", "ann/0.safetensors", "bob/0.png", "cem.mp4", "readme.txt", ".hidden/0.png"):
        storage.write_bytes(storage.join(root, "people", *name.split("/")), name.encode())
    return storage.join(root, "people")


def test_people_are_folders_and_videos_found_in_one_listing(people: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listings = Mock(side_effect=storage.file_sizes)
    monkeypatch.setattr(storage, "file_sizes", listings)
    albums = find_albums([f"{people}/"])
    marks = [album.fingerprint() for album in albums.values()]
    assert listings.call_count == 1
    assert {name: album.place for name, album in albums.items()} == {
        "ann": storage.join(people, "ann"),
        "bob": storage.join(people, "bob"),
        "cem": storage.join(people, "cem.mp4"),
    }
    assert marks == [fingerprint(album.place) for album in albums.values()]


def test_a_fingerprint_is_that_of_names_and_sizes_of_the_photos(people: str) -> None:
    ann = storage.join(people, "ann")
    before = fingerprint(ann)
    storage.write_bytes(storage.join(ann, "album.json"), b"{}")
    assert fingerprint(ann) == before
    storage.write_bytes(storage.join(ann, "2.png"), b"new")
    added = fingerprint(ann)
    storage.write_bytes(storage.join(ann, "2.png"), b"changed")
    assert len({before, added, fingerprint(ann)}) == 3
    video = storage.join(people, "cem.mp4")
    before = fingerprint(video)
    storage.write_bytes(video, b"longer")
    assert fingerprint(video) != before


def test_a_list_names_albums_beside_it_or_anywhere_and_priorities(people: str) -> None:
    file = storage.join(people, "list.csv")
    storage.write_bytes(
        file, b"\xef\xbb\xbfname,album,priority\r\nbob,bob,\r\neve,ann,2.5\r\nann,s3://other/ann,-1\r\n"
    )
    albums = find_albums([file, f"zoe={storage.join(people, 'bob')}"])
    assert [(name, album.place, album.priority) for name, album in albums.items()] == [
        ("bob", storage.join(people, "bob"), 0.0),
        ("eve", storage.join(people, "ann"), 2.5),
        ("ann", "s3://other/ann", -1.0),
        ("zoe", storage.join(people, "bob"), 0.0),
    ]


def test_a_person_without_a_photo_is_found_so_that_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "nobody").mkdir()
    assert list(find_albums([str(tmp_path)])) == ["nobody"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "is not a folder"),
        ("zoe=/nowhere", "does not exist"),
        ("zoe=", "is not NAME=PATH"),
        ("base={tmp}/ann", "kept for the base rig"),
        ("a b={tmp}/ann", "cannot name an identity"),
        ("ann={tmp}/ann", "two albums are called 'ann'"),
        ("{tmp}/ann", "give --albums NAME="),
        ("{tmp}/columns.csv", "has no column album"),
        ("{tmp}/empty.csv", "line 2: .*found 'zoe', ''"),
        ("{tmp}/priority.csv", "the priority 'high' is not a number"),
        ("{tmp}/photo.csv", "no CSV file in UTF-8"),
        ("{tmp}/missing.csv", "does not exist"),
    ],
)
def test_albums_that_cannot_be(tmp_path: Path, source: str, message: str) -> None:
    files = {
        "ann/0.png": b"x",
        "columns.csv": b"name,place\n",
        "empty.csv": b"name,album\nzoe,\n",
        "priority.csv": b"name,album,priority\nzoe,zoe,high\n",
        "photo.csv": b"name,album\n\xff\xd8",
    }
    for name, content in files.items():
        storage.write_bytes(tmp_path / name, content)
    with pytest.raises(DrigError, match=message):
        find_albums([f"ann={tmp_path}/ann", source.format(tmp=tmp_path)])
