"""What there is to extract: photos and frames of videos, by key, and in groups that are the same in every run.

A key names a photo for good: its path below the folder, or its line of the list; a frame's is `clip.mp4#t=2.500`.
"""

from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from drig import storage
from drig.data.photos import frame_names, is_video, list_photos, video_seconds
from drig.errors import DrigError, MissingFile, PhotoRejected
from pipelines import progress
from pipelines.run_folder import absolute

Group = dict[str, list[str]]
_READERS = 4  # videos whose length is looked up at once; one on S3 is in memory meanwhile


def find_sources(photos: str, every_s: float) -> dict[str, str]:
    """Sources by key, of a folder with its sub-folders, an s3:// prefix, a .txt list of paths, or one video.

    every_s: seconds between the frames of a video. Raises DrigError where there is neither photo nor video, and where
    the one video cannot be read.
    """
    if photos.endswith(".txt"):
        lines = [line.strip() for line in storage.read_bytes(photos).decode().splitlines()]
        found = {line: line if storage.is_s3(line) else absolute(Path(photos).parent / line) for line in lines if line}
        if not found:
            raise DrigError(f"{photos} lists no photo; write one path or s3:// URI a line.")
    elif is_video(photos):
        found = {PurePosixPath(photos).name: absolute(photos)}
        video_seconds(absolute(photos))  # raises here what is a reject among others
    else:
        root = absolute(photos)
        paths = list_photos(root, recursive=True, videos=True)
        found = {str(PurePosixPath(path[len(root.rstrip("/")) + 1 :])): path for path in paths}
    return _with_frames(found, every_s)


def _with_frames(found: Mapping[str, str], every_s: float) -> dict[str, str]:
    """Frames instead of videos."""
    videos = [key for key in found if is_video(key)]
    if not videos:
        return dict(found)
    sources = {key: path for key, path in found.items() if not is_video(key)}
    with (
        ThreadPoolExecutor(_READERS) as pool,
        progress.bar(total=len(videos), unit="video", title="lengths of videos") as bar,
    ):
        for key, seconds in zip(videos, pool.map(_seconds, [found[key] for key in videos]), strict=True):
            names = frame_names(key, seconds, every_s), frame_names(found[key], seconds, every_s)
            sources.update(zip(*names, strict=True))
            bar.update()
    return sources


def _seconds(video: str) -> float:
    """0 for a file that is no video: its first frame will then be a reject, with the reason."""
    try:
        return video_seconds(video)
    except (MissingFile, PhotoRejected):
        return 0.0


def groups(keys: Sequence[str], sources: Mapping[str, str], todo: Set[str], size: int) -> list[Group]:
    """`key` and `source` of photos that are computed together: every `size` neighbours, if one of them is to be done.

    Together, because a batch's arithmetic depends in its last bits on what else is in it. So a run that goes on where
    another stopped must give a photo the same company, though some of it may be done already.
    """
    neighbours = [list(keys[start : start + size]) for start in range(0, len(keys), size)]
    return [
        {"key": members, "source": [sources[key] for key in members]}
        for members in neighbours
        if not todo.isdisjoint(members)
    ]
