"""The client for programs without an event loop."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self, Unpack

import httpx

from drig.client import calls
from drig.client.answers import Deletion, Edited, Found, Identity, Job, Options, Preview, Progress
from drig.client.calls import Answer, Call, EditOptions, File, Photo, PreviewOptions, VideoOptions
from drig.client.errors import unreachable
from drig.client.patience import DEFAULT_PATIENCE, DEFAULT_URL, Events, Patience, is_done, settings


class Client:
    """A drig server.

    Args:
        url: where it is.
        key: an API key; None = that of the variable DRIG_API_KEY, if there is one.
        patience: seconds that one request may be sent again for while the server is busy.
        transport: what carries requests instead of the network, for tests.

    Every method raises Unreachable, and ServerError or one of its kinds.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        key: str | None = None,
        patience: float = DEFAULT_PATIENCE,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url, self._patience = url, patience
        self._http = httpx.Client(**settings(url, key), transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def options(self) -> Options:
        """What requests can name, and how large they may be."""
        return self._do(calls.options())

    def upload(self, photo: File, *, aligned: bool = False) -> Found:
        """Find the face in a photo, and have the server keep it for previews and edits."""
        return self._do(calls.upload(photo, aligned=aligned))

    def forget(self, source: Found) -> None:
        """Have it forgotten now."""
        self._do(calls.forget(source))

    def picture(self, source: Found, kind: str) -> bytes:
        """A PNG of what was found: portrait, landmarks, mesh, rendered, normal or albedo."""
        return self._do(calls.picture(source, kind))

    def preview(self, source: Found, **options: Unpack[PreviewOptions]) -> Preview:
        """What an edit would follow, in milliseconds."""
        return self._do(calls.preview(source, options))

    def edit(self, source: Photo, **options: Unpack[EditOptions]) -> Edited:
        """Edit a portrait: take `modes` from `target`, or set `controls`, or both."""
        return self._do(calls.edit(source, options))

    def make_video(
        self,
        source: Photo,
        *,
        driving: File | None = None,
        targets: Sequence[File] | None = None,
        **options: Unpack[VideoOptions],
    ) -> Job:
        """Begin a video in which the photo does what `driving`, an MP4, or the photos `targets` show."""
        return self._do(calls.make_video(source, driving, targets, options))

    def identities(self) -> list[Identity]:
        """Whose models there are, the base rig first."""
        return self._do(calls.identities())

    def identity(self, name: str) -> Identity:
        """One of them."""
        return self._do(calls.identity(name))

    def create_identity(
        self, name: str, photos: Iterable[File], *, consent_by: str, replace: bool = False, force: bool = False
    ) -> Job:
        """Begin to make a model of somebody who has agreed, as `consent_by` vouches.

        photos: 10 to 20 of them, or one MP4. replace: a new version of somebody who is there. force: train although the
        check of the album finds faults.
        """
        return self._do(calls.create_identity(name, photos, consent_by, replace=replace, force=force))

    def delete_identity(self, name: str) -> Deletion:
        """Forget somebody, and search for what remains."""
        return self._do(calls.delete_identity(name))

    def jobs(self) -> list[Job]:
        """Your jobs, the newest first."""
        return self._do(calls.jobs())

    def job(self, job: Job) -> Job:
        """How far it is now."""
        return self._do(calls.job(job.id))

    def wait(self, job: Job, on_progress: Callable[[Job], object] | None = None, *, every: float = 1.0) -> Job:
        """The job once it is done, asked for every so many seconds. Raises JobFailed."""
        while not is_done(job):
            time.sleep(every)
            job = self.job(job)
            if on_progress is not None:
                on_progress(job)
        return job

    def result(self, job: Job) -> bytes:
        """The MP4 that a video job has made."""
        return self._do(calls.result(job.id))

    def cancel(self, job: Job) -> None:
        """End a job if it runs, and remove it with all its files."""
        self._do(calls.remove_job(job.id))

    def stream(self, source: Photo, **options: Unpack[EditOptions]) -> Iterator[Progress | Edited]:
        """As `edit`: the picture after each step, at last the edit. Closed before its end, the edit is stopped."""
        response, events = self._send(calls.stream(source, options)), Events()
        try:
            for line in response.iter_lines():
                if (news := events.read(line)) is not None:
                    yield news
        except httpx.TransportError as error:
            raise unreachable(self._url, error) from error
        finally:
            response.close()

    def _do(self, call: Call[Answer]) -> Answer:
        response = self._send(call)
        response.read()
        return call.read(response)

    def _send(self, call: Call[Answer]) -> httpx.Response:
        """An answer that is no error, its body still to be read."""
        patience = Patience(self._patience)
        while True:
            try:
                response = self._http.send(call.request(self._http), stream=True)
                if response.is_success:
                    return response
                response.read()
            except (httpx.TransportError, httpx.InvalidURL) as error:
                raise unreachable(self._url, error) from error
            time.sleep(patience.pause_after(response))
