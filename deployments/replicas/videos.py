"""Edits a video frame by frame, in the thread of a replica that edits photos: between two frames others have a turn."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import Executor
from contextlib import closing
from typing import TYPE_CHECKING

from deployments.messages import Refused, VideoJob, VideoProgress
from drig.errors import DrigError, PhotoRejected

if TYPE_CHECKING:
    from drig.data.photos import Photo
    from drig.editing import Editor

PHOTOS_PER_SECOND = 2.0
"""How fast target photos follow each other, where nothing else is said."""
FASTEST = 60.0

News = VideoProgress | Refused | bytes


async def edit_video(editor: "Callable[[], Editor]", job: VideoJob, thread: Executor) -> AsyncGenerator[News]:
    """How far the video is, again and again, and at last the MP4; or why it cannot be made."""
    loop = asyncio.get_running_loop()
    with closing(_steps(editor, job)) as steps:
        while (news := await loop.run_in_executor(thread, next, steps, None)) is not None:
            yield news


def _steps(load: "Callable[[], Editor]", job: VideoJob) -> Generator[News]:
    from drig.data.photos import read_photo
    from drig.data.video_writing import write_mp4
    from drig.driving import DriveReader, edit_frames
    from drig.faces.controls import Controls
    from drig.pictures import Picture

    try:
        editor = load()
        source = editor.read(read_photo(job.source), aligned=job.aligned)
        fps, frames, expected = _frames(job)
        reader = DriveReader(editor)
        for read, frame in enumerate(frames, start=1):
            reader.add(frame)
            yield VideoProgress(what="looking for the face", done=read, total=2 * max(expected, read))
        drive = reader.drive(fps)
        made: list[Picture] = []
        pictures = edit_frames(
            editor,
            source,
            drive,
            modes=job.modes,
            controls=Controls(**job.controls),
            steps=job.steps,
            sampler=job.sampler,
            seed=job.seed,
        )
        for picture in pictures:
            made.append(picture)
            what = "editing" if not drive.unseen else f"editing; {drive.unseen} frames without a face follow the others"
            yield VideoProgress(what=what, done=len(drive) + len(made), total=2 * len(drive))
        yield write_mp4(made, fps=fps, size=job.size)
    except PhotoRejected as error:
        yield Refused(422, error.reason)
    except DrigError as error:
        yield Refused(422, str(error))


def _frames(job: VideoJob) -> tuple[float, "Iterator[Photo]", int]:
    """Frames a second, what drives each of them, and how many there will be, or near."""
    from drig.data.photos import read_photo, steady_frames, video_rate, video_seconds

    if job.driving is None:
        return job.fps or PHOTOS_PER_SECOND, map(read_photo, job.targets), len(job.targets)
    fps = job.fps or min(FASTEST, video_rate(job.driving))
    expected = min(job.max_frames, round(video_seconds(job.driving) * fps))
    return fps, steady_frames(job.driving, fps, limit=job.max_frames), expected
