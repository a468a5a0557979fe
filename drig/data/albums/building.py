"""Photos, folders and videos in, an album out: the faces of one person, the best and most different of them.

found = find_faces(sources, detector, 256)
built = choose(found, like=None, embedder=embedder, estimator=estimator, head=head, least=10, most=20)
write_album(built, Path("people/ann"))
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drig import storage
from drig.data.albums.doctor import AlbumCheck, AlbumFaces, fit_portraits, judge_faces, measure_faces
from drig.data.albums.loading import ALBUM, SHEET
from drig.data.albums.people import faces_of, people
from drig.data.albums.photo_quality import BLURRED, blur, duplicates
from drig.data.albums.selection import differences, spread, weight
from drig.data.photos import PHOTO_SUFFIXES, Photo, is_video, read_photo, save_png, video_frames, video_seconds
from drig.errors import DrigError, PhotoRejected
from drig.faces.estimators import Estimator
from drig.faces.head import HeadModel
from drig.faces.identity_embedding import SAME_PERSON, IdentityEmbedder, distances
from drig.faces.landmarks import LandmarkDetector
from drig.faces.portraits import Portrait, cut_portrait, find_portrait
from drig.pictures import contact_sheet

FRAMES_A_SECOND = 2.0
"""Of a video: a blink or a turn of the head takes half a second."""
MOST_FRAMES = 240
"""Of one video, spread over its length."""
_PORTRAITS = re.compile(r"\d\d\.png")

Progress = Callable[[str, int, int], object]
"""Called with what is being done, how much of it is done and how much there is; 0 where that is not known."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One face of one photo or frame."""

    key: str
    """Names the face: its photo or frame, and which of several there."""
    photo: str
    """Names the photo or frame."""
    source: str
    """The photo or video."""
    second: float | None
    """The frame's time."""
    portrait: Portrait


@dataclass(frozen=True, eq=False)
class Found:
    """Every face of the sources that could be cut."""

    candidates: tuple[Candidate, ...]
    left_out: dict[str, str]
    """Key of each photo, frame or face that cannot be used -> why."""


@dataclass(frozen=True, eq=False)
class BuiltAlbum:
    """The chosen faces and why the others were not chosen."""

    candidates: tuple[Candidate, ...]
    check: AlbumCheck
    left_out: dict[str, str]
    others: int
    """How many other people the sources show."""
    notes: tuple[str, ...]
    """What the user should know of the choice."""

    def report(self) -> dict[str, Any]:
        """For JSON: the doctor's findings and where each portrait comes from."""
        sources = {
            _file(i): {"face": c.key, "source": c.source, "second": c.second} for i, c in enumerate(self.candidates)
        }
        return {"portraits": sources, "left_out": self.left_out, "other_people": self.others, **self.check.report()}


def list_sources(sources: Sequence[str]) -> list[str]:
    """Paths of the photos and videos among the sources and in their folders, each once. DrigError for a missing one."""
    found: dict[str, None] = {}
    for source in sources:
        if not storage.exists(source):
            raise DrigError(f"{source} does not exist; give photos, videos or folders of them")
        if not Path(source).is_dir() and (not storage.is_s3(source) or Path(source).suffix):
            found[source] = None
            continue
        inside = [f for f in storage.list_files(source, recursive=False) if _is_source(f)]
        if not inside:
            raise DrigError(f"{source} holds no photo and no video (subfolders are not searched)")
        found |= dict.fromkeys(inside)
    return list(found)


@dataclass(frozen=True, kw_only=True)
class AlbumBuilder:
    """Finds the faces of any photos and videos, and chooses those that make an album of one person."""

    head: HeadModel
    estimator: Estimator
    detector: LandmarkDetector = field(default_factory=LandmarkDetector)
    embedder: IdentityEmbedder = field(default_factory=IdentityEmbedder)
    on_progress: Progress = lambda *_: None

    def find(self, sources: Sequence[str], size: int) -> Found:
        """Every face of the photos, and of the frames of the videos, as a size x size portrait."""
        candidates: list[Candidate] = []
        left_out: dict[str, str] = {}
        paths = list_sources(sources)
        total = sum(_frames(path) for path in paths)
        for done, (key, source, second, photo) in enumerate(_pictures(paths)):
            self.on_progress("faces", done, total)
            try:
                if isinstance(photo, PhotoRejected):
                    raise photo
                faces = self.detector.detect(photo)
                if not faces:
                    raise PhotoRejected("no face found")
            except PhotoRejected as error:
                left_out[key] = error.reason
                continue
            for number, face in enumerate(faces, 1):
                name = key if len(faces) == 1 else f"{key} face {number}"
                try:
                    if not face.placed:
                        raise PhotoRejected("turned away or hidden so far that its landmarks cannot be placed")
                    portrait = cut_portrait(photo, face.landmarks, size, len(faces))
                except PhotoRejected as error:
                    left_out[name] = error.reason
                    continue
                try:
                    # What reads the album later must find the same face in the crop, and not a larger one beside it.
                    find_portrait(portrait.image, self.detector, size, aligned=True)
                except PhotoRejected:
                    left_out[name] = "not found again in its own crop: another face is in the way, or it is unclear"
                    continue
                candidates.append(Candidate(name, key, source, second, portrait))
        self.on_progress("faces", total, total)
        return Found(tuple(candidates), left_out)

    def choose(self, found: Found, *, least: int, most: int, like: Photo | None = None) -> BuiltAlbum:
        """The album, of `least` to `most` portraits, of the person of most photos, or of the one in `like`.

        Raises DrigError where there is no such person, or too little of them.
        """
        if not found.candidates:
            raise DrigError(f"no usable face in the sources{_reasons(found.left_out)}")
        left_out = dict(found.left_out)
        candidates = _sharp_and_different(found.candidates, left_out)  # before counting: a video's frames are many
        embeddings = self.embedder.embed_portraits([c.portrait for c in candidates])
        who = people(embeddings)
        person = 0 if like is None else self._person_like(like, embeddings, who)
        own = faces_of(person, who, [c.photo for c in candidates], [c.portrait.source_side for c in candidates])
        for i in sorted(set(range(len(candidates))) - set(own)):
            left_out[candidates[i].key] = "another person" if who[i] != person else "the same face, smaller"
        mine = [candidates[i] for i in own]
        faces = self._measure(mine)
        left_out |= {p.key: ", ".join(v.text for v in p.verdicts) for p in faces.photos if not p.usable}
        usable = [i for i, photo in enumerate(faces.photos) if photo.usable]
        if len(usable) < least:
            raise DrigError(
                f"{len(usable)} usable photo{'' if len(usable) == 1 else 's'} of one person, {least} are wanted: add "
                f"photos, or give a smaller --least{_reasons(left_out)}"
            )
        weights = np.array([weight(faces.photos[i]) for i in usable])
        kept = [usable[i] for i in spread(differences(faces.codes[usable]), weights, most)]
        left_out |= {mine[i].key: "others show more that is different" for i in usable if i not in kept}
        return BuiltAlbum(
            candidates=tuple(mine[i] for i in kept),
            check=judge_faces(faces[kept], {}),
            left_out=left_out,
            others=int(who.max()),
            notes=_tie(who) if like is None else (),
        )

    def _measure(self, candidates: Sequence[Candidate]) -> AlbumFaces:
        portraits = [candidate.portrait for candidate in candidates]
        total = len(portraits)
        codes = fit_portraits(portraits, self.estimator, lambda done: self.on_progress("fit", done, total))
        one_person = np.zeros(total, np.int64)
        return measure_faces([candidate.key for candidate in candidates], portraits, codes, self.head, one_person)

    def _person_like(self, like: Photo, embeddings: NDArray[np.float32], who: NDArray[np.int64]) -> int:
        wanted = self.embedder.embed_portraits([find_portrait(like, self.detector, 256)])
        apart = distances(wanted, embeddings)[0]
        means = [float(apart[who == person].mean()) for person in range(int(who.max()) + 1)]
        if min(means) >= SAME_PERSON:
            raise DrigError(
                f"nobody in the sources is the person of --like (the nearest is {min(means):.2f} away, one person's "
                f"faces are less than {SAME_PERSON:g} apart): give another photo of them"
            )
        return int(np.argmin(means))


def write_album(built: BuiltAlbum, folder: Path) -> None:
    """Portraits as 00.png, 01.png, ..., album.json and sheet.png into a folder; an album that is there is replaced.

    Raises DrigError where the folder holds something else.
    """
    check_free(folder)
    for old in folder.glob("*.png"):
        if _PORTRAITS.fullmatch(old.name):
            old.unlink()
    images = [c.portrait.image for c in built.candidates]
    for i, image in enumerate(images):
        save_png(folder / _file(i), image)
    rows = [images[start : start + 5] for start in range(0, len(images), 5)]
    save_png(folder / SHEET, contact_sheet(rows, cell=192))
    storage.write_bytes(folder / ALBUM, json.dumps(built.report(), indent=1).encode())


def check_free(folder: Path, sources: Sequence[str] = ()) -> None:
    """Raise DrigError for a folder that is a source, or that holds anything but an album that was built before."""
    if folder.resolve() in [Path(source).resolve() for source in sources]:
        raise DrigError(f"{folder} is one of the sources; give another folder for the album")
    if folder.exists() and not folder.is_dir():
        raise DrigError(f"{folder} is a file; give a folder for the album")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / ALBUM).is_file():
        raise DrigError(f"{folder} is not empty and holds no album built before; choose another folder")


def count_reasons(left_out: dict[str, str]) -> list[tuple[str, int]]:
    """Why photos were left out, the most frequent reason first; numbers in reasons do not make them differ."""
    return Counter(re.sub(r" \(.*\)|: .*", "", reason) for reason in left_out.values()).most_common()


def _sharp_and_different(candidates: Sequence[Candidate], left_out: dict[str, str]) -> list[Candidate]:
    """Those worth fitting, which takes longest: neither blurred nor, nearly, there already."""
    sharp = []
    for candidate in candidates:
        if blur(candidate.portrait) >= BLURRED:
            left_out[candidate.key] = "blurred"
        else:
            sharp.append(candidate)
    if not sharp:
        raise DrigError(f"no sharp face in the sources{_reasons(left_out)}")
    repeats = duplicates([c.portrait for c in sharp])
    for candidate, original in zip(sharp, repeats, strict=True):
        if original is not None:
            left_out[candidate.key] = f"nearly the same as another: {sharp[original].key}"
    return [candidate for candidate, original in zip(sharp, repeats, strict=True) if original is None]


def _tie(who: NDArray[np.int64]) -> tuple[str, ...]:
    sizes = np.bincount(who)
    if len(sizes) < 2 or sizes[0] > sizes[1]:
        return ()
    return ("several people have as many photos; the first of them was taken: name the person with --like PHOTO",)


def _pictures(paths: Sequence[str]) -> Iterator[tuple[str, str, float | None, Photo | PhotoRejected]]:
    """Key, source, second and picture, or why there is none, of each photo and frame; one in memory at a time."""
    for path in paths:
        if is_video(path):
            every_s = max(1 / FRAMES_A_SECOND, video_seconds(path) / MOST_FRAMES)
            for second, frame in video_frames(path, every_s=every_s, limit=MOST_FRAMES):
                yield f"{path} {second:.2f} s", path, second, frame
            continue
        try:
            yield path, path, None, read_photo(path)
        except PhotoRejected as error:
            yield path, path, None, error


def _frames(path: str) -> int:
    """About how many pictures a photo or video gives."""
    if not is_video(path):
        return 1
    return max(1, min(MOST_FRAMES, int(video_seconds(path) * FRAMES_A_SECOND)))


def _is_source(file: str) -> bool:
    name = Path(file).name
    return not name.startswith(".") and (is_video(name) or Path(name).suffix.lower() in PHOTO_SUFFIXES)


def _reasons(left_out: dict[str, str]) -> str:
    return "".join(f"\n  {count} x {reason}" for reason, count in count_reasons(left_out))


def _file(index: int) -> str:
    return f"{index:02d}.png"
