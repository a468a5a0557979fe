"""Jobs, videos and identities over HTTP: who may see and begin what, and what is begun."""

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from deployments.access.callers import keyed_gate
from deployments.access.door import Door
from deployments.access.keys import KeyRing, Scope, add_key
from deployments.access.rates import Rates
from deployments.access.uploads import UploadLimits
from deployments.catalogue import Catalogue
from drig.forgetting import Forgotten
from tests.deployments.access.test_uploads import video
from tests.deployments.api.conftest import FakeBackend, FakeJobs, app_of

CONSENT = {"consent": "true", "consent_by": "Ann herself"}


def jpeg(colour: str = "teal", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def album(*contents: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("photos", (f"me {i}.jpg", content)) for i, content in enumerate(contents)]


def problem(response: httpx.Response) -> str:
    return str(response.json()["problems"][0]["what"])


Open = Callable[..., TestClient]


@pytest.fixture
def door(catalogue: Catalogue, backend: FakeBackend, jobs: FakeJobs, tmp_path: Path) -> Open:
    """A client with the rights of a new key; without scopes this machine's, which has all."""

    def visitor(*scopes: Scope, identities: list[str] | None = None) -> TestClient:
        forgotten: list[str] = []

        def forget(name: str) -> Forgotten:
            forgotten.append(name)
            return Forgotten(name=name, removed=("2 versions",), remains=())

        file = str(tmp_path / "keys.json")
        text = add_key(file, "visitor", scopes, identities=identities)[1] if scopes else ""
        limits = UploadLimits(pixels=4_000, frames=5)
        app = app_of(backend, catalogue, jobs=jobs, forget=forget, gate=keyed_gate(limits, None))
        app.add_middleware(Door, keys=KeyRing(file) if scopes else None, rates=Rates())
        client = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1))
        client.headers["Authorization"] = f"Bearer {text}"
        client.forgotten = forgotten
        return client

    return visitor


def test_an_album_becomes_a_job_without_its_metadata(door: Open, jobs: FakeJobs) -> None:
    exif = Image.Exif()
    exif[0x010E] = "at home"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 0.0)  # latitude
    exif[0x0112] = 6  # turned by a quarter
    content = jpeg(exif=exif)
    assert b"at home" in content
    response = door().post("/v1/identities", files=album(content, jpeg("red")), data={"name": "bob", **CONSENT})
    assert response.status_code == 202, response.text
    body = response.json()
    assert (body["kind"], body["state"], body["identity"]) == ("identity", "waiting", "bob")
    assert jobs.jobs[body["id"]].request == {
        "identity": "bob",
        "consent_by": "Ann herself",
        "force": False,
        "album": None,
        "names": {"000.jpg": "me 0.jpg", "001.jpg": "me 1.jpg"},
    }
    kept = jobs.files[body["id"]]
    assert sorted(kept) == ["000.jpg", "001.jpg"]
    picture = Image.open(io.BytesIO(kept["000.jpg"]))
    assert picture.size == (30, 40)
    assert not picture.getexif()
    assert b"at home" not in kept["000.jpg"]


def test_a_video_can_be_an_album(door: Open, jobs: FakeJobs) -> None:
    content = video(3, size=(40, 30))
    response = door().post("/v1/identities", files=album(content), data={"name": "bob", **CONSENT})
    assert response.status_code == 202, response.text
    assert jobs.files[response.json()["id"]] == {"album.mp4": content}
    assert jobs.jobs[response.json()["id"]].request["album"] == "album.mp4"


@pytest.mark.parametrize(
    ("form", "files", "status", "told"),
    [
        ({"name": "bob"}, album(jpeg()), 422, "consent is missing"),
        ({"name": "bob", "consent": "false", "consent_by": "x"}, album(jpeg()), 422, "consent is 'false'"),
        ({"name": "bob", "consent": "true", "consent_by": ""}, album(jpeg()), 422, "consent_by is missing"),
        ({"name": "../bob", **CONSENT}, album(jpeg()), 422, "cannot name an identity"),
        ({"name": "base", **CONSENT}, album(jpeg()), 422, "kept for the base rig"),
        ({"name": "ada", **CONSENT}, album(jpeg()), 409, "there is an identity 'ada' already"),
        ({"name": "bob", **CONSENT}, album(jpeg(), b"GIF89a"), 415, "photos.1 (me 1.jpg) is no photo"),
        ({"name": "bob", **CONSENT}, album(video(6, size=(40, 30))), 413, "6 frames"),
        ({"name": "bob", **CONSENT}, album(*[jpeg()] * 101), 413, "101 photos"),
        ({"name": "bob", **CONSENT}, {}, 422, "photos is missing"),
    ],
)
def test_albums_that_are_refused(
    door: Open, jobs: FakeJobs, form: Mapping[str, str], files: Any, status: int, told: str
) -> None:
    response = door().post("/v1/identities", files=files, data=form)
    assert response.status_code == status, response.text
    assert told in response.text
    assert jobs.jobs == {}


def test_a_name_is_made_once_and_replaced_only_when_asked(door: Open, jobs: FakeJobs) -> None:
    client = door()

    def post(**form: str) -> int:
        response: httpx.Response = client.post("/v1/identities", files=album(jpeg()), data={**CONSENT, **form})
        return response.status_code

    assert post(name="bob") == 202
    assert post(name="bob") == 409
    assert post(name="ada", replace="true") == 202


def test_who_hears_that_somebody_is_made_finds_them_listed(door: Open, jobs: FakeJobs, catalogue: Catalogue) -> None:
    """Between two looks at the registry."""
    client = door()
    form = {"name": "ada", "replace": "true", **CONSENT}
    job = client.post("/v1/identities", files=album(jpeg()), data=form).json()["id"]
    catalogue.forget("ada")  # as if she was not there at the last look
    jobs.jobs[job] = replace(jobs.jobs[job], state="done")
    assert client.get(f"/v1/jobs/{job}").json()["state"] == "done"
    assert "ada" in [one["name"] for one in client.get("/v1/identities").json()["identities"]]


def test_an_identity_is_forgotten(door: Open, jobs: FakeJobs, catalogue: Catalogue) -> None:
    client = door()
    client.post("/v1/identities", files=album(jpeg()), data={"name": "ada", "replace": "true", **CONSENT})
    response = client.delete("/v1/identities/ada")
    assert response.json() == {"name": "ada", "removed": ["2 versions"], "remains": []}
    assert client.forgotten == ["ada"]
    assert jobs.jobs == {}
    assert "ada" not in [info.name for info in catalogue.list()]
    catalogue.refresh()  # the registry of the other tests has her
    assert client.delete("/v1/identities/base").status_code == 422


def test_a_key_does_what_it_is_for(door: Open, jobs: FakeJobs) -> None:
    edits, deletes = door(Scope.EDIT, identities=["bob"]), door(Scope.DELETE, identities=["bob"])
    assert [entry["name"] for entry in edits.get("/v1/identities").json()["identities"]] == ["base"]
    assert edits.get("/v1/identities/ada").status_code == 403
    assert edits.get("/v1/identities/base").json()["consent"] is None
    assert edits.post("/v1/identities", files=album(jpeg()), data={"name": "bob", **CONSENT}).status_code == 403
    assert edits.delete("/v1/identities/bob").status_code == 403
    assert deletes.delete("/v1/identities/ada").status_code == 403
    assert deletes.delete("/v1/identities/bob").status_code == 200
    makes = door(Scope.PERSONALISE, identities=["bob"])
    assert makes.post("/v1/identities", files=album(jpeg()), data={"name": "eve", **CONSENT}).status_code == 403
    made = makes.post("/v1/identities", files=album(jpeg()), data={"name": "bob", **CONSENT}).json()
    assert makes.get(f"/v1/jobs/{made['id']}").status_code == 200
    other, admin = door(Scope.EDIT), door(Scope.ADMIN)
    assert other.get(f"/v1/jobs/{made['id']}").status_code == 404
    assert other.delete(f"/v1/jobs/{made['id']}").status_code == 404
    assert other.get("/v1/jobs").json() == {"jobs": []}
    assert [job["id"] for job in admin.get("/v1/jobs").json()["jobs"]] == [made["id"]]
    files = {"source": jpeg(), "driving": video(2)}
    assert other.post("/v1/videos", files=files, data={"identity": "ada"}).status_code == 202
    assert edits.post("/v1/videos", files=files, data={"identity": "ada"}).status_code == 403


def test_a_video_begins(door: Open, jobs: FakeJobs, backend: FakeBackend) -> None:
    client, driving = door(), video(3, size=(40, 30))
    form = {"identity": "ada", "modes": "light,exp", "yaw": "10", "fps": "12", "size": "128", "aligned": "true"}
    response = client.post("/v1/videos", files={"source": jpeg(), "driving": driving}, data=form)
    assert response.status_code == 202, response.text
    job = response.json()["id"]
    assert jobs.files[job] == {"source": jpeg(), "driving": driving}
    request = jobs.jobs[job].request
    assert (request["identity"], request["version"]) == ("ada", 1)
    assert request["edit"] == {
        "modes": ("light", "exp"),
        "controls": {"yaw": 10.0},
        "steps": None,
        "sampler": "ddim",
        "seed": 0,
        "size": 128,
        "fps": 12.0,
        "aligned": True,
        "max_frames": 100,
    }
    token = client.post("/v1/sources", files={"photo": jpeg("red")}).json()["token"]
    targets = [("targets", ("a.jpg", jpeg())), ("targets", ("b.jpg", jpeg("red")))]
    response = client.post("/v1/videos", files=targets, data={"source_token": token})
    assert response.status_code == 202, response.text
    assert jobs.files[response.json()["id"]] == {
        "source": jpeg("red"),
        "target_00000": jpeg(),
        "target_00001": jpeg("red"),
    }


@pytest.mark.parametrize(
    ("files", "form", "status", "told"),
    [
        ({"driving": video(2)}, {}, 422, "source is missing"),
        ({"source": jpeg()}, {}, 422, "driving and targets are missing"),
        ({"source": jpeg(), "driving": video(2), "targets": jpeg()}, {}, 422, "both given"),
        ({"source": jpeg(), "driving": jpeg()}, {}, 415, "driving is no MP4"),
        ({"source": video(2), "driving": video(2)}, {}, 415, "source is no photo"),
        ({"source": jpeg(), "targets": b"text"}, {}, 415, "targets.0 is no photo"),
        ({"source": jpeg(), "driving": video(6, size=(40, 30))}, {}, 413, "6 frames"),
        ({"source": jpeg(), "driving": video(2)}, {"identity": "nobody"}, 404, "nobody"),
        ({"driving": video(2)}, {"source_token": "nothing"}, 404, "no source has the token"),
        ({"source": jpeg(), "driving": video(2)}, {"fps": "0"}, 422, "fps is '0'"),
    ],
)
def test_videos_that_are_refused(
    door: Open, jobs: FakeJobs, files: Any, form: Mapping[str, str], status: int, told: str
) -> None:
    response = door().post("/v1/videos", files=files, data=form)
    assert response.status_code == status, response.text
    assert told in response.text
    assert jobs.jobs == {}


def test_a_job_and_its_result(door: Open, jobs: FakeJobs) -> None:
    client = door()
    job = client.post("/v1/videos", files={"source": jpeg(), "driving": video(2)}).json()["id"]
    assert client.get(f"/v1/jobs/{job}/result").status_code == 404
    report = {
        "photos": 9,
        "advice": ["more light"],
        "rejects": [{"photo": "x", "reason": "no face"}],
        "after_psnr": 20.0,
    }
    jobs.jobs[job] = replace(jobs.jobs[job], state="done", result="result.mp4", report=report)
    body = client.get(f"/v1/jobs/{job}").json()
    assert (body["state"], body["result"]) == ("done", f"/v1/jobs/{job}/result")
    assert body["report"] == {**report, "before_psnr": None}
    result = client.get(body["result"])
    assert (result.headers["content-type"], result.content) == ("video/mp4", b"an mp4")
    jobs.jobs[job] = replace(jobs.jobs[job], state="failed", problem="no face found")
    assert client.get(f"/v1/jobs/{job}").json()["problems"] == [{"what": "no face found", "allowed": None, "do": None}]
    assert client.delete(f"/v1/jobs/{job}").status_code == 204
    assert client.get(f"/v1/jobs/{job}").status_code == 404
