"""What is kept of jobs, and for how long."""

from pathlib import Path

import pytest

from deployments import job_book
from deployments.job_book import JobBook, TooManyJobs, UnknownJob
from drig import storage


@pytest.fixture(params=["local", "s3"])
def work(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "jobs") if request.param == "local" else f"{request.getfixturevalue('bucket')}/jobs"


def test_a_job_survives_its_process_and_then_leaves_nothing_but_its_result(work: str) -> None:
    book = JobBook(work)
    job = book.add("identity", "key1", {"identity": "ann"}, {"000.png": b"a face", "001.png": b"a face"})
    book.update(job.id, state="running")
    book.update(job.id, done=5, total=10)
    again = JobBook(work)
    (found,) = again.unfinished()
    assert (found.id, found.state, found.done) == (job.id, "running", 0)
    assert again.files(job.id) == {"000.png": b"a face", "001.png": b"a face"}
    storage.write_bytes(storage.join(again.training(job.id), "ann", "checkpoint"), b"x")
    again.put_result(job.id, "result.mp4", b"video")
    ended = again.end(job.id, "done")
    assert JobBook(work).unfinished() == []
    assert JobBook(work).result(ended) == b"video"
    names = sorted(Path(file).name for file in storage.list_files(work))
    assert names == ["job.json", "result.mp4"]
    again.remove(job.id)
    assert not storage.exists(storage.join(work, job.id))


def test_jobs_are_their_owners(tmp_path: Path) -> None:
    book = JobBook(str(tmp_path))
    first, second = (book.add("video", owner, {}, {}) for owner in ("one", "two"))
    assert [job.id for job in book.list("one")] == [first.id]
    assert [job.id for job in book.list(None)] == [second.id, first.id]
    assert book.get(first.id, None).owner == "one"
    for job_id, owner in ((first.id, "two"), ("../..", "one"), ("", None)):
        with pytest.raises(UnknownJob):
            book.get(job_id, owner)
    with pytest.raises(UnknownJob, match="has no result"):
        book.result(first)


def test_ended_jobs_are_forgotten_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = JobBook(str(tmp_path))
    job = book.add("video", "", {}, {"source": b"a face"})
    book.end(job.id, "failed", problem="no face found")
    book.forget_old()
    assert book.get(job.id, None).problem == "no face found"
    monkeypatch.setattr(job_book, "KEEP_S", 0.0)
    book.forget_old()
    assert list(tmp_path.rglob("*")) == []


def test_so_many_may_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_book, "MOST_WAITING", 1)
    book = JobBook(str(tmp_path))
    job = book.add("video", "", {}, {})
    with pytest.raises(TooManyJobs):
        book.add("video", "", {}, {})
    book.end(job.id, "cancelled")
    book.add("video", "", {}, {})
