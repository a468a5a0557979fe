"""/v1/sources: what is told of a photo, and for how long it is there."""

from fastapi.testclient import TestClient

from deployments.api.sources import EXPIRES_IN
from deployments.messages import Refused
from tests.deployments.api.answers import problems
from tests.deployments.api.conftest import FakeBackend

PHOTO = {"photo": ("me.jpg", b"a photo")}


def test_a_photo_is_read_kept_told_and_forgotten(client: TestClient, backend: FakeBackend) -> None:
    response = client.post("/v1/sources", files=PHOTO)
    assert response.status_code == 201
    told = response.json()
    assert backend.sources[told["token"]].photo == b"a photo"
    assert backend.photos == [(b"a photo", 256, False)]
    assert (told["size"], told["faces_found"], told["expires_in"]) == (256, 2, EXPIRES_IN)
    assert told["pose"] == {"yaw": 10.0, "pitch": -5.0, "roll": 1.0}
    assert told["expression"] == {"jawOpen": 0.5}  # the blink is too weak
    assert told["light"][8] == [24.0, 25.0, 26.0]
    assert (told["landmarks"][0][0], told["landmarks"][67][1]) == (0.0, 1.0)
    assert told["crop"] == [[0, 0], [256, 0], [256, 256], [0, 256]]
    assert told["warnings"]
    url = f"/v1/sources/{told['token']}"
    assert client.get(url).json() == told
    assert client.delete(url).status_code == 204
    for response in (client.get(url), client.delete(url), client.get(f"{url}/pictures/mesh")):
        assert response.status_code == 404
        assert "upload the photo again" in problems(response)[0]["do"]


def test_an_aligned_photo(client: TestClient, backend: FakeBackend) -> None:
    client.post("/v1/sources", files=PHOTO, data={"aligned": "true"})
    assert backend.photos == [(b"a photo", 256, True)]


def test_pictures(client: TestClient) -> None:
    token = client.post("/v1/sources", files=PHOTO).json()["token"]
    response = client.get(f"/v1/sources/{token}/pictures/mesh")
    assert (response.content, response.headers["content-type"]) == (b"mesh 256", "image/png")
    response = client.get(f"/v1/sources/{token}/pictures/bones")
    assert response.status_code == 422
    assert "'mesh'" in problems(response)[0]["allowed"]


def test_a_photo_that_cannot_be_used(client: TestClient, backend: FakeBackend) -> None:
    backend.read_answer = Refused(422, "no face found")
    response = client.post("/v1/sources", files=PHOTO)
    assert (response.status_code, problems(response)[0]["what"]) == (422, "photo: no face found")
    assert not backend.sources


def test_no_photo(client: TestClient) -> None:
    assert problems(client.post("/v1/sources", data={"aligned": "true"}))[0]["what"] == "photo is missing"
    assert client.post("/v1/sources", json={"photo": "aGk="}).status_code == 415
