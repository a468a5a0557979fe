"""Jobs from their beginning to their end, whatever that is; identities are really trained, in Ray."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployments.job_book import JobRecord, UnknownJob
from deployments.messages import Refused, VideoJob, VideoProgress
from deployments.replicas.jobs import Jobs
from drig import storage
from drig.diffusion.network import Rig
from drig.editing import Editor
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head
from drig.identities import CONSENT_BY, FOLDER_TAG, Identities
from drig.training.config import TRAINING_PRESETS
from tests.deployments.test_app import SMALL

EDIT = {
    "modes": ["exp"],
    "steps": 2,
    "sampler": "ddim",
    "seed": 0,
    "size": None,
    "fps": None,
    "aligned": False,
    "controls": {},
    "max_frames": 10,
}
VIDEO = {"identity": "ann", "version": 3, "edit": EDIT}
FILES = {"source": b"a face", "driving": b"a video"}


class Videos:
    """Edits videos as it is told."""

    def __init__(self, *news: VideoProgress | Refused | bytes | Exception) -> None:
        self.news = news
        self.asked: list[tuple[str, int, VideoJob]] = []
        self.goes_on = asyncio.Event()

    async def __call__(
        self, identity: str, version: int, job: VideoJob
    ) -> AsyncIterator[VideoProgress | Refused | bytes]:
        self.asked.append((identity, version, job))
        for news in self.news:
            if isinstance(news, Exception):
                raise news
            yield news
            await self.goes_on.wait()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 300))


async def ended(jobs: Jobs, job: JobRecord) -> JobRecord:
    while not (found := await jobs.get(job.id, None)).is_over:
        await asyncio.sleep(0.02)
    return found


def test_a_video(tmp_path: Path) -> None:
    async def test() -> None:
        videos = Videos(VideoProgress(what="editing", done=3, total=4), b"an mp4")
        jobs = Jobs(str(tmp_path), "", videos, {})
        job = await jobs.add("video", "key1", VIDEO, FILES)
        while not (found := await jobs.get(job.id, "key1")).total:
            await asyncio.sleep(0.01)
        assert (found.state, found.done, found.total, found.message) == ("running", 3, 4, "editing")
        assert found.seconds_left is not None
        with pytest.raises(UnknownJob):
            await jobs.get(job.id, "key2")
        videos.goes_on.set()
        assert (await ended(jobs, job)).state == "done"
        assert await jobs.result(job.id, "key1") == b"an mp4"
        ((identity, version, asked),) = videos.asked
        assert (identity, version) == ("ann", 3)
        assert (asked.source, asked.driving, asked.steps) == (b"a face", b"a video", 2)
        await jobs.remove(job.id, "key1")
        assert [file for file in tmp_path.rglob("*") if file.is_file()] == []

    run(test)


@pytest.mark.parametrize(
    ("news", "told"),
    [(Refused(422, "no face found"), "no face found"), (ZeroDivisionError("secret"), "failed on the server")],
)
def test_a_video_that_cannot_be_made(tmp_path: Path, news: Refused | Exception, told: str) -> None:
    async def test() -> None:
        jobs = Jobs(str(tmp_path), "", Videos(news), {})
        found = await ended(jobs, await jobs.add("video", "", VIDEO, FILES))
        assert found.state == "failed"
        assert told in found.problem
        assert "secret" not in found.problem
        assert not storage.exists(tmp_path / found.id / "input")

    run(test)


def test_a_removed_job_ends_and_the_next_has_its_turn(tmp_path: Path) -> None:
    async def test() -> None:
        videos = Videos(VideoProgress(what="editing", done=0, total=4), b"an mp4")
        jobs = Jobs(str(tmp_path), "", videos, {})
        first = await jobs.add("video", "", VIDEO, FILES)
        while not videos.asked:
            await asyncio.sleep(0.01)
        second = await jobs.add("video", "", VIDEO, FILES)
        await asyncio.sleep(0.05)
        assert (await jobs.get(second.id, None)).state == "waiting"
        await jobs.remove(first.id, None)
        assert [job.id for job in await jobs.list(None)] == [second.id]
        videos.goes_on.set()
        assert (await ended(jobs, second)).state == "done"

    run(test)


def test_a_restarted_process_goes_on(tmp_path: Path) -> None:
    async def before() -> None:
        await Jobs(str(tmp_path), "", Videos(VideoProgress(what="editing", done=1, total=4)), {}).add(
            "video", "", VIDEO, FILES
        )
        await asyncio.sleep(0.05)  # and then this process ends, its tasks with it

    async def after() -> None:
        videos = Videos(b"an mp4")
        videos.goes_on.set()
        jobs = Jobs(str(tmp_path), "", videos, {})
        jobs.resume()
        (job,) = await jobs.list(None)
        assert (await ended(jobs, job)).state == "done"

    run(before)
    run(after)


@pytest.fixture
def identities(tmp_path: Path) -> Identities:
    head, base = load_head("open"), tmp_path / "base.safetensors"
    Editor(Rig.from_seed(SMALL, 0), head, load_estimator("fit", head)).save(base)
    registry = Identities(f"sqlite:///{tmp_path}/mlflow.db", cache=tmp_path / "cache")
    registry.register_base(base)
    return registry


def test_an_identity(ray_local: None, identities: Identities, synthetic_people: Path, tmp_path: Path) -> None:
    photos = sorted((synthetic_people / "person_0000").glob("*.png"))
    files = {f"{i:03}.jpg": photo.read_bytes() for i, photo in enumerate(photos)} | {"003.jpg": b"no photo"}
    request = {
        "identity": "ann",
        "consent_by": "her lawyer",
        "album": None,
        "force": False,
        "names": {"003.jpg": "holiday.jpg"},
    }
    training = replace(TRAINING_PRESETS["tiny-stage2-delta"], samples=32, warmup=8, checkpoint_every=16, log_every=8)

    async def test() -> None:
        jobs = Jobs(
            str(tmp_path / "jobs"),
            identities.tracking_uri,
            Videos(),
            {"training": training, "workers": 8, "mirror": False},
        )
        job = await jobs.add("identity", "", request, files)
        assert await jobs.is_made("ann")
        refused = await ended(jobs, job)
        assert refused.state == "failed"
        assert "not good enough to train on" in refused.problem  # three photos
        job = await jobs.add("identity", "", {**request, "force": True}, files)
        done = await ended(jobs, job)
        assert done.state == "done", done.problem
        assert done.report is not None
        assert (done.report["photos"], done.report["rejects"][0]["photo"]) == (3, "holiday.jpg")
        info = identities.get("ann")
        assert info.tags[CONSENT_BY] == "her lawyer"
        assert not storage.exists(info.tags[FOLDER_TAG])
        assert sorted(file.name for file in (tmp_path / "jobs" / job.id).rglob("*") if file.is_file()) == ["job.json"]
        await jobs.remove_of("ann")
        assert await jobs.list(None) == []

    run(test)
