"""The API as a whole: its documentation, the sizes of bodies, and every error in one form."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import MutableMapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from fastapi.testclient import TestClient

from deployments.api.edits import EditBody, EditForm
from deployments.api.fields import ControlFields, Mode, Sampler
from deployments.api.previews import Layer
from deployments.api.sources import Kind
from deployments.catalogue import Catalogue
from tests.deployments.api.answers import problems
from tests.deployments.api.conftest import FakeBackend, app_of


def test_the_documentation_describes_every_field_of_both_bodies(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for path in ("/v1/edits", "/v1/edits:stream"):
        bodies = document["paths"][path]["post"]["requestBody"]["content"]
        assert {kind: body["schema"]["$ref"].rpartition("/")[2] for kind, body in bodies.items()} == {
            "multipart/form-data": "EditForm",
            "application/json": "EditBody",
        }
    for model in (EditForm, EditBody, ControlFields):
        described = document["components"]["schemas"][model.__name__]["properties"]
        assert set(described) == set(model.model_fields)
        assert all(field.get("description") for field in described.values())
    answers = document["paths"]["/v1/edits"]["post"]["responses"]
    assert {"200", "404", "413", "415", "422", "503"} <= set(answers)


def test_every_reference_of_the_document_leads_somewhere(client: TestClient) -> None:
    text = client.get("/openapi.json").text
    schemas = json.loads(text)["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) <= set(schemas)


def test_the_page_of_the_documentation_needs_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert links
    assert all(link.startswith("/") and client.get(link).status_code == 200 for link in links)
    assert "http" not in "".join(links)


@pytest.mark.parametrize("headers", [{}, {"content-length": str(64 * 1024 * 1024)}])
@pytest.mark.parametrize("path", ["/v1/edits", "/v1/edits:stream", "/v1/sources"])
def test_an_upload_that_is_too_large_is_not_read_to_its_end(
    catalogue: Catalogue, backend: FakeBackend, headers: dict[str, str], path: str
) -> None:
    """Straight to the application, as the test client reads all of a body before it sends any."""
    headers = {"content-type": "multipart/form-data; boundary=x", **headers}
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
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

    asyncio.run(app_of(backend, catalogue)(scope, receive, send))
    assert answer[0]["status"] == 413
    assert json.loads(answer[1]["body"])["problems"][0]["allowed"] == "1 MiB for all files together"
    assert received == (0 if "content-length" in headers else 3)
    assert (backend.job, backend.photos) == (None, [])


def test_a_body_of_neither_kind(client: TestClient, backend: FakeBackend) -> None:
    for kind, status in (
        ("text/plain", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=x", 400),
        ("application/json", 422),
    ):
        response = client.post("/v1/edits", content=b"{", headers={"content-type": kind})
        assert response.status_code == status, kind
        assert problems(response)
    assert "not JSON" in problems(client.post("/v1/edits", content=b"{", headers={"content-type": kind}))[0]["what"]
    assert backend.job is None


def test_a_defect_is_answered_in_json_too(catalogue: Catalogue) -> None:
    backend = FakeBackend(KeyError("secret"))
    with TestClient(app_of(backend, catalogue), raise_server_exceptions=False) as client:
        response = client.post("/v1/edits", files={"source": ("me.jpg", b"me")})
    assert response.status_code == 500
    assert "secret" not in response.text
    assert problems(response)


def test_unknown_paths_and_methods(client: TestClient) -> None:
    assert problems(client.get("/v1/nothing"))[0]["what"] == "Not Found"
    assert client.get("/v1/nothing").status_code == 404
    response = client.get("/v1/edits")
    assert (response.status_code, problems(response)[0]["what"]) == (405, "Method Not Allowed")


def test_the_api_offers_just_what_there_is() -> None:
    from drig.diffusion.samplers import SAMPLERS
    from drig.editing import MODES
    from drig.faces.controls import Controls
    from drig.previews import FOUND, LAYERS

    assert get_args(Mode) == MODES
    assert get_args(Sampler) == tuple(SAMPLERS)
    assert set(ControlFields.model_fields) == {field.name for field in fields(Controls)}
    assert get_args(Layer) == LAYERS
    assert set(get_args(Kind)) == set(FOUND)


def test_the_ingress_needs_no_pytorch() -> None:
    script = "import sys, deployments.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[3]).returncode == 0
