"""Where the albums of many people are, and whether one has changed: by name and size of its photos, none is opened."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from drig import storage
from drig.data.photos import PHOTO_SUFFIXES, is_video
from drig.errors import DrigError
from drig.identities import BASE, check_name
from pipelines.run_folder import absolute

COLUMNS = ("name", "album", "priority")
"""Of a list of albums; the last may be left out."""


@dataclass(frozen=True)
class AlbumPlace:
    """One person's album."""

    place: str
    """A folder of photos or a video, a local path or s3:// URI."""
    priority: float = 0.0
    """Who has more is trained earlier."""
    known: str | None = None
    """Its fingerprint, where finding the albums told it."""

    def fingerprint(self) -> str:
        """The same for as long as the album is the same."""
        return self.known or fingerprint(self.place)


def find_albums(sources: Sequence[str]) -> dict[str, AlbumPlace]:
    """Albums by the person's name.

    sources: folders or s3:// prefixes with a folder or video of each person, lists (.csv), or NAME=PATH of one person.
    Raises DrigError for names and places that cannot be used. What a list names is not looked for: 10,000 requests.
    """
    albums: dict[str, AlbumPlace] = {}
    for source in sources:
        for name, album in _read_source(source):
            check_name(name)
            if name == BASE:
                raise DrigError(f"the name {BASE!r} is kept for the base rig; choose another name for this person")
            if name in albums:
                raise DrigError(f"two albums are called {name!r}; an identity has one: give them different names")
            albums[name] = album
    return albums


def fingerprint(place: str) -> str:
    """Of the album at a place. Raises DrigError where there is nothing."""
    files = storage.file_sizes(place)
    if is_video(place):
        return _fingerprint({PurePosixPath(file).name: size for file, size in files.items()})
    below = {str(PurePosixPath(file).relative_to(PurePosixPath(place))): size for file, size in files.items()}
    return _fingerprint({name: size for name, size in below.items() if "/" not in name})


def _read_source(source: str) -> Iterator[tuple[str, AlbumPlace]]:
    name, equals, place = source.partition("=")
    if source.lower().endswith(".csv") and not equals:
        return _read_list(source)
    if equals and "/" not in name:
        if not name or not place:
            raise DrigError(f"--albums {source!r} is not NAME=PATH")
        if not storage.exists(place):
            raise DrigError(f"the album of {name}, {place}, does not exist; check the path")
        return iter([(name, AlbumPlace(absolute(place)))])
    return _read_folder(absolute(source))


def _read_folder(root: str) -> Iterator[tuple[str, AlbumPlace]]:
    """A folder or a video of each person, from one listing."""
    people: dict[str, dict[str, int]] = {}
    if not storage.is_s3(root):
        if not Path(root).is_dir():
            raise DrigError(f"{root} is not a folder; give one that holds a folder or a video of each person")
        people = {path.name: {} for path in Path(root).iterdir() if path.is_dir()}  # one without photos fails by name
    for file, size in storage.file_sizes(root).items():
        person, *below = PurePosixPath(file).relative_to(PurePosixPath(root)).parts
        if len(below) == 1 or (not below and is_video(person)):
            people.setdefault(person, {})[below[0] if below else person] = size
    people = {person: files for person, files in sorted(people.items()) if not person.startswith(".")}
    if not people:
        raise DrigError(
            f"{root} holds no folder and no video of a person. For the photos of one person, give --albums NAME={root}"
        )
    for person, files in people.items():
        name = PurePosixPath(person).stem if is_video(person) else person
        yield name, AlbumPlace(storage.join(root, person), known=_fingerprint(files))


def _read_list(file: str) -> Iterator[tuple[str, AlbumPlace]]:
    """A CSV; the albums' paths may be relative to it."""
    try:
        rows = csv.DictReader(io.StringIO(storage.read_bytes(file).decode("utf-8-sig")), strict=True)
        missing = [column for column in COLUMNS[:2] if column not in (rows.fieldnames or ())]
        if missing:
            raise DrigError(
                f"{file} has no column {' and '.join(missing)}; its first line has to be {','.join(COLUMNS)}"
            )
        folder = absolute(file).rpartition("/")[0]  # of a local path or a URI
        for row in rows:
            name, place = row["name"], row["album"]
            if not name or not place:
                raise DrigError(
                    f"{file}, line {rows.line_num}: a name and an album are needed, found {name!r}, {place!r}"
                )
            if not storage.is_s3(place) and not Path(place).is_absolute():
                place = storage.join(folder, place)
            yield name, AlbumPlace(place, _priority(file, rows.line_num, row.get("priority")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DrigError(f"{file} is no CSV file in UTF-8: {error}") from None


def _priority(file: str, line: int, text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        raise DrigError(f"{file}, line {line}: the priority {text!r} is not a number") from None


def _fingerprint(files: Mapping[str, int]) -> str:
    """Of the photos and videos among these names and sizes."""
    album = sorted(
        (name, size)
        for name, size in files.items()
        if not name.startswith(".") and (PurePosixPath(name).suffix.lower() in PHOTO_SUFFIXES or is_video(name))
    )
    return hashlib.sha256(json.dumps(album).encode()).hexdigest()[:32]
