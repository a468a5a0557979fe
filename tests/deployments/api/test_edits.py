"""The HTTP API without Ray: what reaches the editing side, and what every kind of bad request is answered with."""

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from deployments.api.errors import Overloaded, Problem, Refusal
from deployments.api.gate import Action, Anybody, Caller, Gate
from deployments.catalogue import Catalogue
from deployments.messages import Edited, EditJob, Refused, Source
from drig.errors import DrigError
from tests.deployments.api.answers import events, problems
from tests.deployments.api.conftest import FACE, FakeBackend, app_of

SOURCE, TARGET = ("me.jpg", b"source bytes"), ("sunset.jpg", b"target")


def post(client: TestClient, files: dict[str, Any] | None = None, **form: Any) -> httpx.Response:
    response: httpx.Response = client.post("/v1/edits", files={"source": SOURCE} if files is None else files, data=form)
    return response


def asked(backend: FakeBackend) -> EditJob:
    assert backend.job is not None
    return backend.job


def test_an_edit_with_everything_given(client: TestClient, backend: FakeBackend) -> None:
    warnings = ("2 faces in the photo; the largest was taken", "naïve")
    backend.answer = Edited(b"a picture", warnings, {}, {})
    response = post(
        client,
        {"source": SOURCE, "target": TARGET},
        identity="ada",
        modes=["light", "exp"],
        steps="10",
        sampler="unipc",
        seed="7",
        aligned="true",
        size="512",
        light_direction="0.5,-1,2",
        light_intensity="1.5",
        yaw="-20",
        expression='{"jawOpen": 0.5}',
    )
    assert (response.status_code, response.content) == (200, b"a picture")
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-drig-identity"] == "ada"
    assert response.headers["x-drig-identity-version"] == "1"
    assert response.headers["x-drig-seed"] == "7"
    assert json.loads(response.headers["x-drig-warnings"]) == list(warnings)
    assert backend.photos == [(SOURCE[1], 256, True), (TARGET[1], 256, True)]
    assert backend.identity is not None
    assert (backend.identity.name, backend.identity.version) == ("ada", 1)
    job = asked(backend)
    assert job.target is not None
    assert (job.source.photo_size[0], job.target.photo_size[0]) == (len(SOURCE[1]), len(TARGET[1]))
    assert (job.modes, job.steps, job.sampler, job.seed, job.size) == (("light", "exp"), 10, "unipc", 7, 512)
    assert (job.photo, job.buffers) == (None, False)
    assert job.controls == {
        "light_direction": (0.5, -1.0, 2.0),
        "light_intensity": 1.5,
        "yaw": -20.0,
        "expression": {"jawOpen": 0.5},
    }


def test_an_edit_with_nothing_but_a_photo(client: TestClient, backend: FakeBackend) -> None:
    assert post(client).status_code == 200
    assert backend.identity is not None
    assert backend.identity.name == "base"
    job = asked(backend)
    assert (job.target, job.modes, job.controls, job.size, job.photo) == (None, (), {}, None, None)
    assert (job.steps, job.sampler, job.seed) == (None, "ddim", 0)


def test_json_says_the_same(client: TestClient, backend: FakeBackend) -> None:
    backend.answer = Edited(b"a picture", ("beware",), {"normal": b"n"}, {"sample": 1.0})
    picture = base64.b64encode(SOURCE[1]).decode()
    body = {
        "source": picture,
        "target": f"data:image/png;base64,{base64.b64encode(TARGET[1]).decode()}",
        "modes": ["light"],
        "seed": 3,
        "controls": {"light_direction": [1, 0, 1], "light_colour": [1, 0.5, 0.25], "expression": {"jawOpen": 1}},
        "answer": "json",
    }
    answer = client.post("/v1/edits", json=body).json()
    assert (answer["identity"], answer["version"], answer["seed"]) == ("base", 1, 3)
    assert base64.b64decode(answer["image"]) == b"a picture"
    assert base64.b64decode(answer["buffers"]["normal"]) == b"n"
    assert answer["warnings"] == ["beware"]
    assert set(answer["timings"]) == {"sample", "read", "total"}
    assert [photo for photo, _, _ in backend.photos] == [SOURCE[1], TARGET[1]]
    job = asked(backend)
    assert job.buffers
    assert job.controls == {
        "light_direction": (1.0, 0.0, 1.0),
        "light_colour": (1.0, 0.5, 0.25),
        "expression": {"jawOpen": 1.0},
    }


def test_tokens_stand_for_photos(client: TestClient, backend: FakeBackend) -> None:
    backend.sources = {"a": Source(FACE, b"photo a"), "b": Source(FACE, b"photo b")}
    response = client.post("/v1/edits", json={"source_token": "a", "target_token": "b", "modes": ["light"]})
    assert response.status_code == 200
    job = asked(backend)
    assert job.source is FACE
    assert job.target is FACE
    assert backend.photos == []
    response = client.post("/v1/edits", data={"source_token": "a", "paste_back": "true"})
    assert asked(backend).photo == b"photo a"


def test_pasting_back_takes_the_photo_along(client: TestClient, backend: FakeBackend) -> None:
    assert post(client, paste_back="true").status_code == 200
    assert asked(backend).photo == SOURCE[1]
    (problem,) = problems(post(client, paste_back="true", size="512"))
    assert "whole photo" in problem["what"]


@pytest.mark.parametrize(
    ("body", "status", "what"),
    [
        ({}, 422, "source is missing"),
        ({"source": "aGk=", "source_token": "a"}, 422, "source and source_token are both given"),
        ({"source_token": "gone"}, 404, "no source has the token 'gone'"),
        ({"source_token": "a", "target_token": "gone"}, 404, "no source has the token 'gone'"),
        ({"source": "not base64!"}, 422, "source is 'not base64!'"),
        ({"source_token": "a", "controls": {"yaw": "left"}}, 422, "controls.yaw is 'left'"),
        ({"source_token": "a", "controls": {"jaw": 1}}, 422, "controls.jaw is no field"),
        ({"source_token": "a", "yaw": 1}, 422, "yaw is no field"),
        ({"source_token": "a", "controls": {"light_sh": [[1, 1, 1]]}}, 422, "controls.light_sh is"),
        ([], 422, "the body is []"),
    ],
)
def test_what_is_wrong_in_json(client: TestClient, backend: FakeBackend, body: Any, status: int, what: str) -> None:
    backend.sources = {"a": Source(FACE, b"photo a")}
    response = client.post("/v1/edits", json=body)
    assert response.status_code == status
    (problem,) = problems(response)
    assert problem["what"].startswith(what)
    assert problem["do"]
    assert backend.job is None


def test_a_deadline_stops_the_edit(client: TestClient, backend: FakeBackend) -> None:
    backend.seconds = 30.0
    response = post(client, deadline="0.2")
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert "deadline of 0.2 s" in problems(response)[0]["what"]
    assert backend.stopped


def test_an_edit_that_is_watched(client: TestClient, backend: FakeBackend) -> None:
    backend.answer = Edited(b"a picture", ("beware",), {"rendered": b"r"}, {"sample": 1.0})
    response = client.post("/v1/edits:stream", files={"source": SOURCE}, data={"yaw": "5"})
    assert response.headers["content-type"].startswith("text/event-stream")
    (first, second, (last, result)) = events(response)
    assert first == ("progress", {"step": 1, "steps": 2, "image": base64.b64encode(b"step 1").decode()})
    assert second[1]["step"] == 2
    assert last == "result"
    assert base64.b64decode(result["image"]) == b"a picture"
    assert base64.b64decode(result["buffers"]["rendered"]) == b"r"
    assert (result["identity"], result["warnings"]) == ("base", ["beware"])
    backend.sources = {"a": Source(FACE, b"photo a")}
    assert events(client.post("/v1/edits:stream", json={"source_token": "a"}))[-1][0] == "result"


def test_what_goes_wrong_before_and_after_the_first_event(client: TestClient, backend: FakeBackend) -> None:
    backend.answer = Refused(422, "yaw is 200")
    response = client.post("/v1/edits:stream", files={"source": SOURCE})
    assert (response.status_code, problems(response)[0]["what"]) == (422, "yaw is 200")
    backend.answer = Overloaded()
    response = client.post("/v1/edits:stream", files={"source": SOURCE})
    assert [name for name, _ in events(response)] == ["progress", "progress", "problem"]
    told = events(response)[-1][1]
    assert told["status"] == 503
    assert "waiting" in told["problems"][0]["what"]


def test_a_deadline_on_the_way(client: TestClient, backend: FakeBackend) -> None:
    backend.seconds = 3.0
    response = client.post("/v1/edits:stream", files={"source": SOURCE}, data={"deadline": "2"})
    assert [name for name, _ in events(response)] == ["progress", "problem"]
    assert "deadline" in events(response)[-1][1]["problems"][0]["what"]
    assert backend.stopped


def test_a_watcher_who_hangs_up_ends_the_edit(catalogue: Catalogue, backend: FakeBackend) -> None:
    """Straight to the application: the test client cannot leave early."""
    backend.seconds, backend.sources = 60.0, {"a": Source(FACE, b"photo a")}
    body = json.dumps({"source_token": "a"}).encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": "POST",
        "path": "/v1/edits:stream",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    backend.seconds = 0.1

    async def watch_and_leave() -> None:
        told = asyncio.Event()
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await told.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body" and message["body"]:
                backend.seconds = 60.0
                told.set()
                await asyncio.sleep(0.01)

        await asyncio.wait_for(app_of(backend, catalogue)(scope, receive, send), timeout=20)

    asyncio.run(watch_and_leave())
    assert backend.stopped


def test_the_gate_is_asked(catalogue: Catalogue, backend: FakeBackend) -> None:
    """What `deployments.access` does: who may use which identity, what may be uploaded, what leaves with a mark."""

    class Visitor:
        id, owner = "visitor", "visitor"

        def sees(self, name: str) -> bool:
            return name == "base"

        def require_identity(self, name: str) -> None:
            if name != "base":
                raise Refusal(403, Problem(what=f"this key may not use {name}"))

    def may(action: Action | None) -> Any:

        def visitor(key: str = "") -> Caller:
            if not key:
                raise Refusal(401, Problem(what="no key"), headers={"WWW-Authenticate": "Bearer"})
            return Visitor() if key == "visitor" else Anybody()

        return visitor

    def check(field: str, content: bytes) -> None:
        if content == TARGET[1]:
            raise Refusal(415, Problem(what=f"{field}: no photo"))

    async def mark(content: bytes, media_type: str, edit: Mapping[str, Any]) -> bytes:
        assert media_type == "image/png"
        return b"marked " + content

    app = app_of(backend, catalogue, gate=Gate(may=may, check_photo=check, mark=mark), auth=True)
    with TestClient(app) as client:
        assert client.post("/v1/edits", files={"source": SOURCE}).status_code == 401
        assert (
            client.post("/v1/edits?key=visitor", files={"source": SOURCE}, data={"identity": "ada"}).status_code == 403
        )
        assert client.post("/v1/edits?key=visitor", files={"source": SOURCE}).content == b"marked png"
        assert client.post("/v1/edits?key=x", files={"source": SOURCE}, data={"identity": "ada"}).status_code == 200
        backend.job = None
        response = client.post("/v1/edits?key=x", files={"source": SOURCE, "target": TARGET}, data={"modes": "light"})
        assert (response.status_code, backend.job) == (415, None)
        streamed = events(client.post("/v1/edits:stream?key=x", files={"source": SOURCE}))
        assert all(base64.b64decode(event["image"]).startswith(b"marked ") for _, event in streamed)
        assert client.get("/v1/options").json()["auth"] is True


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"modes": "light,pose"}, {"modes": ("light", "pose")}),
        ({"modes": ["light", "pose"]}, {"modes": ("light", "pose")}),
        ({"modes": ""}, {"modes": ()}),
        ({"light_direction": ["1", "0", "2"]}, {"controls": {"light_direction": (1.0, 0.0, 2.0)}}),
        ({"light_colour": "1, 0.5, 0.25"}, {"controls": {"light_colour": (1.0, 0.5, 0.25)}}),
        ({"pitch": "0"}, {"controls": {"pitch": 0.0}}),
        ({"seed": str(2**63 - 1)}, {"seed": 2**63 - 1}),
    ],
)
def test_how_fields_are_read(
    client: TestClient, backend: FakeBackend, form: dict[str, Any], expected: dict[str, Any]
) -> None:
    response = post(client, **form)
    assert response.status_code == 200, response.text
    assert {name: getattr(backend.job, name) for name in expected} == expected


def test_a_file_field_left_empty_in_a_browser_is_no_target(client: TestClient, backend: FakeBackend) -> None:
    boundary = "frontier"
    part = '--{}\r\nContent-Disposition: form-data; name="{}"; filename="{}"\r\n\r\n{}\r\n'
    body = part.format(boundary, "source", "me.jpg", "x") + part.format(boundary, "target", "", "") + f"--{boundary}--"
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    assert client.post("/v1/edits", content=body, headers=headers).status_code == 200
    assert asked(backend).target is None


@pytest.mark.parametrize(
    ("form", "what", "allowed"),
    [
        ({"steps": "0"}, "steps is '0'", "greater than or equal to 1"),
        ({"steps": "many"}, "steps is 'many'", "integer"),
        ({"sampler": "euler"}, "sampler is 'euler'", "'ddim', 'dpmpp', 'unipc' or 'heun'"),
        ({"seed": "-1"}, "seed is '-1'", "greater than or equal to 0"),
        ({"modes": "lights"}, "modes.0 is 'lights'", "'light', 'exp', 'pose' or 'latent'"),
        ({"light_direction": "1,0"}, "light_direction.2 is missing", ""),
        ({"light_direction": "1,0,up"}, "light_direction.2 is 'up'", "number"),
        ({"yaw": "nan"}, "yaw is 'nan'", "finite"),
        ({"expression": "smile"}, "expression is 'smile'", "JSON"),
        ({"expression": "[1]"}, "expression is [1]", "dictionary"),
        ({"light_sh": "[[1, 1, 1]]"}, "light_sh is [[1, 1, 1]]", "at least 9 items"),
        ({"expression": '{"jawOpen": "wide"}'}, "expression.jawOpen is 'wide'", "number"),
        ({"aligned": "perhaps"}, "aligned is 'perhaps'", "boolean"),
        ({"light": "1,0,1"}, "light is no field of this request", "light_direction"),
    ],
)
def test_a_field_that_is_not_allowed(
    client: TestClient, backend: FakeBackend, form: dict[str, Any], what: str, allowed: str
) -> None:
    response = post(client, **form)
    assert response.status_code == 422
    (problem,) = problems(response)
    assert problem["what"] == what
    assert allowed in problem.get("allowed", "")
    assert problem["do"]
    assert backend.job is None


def test_text_that_is_nothing_but_brackets(client: TestClient, backend: FakeBackend) -> None:
    assert post(client, expression="[" * 100_000).status_code == 422
    assert post(client, light_sh="[" * 100_000).status_code == 422
    assert (
        client.post("/v1/edits", content=b"[" * 100_000, headers={"content-type": "application/json"}).status_code < 500
    )
    assert backend.job is None


def test_every_wrong_field_is_named_at_once(client: TestClient) -> None:
    assert len(problems(post(client, steps="0", seed="x", modes="night"))) == 3


@pytest.mark.parametrize("files", [{"target": TARGET}, {"source": (None, "a text")}, {"source": ("", b"")}])
def test_no_source_photo(client: TestClient, files: dict[str, Any]) -> None:
    response = post(client, files)
    assert response.status_code == 422
    assert problems(response)[0]["what"].startswith("source is")


def test_an_unknown_identity(client: TestClient, backend: FakeBackend) -> None:
    response = post(client, identity="adda")
    assert response.status_code == 404
    assert "did you mean ada" in problems(response)[0]["what"]
    assert backend.job is None


def test_a_name_that_no_identity_can_have(client: TestClient) -> None:
    response = post(client, identity="../../etc/passwd")
    assert response.status_code == 422
    assert "letters" in problems(response)[0]["what"]


@pytest.mark.parametrize(
    ("answer", "status", "what"),
    [
        (Refused(422, "source: no face was found"), 422, "source: no face was found"),
        (Refused(404, "no identity is called 'ada'"), 404, "no identity is called 'ada'"),
        (DrigError("the store is gone"), 422, "the store is gone"),
    ],
)
def test_what_the_editing_side_refuses(
    client: TestClient, backend: FakeBackend, answer: Refused | Exception, status: int, what: str
) -> None:
    backend.answer = answer
    response = post(client)
    assert response.status_code == status
    assert problems(response)[0]["what"] == what


def test_a_full_queue(client: TestClient, backend: FakeBackend) -> None:
    backend.answer = Overloaded()
    response = post(client)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert "waiting" in problems(response)[0]["what"]
