"""Health, readiness, options and the list of identities."""

from fastapi.testclient import TestClient

from deployments.catalogue import Catalogue
from drig.faces.expressions import EXPRESSIONS
from drig.identities import Identities
from tests.deployments.api.answers import problems
from tests.deployments.api.conftest import FakeBackend, app_of


def test_health_and_readiness(client: TestClient) -> None:
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/readyz").json() == {"status": "ready", "identities": 2, "registry_away": 0.0}


def test_an_ingress_that_knows_nobody_is_healthy_but_not_ready(identities: Identities, backend: FakeBackend) -> None:
    with TestClient(app_of(backend, Catalogue(identities))) as client:
        assert client.get("/healthz").status_code == 200
        response = client.get("/readyz")
        assert response.status_code == 503
        assert "has not answered yet" in problems(response)[0]["what"]
        assert client.get("/v1/identities").status_code == 503


def test_options_name_everything(client: TestClient) -> None:
    options = client.get("/v1/options").json()
    assert options["modes"] == ["light", "exp", "pose", "latent"]
    assert options["samplers"][0] == "ddim"
    assert options["moods"] == EXPRESSIONS
    assert options["actions"] == ["jawOpen", "eyeBlinkLeft"]
    assert options["layers"] == ["rendered", "normal", "albedo", "mesh"]
    assert options["limits"] == {"upload_mib": 1.0, "album_mib": 2.0, "pixels": 1_000_000, "frames": 100}
    assert options["auth"] is False


def test_identities_are_listed(client: TestClient) -> None:
    listed = client.get("/v1/identities").json()["identities"]
    assert [(entry["name"], entry["version"], entry["photos"], entry["size"]) for entry in listed] == [
        ("base", 1, None, 64),
        ("ada", 1, 12, 64),
    ]
    assert set(listed[0]) == {"name", "version", "created", "photos", "size", "consent"}
