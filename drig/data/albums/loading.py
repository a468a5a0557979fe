"""Albums: one person's photos, or a video of them, as portraits, with a report on what was used and what was not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drig import storage
from drig.data.photos import Photo, is_video, list_photos, read_photo, video_frames, video_seconds
from drig.errors import DrigError, PhotoRejected
from drig.faces.landmarks import LandmarkDetector
from drig.faces.portraits import Portrait, find_portrait

FEWEST = 2
"""Portraits. One photo has one light and one pose: nothing in it tells the person from the moment."""
WANTED = 10
"""Portraits; the paper personalises with 10 to 20 (SPEC 1)."""
MOST_FRAMES = 40
"""Frames taken of a video, spread over its length; neighbouring ones teach nothing new."""
ALBUM, SHEET = "album.json", "sheet.png"
"""What `album build` leaves beside its portraits: where they come from, and a picture of all, which is no portrait."""
_LEAST_APART_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Album:
    """One person's portraits, in the order of their photos, and what was found on the way."""

    keys: tuple[str, ...]
    """What names each portrait: the photo's name in the album's folder, or its path as given, or the video's second."""
    portraits: tuple[Portrait, ...]
    rejects: dict[str, str] = field(default_factory=dict)
    """Key of each photo that could not be used -> why."""
    warnings: tuple[str, ...] = ()
    """What the user should know of the photos that were used."""

    @property
    def images(self) -> NDArray[np.uint8]:
        """(N, S, S, 3) RGB."""
        return np.stack([portrait.image for portrait in self.portraits])

    @property
    def landmarks(self) -> NDArray[np.float32]:
        """(N, 68, 2) in image NDC."""
        return np.stack([portrait.landmarks for portrait in self.portraits])

    def report(self) -> dict[str, Any]:
        """What became of the album, for JSON."""
        return {
            "photos": len(self.portraits),
            "used": list(self.keys),
            "rejects": self.rejects,
            "warnings": list(self.warnings),
        }


def load_album(
    source: str | Path | Sequence[str | Path], detector: LandmarkDetector, size: int, *, aligned: bool = False
) -> Album:
    """The portraits, size x size, of a folder of photos, of a list of photos, or of a video.

    aligned: the photos are FFHQ crops already. Photos that cannot be used become rejects. Raises DrigError if the
    source is missing or fewer than two portraits are left.
    """
    portraits: dict[str, Portrait] = {}
    rejects: dict[str, str] = {}
    warnings: list[str] = []
    for key, photo in _photos(source):
        try:
            if isinstance(photo, PhotoRejected):
                raise photo
            portrait = find_portrait(photo, detector, size, aligned=aligned)
        except PhotoRejected as error:
            rejects[key] = error.reason
            continue
        portraits[key] = portrait
        if portrait.faces_found > 1:
            warnings.append(f"{key} shows {portrait.faces_found} faces; the largest was taken")
    if len(portraits) < FEWEST:
        reasons = "".join(f"\n  {key}: {reason}" for key, reason in rejects.items())
        raise DrigError(
            f"{_name(source)} gives {len(portraits)} usable portrait{'' if len(portraits) == 1 else 's'}; an album "
            f"needs at least {FEWEST}, better {WANTED} or more, in different light and poses.{reasons}"
        )
    if len(portraits) < WANTED:
        warnings.append(f"only {len(portraits)} portraits; {WANTED} to 20 in different light and poses are better")
    if _is_one_video(source):
        warnings.append("all portraits are from one video: its light, and what hardly moves in it, cannot be learnt")
    return Album(keys=tuple(portraits), portraits=tuple(portraits.values()), rejects=rejects, warnings=tuple(warnings))


def _photos(source: str | Path | Sequence[str | Path]) -> Iterator[tuple[str, Photo | PhotoRejected]]:
    """Key and photo, or why there is none. A photo named by the user that is not there is an error, not a reject."""
    if not isinstance(source, str | Path):
        paths = {str(path): path for path in source}
    elif is_video(source):
        every_s = max(_LEAST_APART_S, video_seconds(source) / MOST_FRAMES)
        for second, frame in video_frames(source, every_s=every_s, limit=MOST_FRAMES):
            yield f"{Path(source).name} {second:.2f} s", frame
        return
    else:
        built = storage.exists(storage.join(source, ALBUM))
        paths = {name: path for path in list_photos(source) if (name := Path(path).name) != SHEET or not built}
    for key, path in paths.items():
        try:
            yield key, read_photo(path)
        except PhotoRejected as error:
            yield key, error


def _is_one_video(source: str | Path | Sequence[str | Path]) -> bool:
    return isinstance(source, str | Path) and is_video(source)


def _name(source: str | Path | Sequence[str | Path]) -> str:
    return str(source) if isinstance(source, str | Path) else f"the list of {len(source)} photos"
