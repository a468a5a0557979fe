"""The HTTP API without Ray: what reaches the editing side, and what every kind of bad request is answered with."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import save_file

from deployments.api.application import create_app
from deployments.api.edits import EditForm
from deployments.api.errors import Overloaded
from deployments.api.fields import ControlFields, Mode, Sampler
from deployments.messages import Edited, EditJob, Refused
from drig.errors import DrigError
from drig.identities import Identities, IdentityInfo

SOURCE, TARGET = ("me.jpg", b"source bytes"), ("sunset.jpg", b"target bytes")


@dataclass
class FakeEditing:
    """Remembers what it was asked for and answers as told."""

    answer: Edited | Refused | Exception
    identity: IdentityInfo | None = None
    job: EditJob | None = None

    async def __call__(self, identity: IdentityInfo, job: EditJob) -> Edited | Refused:
        self.identity, self.job = identity, job
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    folder = tmp_path_factory.mktemp("registry")
    registry = Identities(f"sqlite:///{folder}/mlflow.db")
    weights = folder / "weights.safetensors"
    save_file({"w": np.zeros(1, np.float32)}, weights, metadata={"config": json.dumps({"size": 64})})
    registry.register_base(weights)
    registry.register("ada", weights, album_report={"photos": 12})
    return registry


@pytest.fixture
def editing() -> FakeEditing:
    return FakeEditing(Edited(b"png", ()))


@pytest.fixture
def client(identities: Identities, editing: FakeEditing) -> Iterator[TestClient]:
    with TestClient(create_app(identities, editing, max_upload_mib=1)) as client:
        yield client


def post(client: TestClient, files: dict[str, Any] | None = None, **form: Any) -> httpx.Response:
    response: httpx.Response = client.post("/v1/edits", files={"source": SOURCE} if files is None else files, data=form)
    return response


def problems(response: httpx.Response) -> list[dict[str, str]]:
    body = response.json()
    assert list(body) == ["problems"]
    return list(body["problems"])


def test_an_edit_with_everything_given(client: TestClient, editing: FakeEditing) -> None:
    warnings = ("2 faces in the photo; the largest was taken", "naïve")
    editing.answer = Edited(b"a picture", warnings)
    response = post(
        client,
        {"source": SOURCE, "target": TARGET},
        identity="ada",
        modes=["light", "exp"],
        steps="10",
        sampler="unipc",
        seed="7",
        aligned="true",
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
    assert editing.identity is not None
    assert (editing.identity.name, editing.identity.version) == ("ada", 1)
    assert editing.job == EditJob(
        source=b"source bytes",
        target=b"target bytes",
        modes=("light", "exp"),
        controls={
            "light_direction": (0.5, -1.0, 2.0),
            "light_intensity": 1.5,
            "yaw": -20.0,
            "expression": {"jawOpen": 0.5},
        },
        steps=10,
        sampler="unipc",
        seed=7,
        aligned=True,
    )


def test_an_edit_with_nothing_but_a_photo(client: TestClient, editing: FakeEditing) -> None:
    assert post(client).status_code == 200
    assert editing.identity is not None
    assert editing.identity.name == "base"
    assert editing.job == EditJob(b"source bytes", None, (), {}, steps=20, sampler="ddim", seed=0, aligned=False)


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
    client: TestClient, editing: FakeEditing, form: dict[str, Any], expected: dict[str, Any]
) -> None:
    response = post(client, **form)
    assert response.status_code == 200, response.text
    assert {name: getattr(editing.job, name) for name in expected} == expected


def test_a_file_field_left_empty_in_a_browser_is_no_target(client: TestClient, editing: FakeEditing) -> None:
    boundary = "frontier"
    part = '--{}\r\nContent-Disposition: form-data; name="{}"; filename="{}"\r\n\r\n{}\r\n'
    body = part.format(boundary, "source", "me.jpg", "x") + part.format(boundary, "target", "", "") + f"--{boundary}--"
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    assert client.post("/v1/edits", content=body, headers=headers).status_code == 200
    assert editing.job is not None
    assert editing.job.target is None


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
        ({"expression": '{"jawOpen": "wide"}'}, "expression.jawOpen is 'wide'", "number"),
        ({"aligned": "perhaps"}, "aligned is 'perhaps'", "boolean"),
        ({"light": "1,0,1"}, "light is no field of this form", "light_direction"),
    ],
)
def test_a_field_that_is_not_allowed(
    client: TestClient, editing: FakeEditing, form: dict[str, Any], what: str, allowed: str
) -> None:
    response = post(client, **form)
    assert response.status_code == 422
    (problem,) = problems(response)
    assert problem["what"] == what
    assert allowed in problem.get("allowed", "")
    assert problem["do"]
    assert editing.job is None


def test_every_wrong_field_is_named_at_once(client: TestClient) -> None:
    assert len(problems(post(client, steps="0", seed="x", modes="night"))) == 3


@pytest.mark.parametrize("files", [{"target": TARGET}, {"source": (None, "a text")}, {"source": ("", b"")}])
def test_no_source_photo(client: TestClient, files: dict[str, Any]) -> None:
    response = post(client, files)
    assert response.status_code == 422
    assert problems(response)[0]["what"].startswith("source is")


def test_a_body_that_is_no_form(client: TestClient, editing: FakeEditing) -> None:
    for kind in ("application/json", "multipart/form-data", "multipart/form-data; boundary=x"):
        response = client.post("/v1/edits", content=b"{}", headers={"content-type": kind})
        assert response.status_code in (400, 422)
        assert problems(response)
    assert editing.job is None


@pytest.mark.parametrize("headers", [{}, {"content-length": str(64 * 1024 * 1024)}])
def test_an_upload_that_is_too_large_is_not_read_to_its_end(
    identities: Identities, editing: FakeEditing, headers: dict[str, str]
) -> None:
    """Straight to the application, as the test client reads all of a body before it sends any."""
    headers = {"content-type": "multipart/form-data; boundary=x", **headers}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/edits",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    head = b'--x\r\nContent-Disposition: form-data; name="source"; filename="me.jpg"\r\n\r\n'
    received, answer = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": (head if received == 1 else b"") + bytes(400_000), "more_body": True}

    async def send(message: MutableMapping[str, Any]) -> None:
        answer.append(message)

    asyncio.run(create_app(identities, editing, max_upload_mib=1)(scope, receive, send))
    assert answer[0]["status"] == 413
    assert json.loads(answer[1]["body"])["problems"][0]["allowed"] == "1 MiB for both photos together"
    assert received == (0 if "content-length" in headers else 3)
    assert editing.job is None


def test_an_unknown_identity(client: TestClient, editing: FakeEditing) -> None:
    response = post(client, identity="adda")
    assert response.status_code == 404
    assert "did you mean ada" in problems(response)[0]["what"]
    assert editing.job is None


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
    client: TestClient, editing: FakeEditing, answer: Refused | Exception, status: int, what: str
) -> None:
    editing.answer = answer
    response = post(client)
    assert response.status_code == status
    assert problems(response)[0]["what"] == what


def test_a_full_queue(client: TestClient, editing: FakeEditing) -> None:
    editing.answer = Overloaded()
    response = post(client)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert "waiting" in problems(response)[0]["what"]


def test_a_defect_is_answered_in_json_too(identities: Identities) -> None:
    app = create_app(identities, FakeEditing(KeyError("secret")), max_upload_mib=1)
    with TestClient(app, raise_server_exceptions=False) as client:
        response = post(client)
    assert response.status_code == 500
    assert "secret" not in response.text
    assert problems(response)


def test_identities_are_listed(client: TestClient) -> None:
    listed = client.get("/v1/identities").json()["identities"]
    assert [(entry["name"], entry["version"], entry["photos"], entry["size"]) for entry in listed] == [
        ("base", 1, None, 64),
        ("ada", 1, 12, 64),
    ]
    assert set(listed[0]) == {"name", "version", "created", "photos", "size"}


def test_the_documentation_describes_every_field(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    fields = schemas["EditForm"]["properties"]
    assert set(fields) == set(EditForm.model_fields)
    assert all(field.get("description") for field in fields.values())


def test_health_and_unknown_paths(client: TestClient) -> None:
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/v1/nothing").status_code == 404
    assert problems(client.get("/v1/nothing"))[0]["what"] == "Not Found"
    assert client.get("/v1/edits").status_code == 405


def test_the_api_offers_just_what_the_editor_has() -> None:
    from drig.diffusion.samplers import SAMPLERS
    from drig.editing import MODES
    from drig.faces.controls import Controls

    assert get_args(Mode) == MODES
    assert get_args(Sampler) == tuple(SAMPLERS)
    assert set(ControlFields.model_fields) == {field.name for field in fields(Controls)}


def test_the_ingress_needs_no_pytorch() -> None:
    script = "import sys, deployments.api.application, deployments.replicas.edits; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[3]).returncode == 0
