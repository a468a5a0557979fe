"""The client for programs with an event loop: `Client`, awaited."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Self, Unpack

import httpx

from drig.client import calls
from drig.client.answers import Deletion, Edited, Found, Identity, Job, Options, Preview, Progress
from drig.client.calls import Answer, Call, EditOptions, File, Photo, PreviewOptions, VideoOptions
from drig.client.errors import unreachable
from drig.client.patience import DEFAULT_PATIENCE, DEFAULT_URL, Events, Patience, is_done, settings


class AsyncClient:
    """A drig server; everything as in `drig.client.synchronous.Client`."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        key: str | None = None,
        patience: float = DEFAULT_PATIENCE,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url, self._patience = url, patience
        self._http = httpx.AsyncClient(**settings(url, key), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def options(self) -> Options:
        """What requests can name, and how large they may be."""
        return await self._do(calls.options())

    async def upload(self, photo: File, *, aligned: bool = False) -> Found:
        """Find the face in a photo, and have the server keep it for previews and edits."""
        return await self._do(calls.upload(photo, aligned=aligned))

    async def forget(self, source: Found) -> None:
        """Have it forgotten now."""
        await self._do(calls.forget(source))

    async def picture(self, source: Found, kind: str) -> bytes:
        """A PNG of what was found: portrait, landmarks, mesh, rendered, normal or albedo."""
        return await self._do(calls.picture(source, kind))

    async def preview(self, source: Found, **options: Unpack[PreviewOptions]) -> Preview:
        """What an edit would follow, in milliseconds."""
        return await self._do(calls.preview(source, options))

    async def edit(self, source: Photo, **options: Unpack[EditOptions]) -> Edited:
        """Edit a portrait: take `modes` from `target`, or set `controls`, or both."""
        return await self._do(calls.edit(source, options))

    async def make_video(
        self,
        source: Photo,
        *,
        driving: File | None = None,
        targets: Sequence[File] | None = None,
        **options: Unpack[VideoOptions],
    ) -> Job:
        """Begin a video in which the photo does what `driving`, an MP4, or the photos `targets` show."""
        return await self._do(calls.make_video(source, driving, targets, options))

    async def identities(self) -> list[Identity]:
        """Whose models there are, the base rig first."""
        return await self._do(calls.identities())

    async def identity(self, name: str) -> Identity:
        """One of them."""
        return await self._do(calls.identity(name))

    async def create_identity(
        self, name: str, photos: Iterable[File], *, consent_by: str, replace: bool = False, force: bool = False
    ) -> Job:
        """Begin to make a model of somebody who has agreed, as `consent_by` vouches.

        photos: 10 to 20 of them, or one MP4. replace: a new version of somebody who is there. force: train although the
        check of the album finds faults.
        """
        return await self._do(calls.create_identity(name, photos, consent_by, replace=replace, force=force))

    async def delete_identity(self, name: str) -> Deletion:
        """Forget somebody, and search for what remains."""
        return await self._do(calls.delete_identity(name))

    async def jobs(self) -> list[Job]:
        """Your jobs, the newest first."""
        return await self._do(calls.jobs())

    async def job(self, job: Job) -> Job:
        """How far it is now."""
        return await self._do(calls.job(job.id))

    async def wait(self, job: Job, on_progress: Callable[[Job], object] | None = None, *, every: float = 1.0) -> Job:
        """The job once it is done, asked for every so many seconds. Raises JobFailed."""
        while not is_done(job):
            await asyncio.sleep(every)
            job = await self.job(job)
            if on_progress is not None:
                on_progress(job)
        return job

    async def result(self, job: Job) -> bytes:
        """The MP4 that a video job has made."""
        return await self._do(calls.result(job.id))

    async def cancel(self, job: Job) -> None:
        """End a job if it runs, and remove it with all its files."""
        await self._do(calls.remove_job(job.id))

    async def stream(self, source: Photo, **options: Unpack[EditOptions]) -> AsyncIterator[Progress | Edited]:
        """As `edit`: the picture after each step, at last the edit. Closed before its end, the edit is stopped."""
        response, events = await self._send(calls.stream(source, options)), Events()
        try:
            async for line in response.aiter_lines():
                if (news := events.read(line)) is not None:
                    yield news
        except httpx.TransportError as error:
            raise unreachable(self._url, error) from error
        finally:
            await response.aclose()

    async def _do(self, call: Call[Answer]) -> Answer:
        response = await self._send(call)
        await response.aread()
        return call.read(response)

    async def _send(self, call: Call[Answer]) -> httpx.Response:
        """An answer that is no error, its body still to be read."""
        patience = Patience(self._patience)
        while True:
            try:
                response = await self._http.send(call.request(self._http), stream=True)
                if response.is_success:
                    return response
                await response.aread()
            except (httpx.TransportError, httpx.InvalidURL) as error:
                raise unreachable(self._url, error) from error
            await asyncio.sleep(patience.pause_after(response))
