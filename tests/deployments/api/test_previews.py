"""POST /v1/previews."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from deployments.api.errors import Overloaded
from deployments.messages import Refused
from tests.deployments.api.answers import problems
from tests.deployments.api.conftest import FakeBackend


def test_a_preview_with_everything_given(client: TestClient, backend: FakeBackend) -> None:
    body = {
        "source_token": "a",
        "target_token": "b",
        "identity": "ada",
        "modes": ["light"],
        "controls": {"yaw": 20, "light_sh": [[0.5, 0.25, 0.125]] * 9},
        "layer": "normal",
        "size": 128,
    }
    response = client.post("/v1/previews", json=body)
    assert (response.status_code, response.content) == (200, b"seen")
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-drig-milliseconds"] == "12.3"
    assert response.headers["x-drig-pose"] == "1.00,-2.50,3.25"
    job = backend.preview_job
    assert job is not None
    assert (job.source, job.target, job.identity.name, job.identity.version) == ("a", "b", "ada", 1)
    assert (job.modes, job.layer, job.size) == (("light",), "normal", 128)
    assert job.controls == {"yaw": 20.0, "light_sh": [(0.5, 0.25, 0.125)] * 9}


def test_a_preview_of_the_source_itself(client: TestClient, backend: FakeBackend) -> None:
    assert client.post("/v1/previews", json={"source_token": "a"}).status_code == 200
    job = backend.preview_job
    assert job is not None
    assert (job.target, job.identity.name, job.modes, job.layer, job.size) == (None, "base", (), "rendered", 256)
    assert job.controls == {}


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({}, "source_token is missing"),
        ({"source_token": "a", "layer": "depth"}, "layer is 'depth'"),
        ({"source_token": "a", "size": 4096}, "size is 4096"),
        ({"source_token": "a", "controls": {"pitch": None, "roll": "x"}}, "controls.roll is 'x'"),
    ],
)
def test_what_is_not_allowed(client: TestClient, backend: FakeBackend, body: dict[str, Any], what: str) -> None:
    response = client.post("/v1/previews", json=body)
    assert (response.status_code, problems(response)[0]["what"]) == (422, what)
    assert backend.preview_job is None


def test_unknown_identities_and_tokens_and_full_queues(client: TestClient, backend: FakeBackend) -> None:
    response = client.post("/v1/previews", json={"source_token": "a", "identity": "adda"})
    assert (response.status_code, "did you mean ada" in problems(response)[0]["what"]) == (404, True)
    backend.answer = Refused(404, "no source has the token 'a'")
    assert client.post("/v1/previews", json={"source_token": "a"}).status_code == 404
    backend.answer = Overloaded()
    response = client.post("/v1/previews", json={"source_token": "a"})
    assert (response.status_code, int(response.headers["retry-after"]) > 0) == (503, True)
