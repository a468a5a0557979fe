"""The whole API of the studio and the client in one process, for tests: real faces and edits, invented jobs and people.

No Ray, no registry: one editor edits for every identity, a job counts to its total and is done. `Rehearsal` has knobs
for what is hard to bring about on purpose: an overload, tokens that expire, a key that is asked for.
"""

import asyncio
import base64
import io
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image, ImageDraw
from starlette.datastructures import UploadFile
from starlette.middleware.base import RequestResponseEndpoint

from deployments.api import studio
from drig.data.photos import encode_png, read_photo, to_photo
from drig.diffusion.samplers import SAMPLERS
from drig.editing import MODES, Editor, Face
from drig.errors import DrigError
from drig.faces.alignment import face_quad
from drig.faces.buffers import centre_shift, render_buffers
from drig.faces.camera import project
from drig.faces.codes import transfer
from drig.faces.controls import Controls, apply_controls, head_angles
from drig.faces.expressions import EXPRESSIONS
from drig.pictures import buffer_pictures, to_picture


class Problem(Exception):
    """An answer that is an error of the API."""

    def __init__(self, status: int, what: str, do: str | None = None, **headers: str) -> None:
        self.status, self.headers = status, headers
        self.problem = {"what": what} | ({"do": do} if do else {})


@dataclass
class Source:
    """A photo that was sent."""

    face: Face
    photo: np.ndarray
    quad: list[list[float]]


@dataclass
class Rehearsal:
    """What the server knows, and its knobs."""

    editor: Editor
    sources: dict[str, Source] = field(default_factory=dict)
    identities: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    """(method, path, JSON body or None) of everything under /v1."""
    busy: int = 0
    """So many requests for previews and edits are turned away with 503."""
    retry_after: str = "1"
    upload_mib: float = 24
    key: str | None = None
    """Without this key, 401."""
    step_seconds: float = 0.0
    """How much longer a step of the sampler or of a job takes."""
    open_streams: int = 0
    previews: list[int] = field(default_factory=lambda: [0, 0])
    """How many previews are rendered now, and the most there were at once."""
    pictures: list[str] = field(default_factory=list)
    """The edited pictures that were sent, as base64."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.identities["base"] = _identity("base", None, self.editor.size, None)

    def bodies(self, path: str) -> list[Any]:
        return [body for _, asked, body in self.requests if asked == path]


def _identity(name: str, photos: int | None, size: int, consent: dict[str, str] | None) -> dict[str, Any]:
    created = "2026-11-02T09:30:00Z"
    return {"name": name, "version": 1, "created": created, "photos": photos, "size": size, "consent": consent}


@contextmanager
def rehearsing(rehearsal: Rehearsal, port: int = 0) -> Iterator[str]:
    """The server on this machine; gives its URL."""
    with socket.create_server(("127.0.0.1", port)) as listening:
        server = uvicorn.Server(uvicorn.Config(create_app(rehearsal), log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def create_app(rehearsal: Rehearsal) -> FastAPI:
    """The routes of the API."""
    app = FastAPI()
    app.include_router(studio.router())

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> JSONResponse:
        return JSONResponse({"problems": [error.problem]}, error.status, error.headers)

    @app.exception_handler(DrigError)
    async def refused(request: Request, error: DrigError) -> JSONResponse:
        return JSONResponse({"problems": [{"what": str(error)}]}, 422)

    @app.middleware("http")
    async def guard(request: Request, call_next: RequestResponseEndpoint) -> Response:
        path = request.url.path
        if path.startswith("/v1"):
            is_json = request.headers.get("content-type") == "application/json"
            rehearsal.requests.append((request.method, path, await request.json() if is_json else None))
        if path.startswith("/v1") and path != "/v1/options" and rehearsal.key is not None:
            if request.headers.get("authorization") != f"Bearer {rehearsal.key}":
                return await problem(request, Problem(401, "this server asks for an API key", "ask its owner for one"))
        if rehearsal.busy and path.startswith(("/v1/edits", "/v1/previews")):
            rehearsal.busy -= 1
            headers = {"Retry-After": rehearsal.retry_after}
            return await problem(request, Problem(503, "too many edits are waiting", "send this again", **headers))
        return await call_next(request)

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/options")
    async def options() -> dict[str, Any]:
        return {
            "modes": list(MODES),
            "samplers": list(SAMPLERS),
            "moods": {name: dict(actions) for name, actions in EXPRESSIONS.items()},
            "actions": list(rehearsal.editor.expression_names),
            "layers": ["rendered", "normal", "albedo", "mesh"],
            "limits": {"upload_mib": rehearsal.upload_mib, "pixels": 89_000_000, "frames": 600},
            "auth": rehearsal.key is not None,
        }

    _add_sources(app, rehearsal)
    _add_edits(app, rehearsal)
    _add_people_and_jobs(app, rehearsal)
    return app


def _add_sources(app: FastAPI, rehearsal: Rehearsal) -> None:
    @app.post("/v1/sources", status_code=201)
    async def post(request: Request) -> dict[str, Any]:
        form = await request.form()
        token = f"t{len(rehearsal.requests)}"
        aligned = form.get("aligned") == "true"
        rehearsal.sources[token] = await run_in_threadpool(_read, rehearsal, await _bytes(form["photo"]), aligned)
        return _found(token, rehearsal)

    @app.get("/v1/sources/{token}")
    async def get(token: str) -> dict[str, Any]:
        _source(rehearsal, token)
        return _found(token, rehearsal)

    @app.delete("/v1/sources/{token}", status_code=204)
    async def delete(token: str) -> None:
        rehearsal.sources.pop(token, None)

    @app.get("/v1/sources/{token}/pictures/{name}")
    async def picture(token: str, name: str) -> Response:
        source = _source(rehearsal, token)
        if name in ("portrait", "landmarks"):
            return Response(_png(source.face.portrait.image, 256), media_type="image/png")
        return Response(_layer(rehearsal.editor, source.face, source.face.codes, name, 256), media_type="image/png")


def _add_edits(app: FastAPI, rehearsal: Rehearsal) -> None:
    @app.post("/v1/previews")
    async def preview(request: Request) -> Response:
        body = await request.json()
        source, codes = _edited(rehearsal, body)
        rehearsal.previews[0] += 1
        rehearsal.previews[1] = max(rehearsal.previews)
        png = await run_in_threadpool(
            _layer, rehearsal.editor, source.face, codes, body.get("layer", "rendered"), body.get("size", 256)
        )
        rehearsal.previews[0] -= 1
        pose = ",".join(f"{angle:.1f}" for angle in head_angles(codes)[0])
        return Response(png, media_type="image/png", headers={"X-Drig-Pose": pose, "X-Drig-Milliseconds": "20"})

    @app.post("/v1/edits")
    async def edit(request: Request) -> Response:
        body = await _edit_request(request, rehearsal)
        answer = await run_in_threadpool(_edit, rehearsal, body, lambda *_: None)
        if body.get("answer") == "json":
            return JSONResponse(answer)
        headers = {
            "X-Drig-Identity": answer["identity"],
            "X-Drig-Identity-Version": str(answer["version"]),
            "X-Drig-Seed": str(answer["seed"]),
            "X-Drig-Warnings": json.dumps(answer["warnings"]),
        }
        return Response(base64.b64decode(answer["image"]), media_type="image/png", headers=headers)

    @app.post("/v1/edits:stream")
    async def stream(request: Request) -> StreamingResponse:
        body = await _edit_request(request, rehearsal)
        return StreamingResponse(_events(rehearsal, body), media_type="text/event-stream")


async def _events(rehearsal: Rehearsal, body: dict[str, Any]) -> AsyncIterator[str]:
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[tuple[str, dict[str, Any]] | None]()
    gone = threading.Event()

    def progress(step: int, steps: int, image: torch.Tensor) -> None:
        if gone.is_set():
            raise Problem(499, "nobody waits")
        time.sleep(rehearsal.step_seconds)
        data = {"step": step, "steps": steps, "image": _base64(encode_png(to_photo(image)[0]))}
        loop.call_soon_threadsafe(queue.put_nowait, ("progress", data))

    def work() -> None:
        event: tuple[str, dict[str, Any]]
        try:
            event = ("result", _edit(rehearsal, body, progress))
        except DrigError as error:
            event = ("problem", {"problems": [{"what": str(error)}]})
        except Problem as error:
            event = ("problem", {"problems": [error.problem]})
        loop.call_soon_threadsafe(queue.put_nowait, event)
        loop.call_soon_threadsafe(queue.put_nowait, None)

    rehearsal.open_streams += 1
    try:
        working = loop.run_in_executor(None, work)
        while (event := await queue.get()) is not None:
            yield f"event: {event[0]}\ndata: {json.dumps(event[1])}\n\n"
        await working
    finally:
        gone.set()
        rehearsal.open_streams -= 1


async def _edit_request(request: Request, rehearsal: Rehearsal) -> dict[str, Any]:
    """The body of an edit, JSON or multipart; photos in it are read and become tokens."""
    if request.headers["content-type"] == "application/json":
        body = await request.json()
    else:
        body = {}
        for name, value in (await request.form()).multi_items():
            body[name] = await _bytes(value) if isinstance(value, UploadFile) else value
    for name in ("source", "target"):
        if (photo := body.pop(name, None)) is not None:
            content = photo if isinstance(photo, bytes) else base64.b64decode(photo)
            token = body[f"{name}_token"] = f"{name}{len(rehearsal.requests)}"
            rehearsal.sources[token] = await run_in_threadpool(
                _read, rehearsal, content, body.get("aligned") in (True, "true")
            )
    _edited(rehearsal, body)  # what is wrong is told before anything runs
    return body


def _edit(rehearsal: Rehearsal, body: dict[str, Any], progress: Any) -> dict[str, Any]:
    source, codes = _edited(rehearsal, body)
    target = _source(rehearsal, body["target_token"]) if body.get("target_token") else None
    latent = target.face if target and "latent" in body.get("modes", ()) else source.face
    editor, seed, start = rehearsal.editor, int(body.get("seed", 0)), time.monotonic()
    buffers = editor.buffers(source.face.codes, codes).stacked()
    with rehearsal.lock:
        (image,) = editor.sample(
            buffers,
            [latent.portrait.image],
            steps=int(body.get("steps", 20)),
            sampler=body.get("sampler", "ddim"),
            seed=seed,
            on_step=progress,
        )
    png = encode_png(_pasted(source, image)) if body.get("paste_back") else _png(image, int(body.get("size") or 0))
    names = ("rendered", "normal", "albedo")
    rehearsal.pictures.append(_base64(png))
    return {
        "identity": body.get("identity", "base"),
        "version": 1,
        "seed": seed,
        "image": _base64(png),
        "buffers": {k: _base64(encode_png(p)) for k, p in zip(names, buffer_pictures(buffers[0]), strict=True)},
        "timings": {"sample": time.monotonic() - start, "total": time.monotonic() - start},
        "warnings": list(source.face.warnings),
    }


def _edited(rehearsal: Rehearsal, body: dict[str, Any]) -> tuple[Source, Any]:
    source = _source(rehearsal, body["source_token"])
    if body.get("identity", "base") not in rehearsal.identities:
        raise Problem(404, f"no identity is called {body['identity']!r}", "GET /v1/identities lists what there is")
    codes, names = source.face.codes, ("light_direction", "light_colour")
    if body.get("target_token"):
        target = _source(rehearsal, body["target_token"])
        codes = transfer(codes, target.face.codes, set(body["modes"]) - {"latent"})
    controls = body.get("controls") or {}
    controls = {k: tuple(v) if k in names else v for k, v in controls.items()}
    return source, apply_controls(codes, Controls(**controls), rehearsal.editor.expression_names)


def _source(rehearsal: Rehearsal, token: str) -> Source:
    if token not in rehearsal.sources:
        raise Problem(404, f"no photo is known as {token!r}", "POST /v1/sources again")
    return rehearsal.sources[token]


def _read(rehearsal: Rehearsal, content: bytes, aligned: bool) -> Source:
    photo = read_photo(content)
    with rehearsal.lock:
        face = rehearsal.editor.read(photo, aligned=aligned)
        tl, bl, br, tr = face_quad(rehearsal.editor.detector.detect(photo)[0].landmarks).tolist()
    return Source(face, photo, [tl, tr, br, bl])


def _found(token: str, rehearsal: Rehearsal) -> dict[str, Any]:
    source, editor = rehearsal.sources[token], rehearsal.editor
    yaw, pitch, roll = head_angles(source.face.codes)[0].tolist()
    actions = dict(zip(editor.expression_names, source.face.codes.exp[0].tolist(), strict=True))
    height, width = source.photo.shape[:2]
    return {
        "token": token,
        "expires_in": 900,
        "size": editor.size,
        "faces_found": source.face.portrait.faces_found,
        "crop": source.quad,
        "photo_size": [width, height],
        "landmarks": ((source.face.portrait.landmarks + 1) / 2).tolist(),
        "pose": {"yaw": yaw, "pitch": pitch, "roll": roll},
        "light": source.face.codes.light[0].tolist(),
        "expression": {name: value for name, value in actions.items() if value > 0.05},
        "warnings": list(source.face.warnings),
    }


def _layer(editor: Editor, face: Face, codes: Any, name: str, size: int) -> bytes:
    shift = centre_shift(editor.head, face.codes, codes)
    buffers = render_buffers(editor.head, codes, size, shift=shift)
    if name != "mesh":
        pictures = dict(zip(("rendered", "normal", "albedo"), buffer_pictures(buffers.stacked()[0]), strict=True))
        return encode_png(pictures[name])
    picture = Image.fromarray(to_picture(buffers.normal[0].mean(0, keepdim=True).expand(3, -1, -1) * 0.25 + 0.1))
    points = (project(editor.head.vertices(codes) + shift[:, None], codes)[0, :, :2] + 1) * size / 2
    draw = ImageDraw.Draw(picture)
    for corners in points[editor.head.faces[::4]].tolist():
        draw.polygon([tuple(corner) for corner in corners], outline=(120, 170, 190))
    return encode_png(np.asarray(picture))


def _pasted(source: Source, image: np.ndarray) -> np.ndarray:
    """The portrait upright over its place, as far as a test needs it."""
    photo = Image.fromarray(source.photo)
    xs, ys = zip(*source.quad, strict=True)
    side = max(1, round(max(xs) - min(xs)))
    photo.paste(Image.fromarray(image).resize((side, side)), (round(min(xs)), round(min(ys))))
    return np.asarray(photo)


def _png(image: np.ndarray, size: int) -> bytes:
    return encode_png(np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS)) if size else image)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


async def _bytes(value: Any) -> bytes:
    if not isinstance(value, UploadFile):
        raise Problem(422, "photo is no file", "send it as a file of a multipart form")
    return await value.read()


def _add_people_and_jobs(app: FastAPI, rehearsal: Rehearsal) -> None:
    @app.get("/v1/identities")
    async def list_identities() -> dict[str, Any]:
        return {"identities": list(rehearsal.identities.values())}

    @app.post("/v1/identities", status_code=202)
    async def create(request: Request) -> dict[str, Any]:
        form = await request.form()
        name, by = str(form["name"]), str(form.get("consent_by", ""))
        if not re.fullmatch(r"[a-z0-9_-]+", name):
            raise Problem(422, f"the name {name!r} cannot be used", "use a-z, 0-9, - and _")
        if name in rehearsal.identities and form.get("replace") != "true":
            raise Problem(409, f"{name} exists already", "choose another name, or delete it first")
        if form.get("consent") != "true" or not by:
            raise Problem(422, "nobody says that this person agrees", "tick the box and give your name")
        photos = len(form.getlist("photos"))

        def finish(job: dict[str, Any]) -> None:
            consent = {"by": by, "at": "2026-11-27T12:00:00Z"}
            rehearsal.identities[name] = _identity(name, photos, rehearsal.editor.size, consent)
            job["report"] = {
                "advice": [
                    {"level": "warning", "text": "Most photos have the same light: add some taken elsewhere."},
                    {"level": "note", "text": "The head is turned to the right in few photos."},
                ],
                "photos": photos,
                "rejects": [{"photo": "beach.jpg", "reason": "no face found"}],
                "before_psnr": 18.2,
                "after_psnr": 24.9,
            }

        return _start(rehearsal, "identity", 40, "steps", finish)

    @app.delete("/v1/identities/{name}")
    async def delete(name: str) -> dict[str, Any]:
        if name not in rehearsal.identities:
            raise Problem(404, f"no identity is called {name!r}")
        del rehearsal.identities[name]
        removed = ["weights, version 1", "album of 12 photos", "buffers", "3 runs in MLflow", "cached deltas"]
        return {"name": name, "removed": removed, "remains": []}

    @app.post("/v1/videos", status_code=202)
    async def video(request: Request) -> dict[str, Any]:
        form = await request.form()
        if "driving" not in form and "targets" not in form:
            raise Problem(422, "nothing drives the video", "send driving (MP4) or targets (photos)")
        source = _source(rehearsal, str(form["source_token"]))

        def finish(job: dict[str, Any]) -> None:
            rehearsal.results[job["id"]] = _mp4(source.face.portrait.image)
            job["result"] = f"/v1/jobs/{job['id']}/result"

        return _start(rehearsal, "video", 24, "frames", finish)

    @app.get("/v1/jobs")
    async def jobs() -> dict[str, Any]:
        return {"jobs": list(rehearsal.jobs.values())}

    @app.get("/v1/jobs/{id}")
    async def job(id: str) -> dict[str, Any]:
        return _job(rehearsal, id)

    @app.delete("/v1/jobs/{id}", status_code=204)
    async def cancel(id: str) -> None:
        _job(rehearsal, id)["state"] = "cancelled"

    @app.get("/v1/jobs/{id}/result")
    async def result(id: str) -> Response:
        return Response(rehearsal.results[id], media_type="video/mp4")


def _job(rehearsal: Rehearsal, id: str) -> dict[str, Any]:
    if id not in rehearsal.jobs:
        raise Problem(404, f"no job has the id {id!r}")
    return rehearsal.jobs[id]


def _start(rehearsal: Rehearsal, kind: str, total: int, unit: str, finish: Any) -> dict[str, Any]:
    id = f"{kind}-{len(rehearsal.jobs)}"
    job: dict[str, Any] = {
        "id": id,
        "kind": kind,
        "state": "waiting",
        "done": 0,
        "total": total,
        "unit": unit,
        "message": "",
        "created": "2026-11-27T12:00:00Z",
        "seconds_left": None,
        "result": None,
        "problems": [],
        "report": None,
    }
    rehearsal.jobs[id] = job

    def work() -> None:
        job["state"] = "running"
        while job["done"] < total and job["state"] == "running":
            time.sleep(rehearsal.step_seconds)
            job["done"] += 1
            job["seconds_left"] = round((total - job["done"]) * rehearsal.step_seconds, 1)
        if job["state"] == "running":
            finish(job)
            job["state"] = "done"

    threading.Thread(target=work, daemon=True).start()
    return job


def _mp4(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as video:
        stream = video.add_stream("libx264", rate=12)
        stream.width = stream.height = len(image)
        stream.pix_fmt = "yuv420p"
        for i in range(24):
            video.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(image, i % 5, 1), format="rgb24")))
        video.mux(stream.encode())
    return file.getvalue()
