"""The client against the real API: every request, its answers, what can go wrong."""

import asyncio
import inspect
import pickle
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from deployments.access.keys import Scope, add_key
from drig.cli import main
from drig.client import (
    AsyncClient,
    Busy,
    Client,
    Conflict,
    Edited,
    JobFailed,
    NotAllowed,
    NotFound,
    Progress,
    ServerError,
    Unreachable,
)
from drig.data.photos import read_photo
from drig.errors import DrigError, MissingFile
from tests.deployments.rehearsal import Rehearsal, mp4_of, rehearsing
from tests.deployments.test_app import photo_of_a_head


def test_a_photo_is_uploaded_once_and_edited_many_times(url: str, server: Rehearsal, photo: bytes) -> None:
    with Client(url) as client:
        found = client.upload(photo)
        assert (found.faces_found, len(found.landmarks), len(found.light)) == (1, 68, 9)
        assert found.photo_size == (256, 256)
        assert read_photo(client.picture(found, "mesh")).shape == (256, 256, 3)
        seen = client.preview(found, controls={"yaw": 20, "expression": {"jawOpen": 0.5}}, layer="normal", size=128)
        assert seen.pose[0] == pytest.approx(20, abs=0.1)
        assert seen.milliseconds > 0
        assert read_photo(seen.image).shape == (128, 128, 3)
        lit = client.edit(found, controls={"light_sh": found.light, "mood": "smile"}, steps=2, seed=3)
        assert (lit.identity, lit.version, lit.seed) == ("base", 1, 3)
        assert lit.image == server.pictures[-1]  # as the server sent it
        assert list(lit.buffers) == ["rendered", "normal", "albedo"]
        assert lit.timings["total"] > 0
        client.forget(found)
        with pytest.raises(NotFound, match="upload the photo again"):
            client.edit(found, steps=2)


def test_a_form_says_what_was_given(url: str, photo: bytes, tmp_path: Path) -> None:
    file = tmp_path / "me.png"
    file.write_bytes(photo)
    other = photo_of_a_head(1)
    controls = {"light_direction": (1, 0.5, 1), "light_colour": [1, 0.9, 0.8], "expression": {"jawOpen": 0.5}}
    with Client(url) as client:
        of_files = client.edit(file, target=other, modes=["pose"], controls=controls, steps=2, size=128)
        source, target = client.upload(file), client.upload(other)
        of_tokens = client.edit(source, target=target, modes=["pose"], controls=controls, steps=2, size=128)
        other_light = client.edit(source, target=target, modes=["pose"], steps=2, size=128)
    assert of_files.image == of_tokens.image != other_light.image
    assert read_photo(of_files.image).shape == (128, 128, 3)


def test_an_edit_is_watched_and_stopped(url: str, server: Rehearsal, photo: bytes) -> None:
    with Client(url) as client:
        found = client.upload(photo)
        news = list(client.stream(found, controls={"yaw": 10}, steps=4))
        assert [one.step for one in news if isinstance(one, Progress)] == [1, 2, 3, 4]
        assert isinstance(news[-1], Edited)
        assert news[-1].image == client.edit(found, controls={"yaw": 10}, steps=4).image
        server.step_seconds = 0.2
        stream = client.stream(found, steps=50)
        next(stream)
        stream.close()
        deadline = time.monotonic() + 60
        while server.open_streams and time.monotonic() < deadline:
            time.sleep(0.05)
        assert server.open_streams == 0
        assert len(server.pictures) == 2  # the third was never finished
        with pytest.raises(ServerError, match="facial action 'ears' is unknown"):
            list(client.stream(found, controls={"expression": {"ears": 1}}))


def test_somebody_is_made_asked_for_and_deleted(url: str, server: Rehearsal, photo: bytes) -> None:
    told = []
    with Client(url) as client:
        job = client.create_identity("ada", [photo, photo], consent_by="Ada Byron")
        done = client.wait(job, told.append, every=0.05)
        assert told[-1] == done
        assert done.report is not None
        assert done.report.photos == 2
        assert done.report.rejects == {"beach.jpg": "no face found"}
        assert [one.id for one in client.jobs()] == [job.id]
        with pytest.raises(Conflict, match="already"):
            client.create_identity("ada", [photo], consent_by="Ada Byron")
        assert client.create_identity("ada", [photo], consent_by="Ada Byron", replace=True).kind == "identity"
        ada = client.identity("ada")
        assert ada.consent is not None
        assert ada.consent.by == "Ada Byron"
        assert [one.name for one in client.identities()] == ["base", "ada"]
        assert client.edit(photo, identity="ada", steps=2).identity == "ada"
        gone = client.delete_identity("ada")
        assert (gone.name, gone.remains) == ("ada", ())
        assert gone.removed
        with pytest.raises(NotFound, match="no identity is called 'ada'"):
            client.identity("ada")


def test_a_video_is_made_and_cancelled(url: str, server: Rehearsal, photo: bytes) -> None:
    clip = mp4_of(read_photo(photo))
    with Client(url) as client:
        job = client.make_video(photo, driving=clip, modes=["exp"], controls={"yaw": 5}, fps=8, steps=2)
        request = server.jobs[job.id].request["edit"]
        assert (request["modes"], request["fps"], request["controls"]) == (("exp",), 8, {"yaw": 5})
        assert client.result(client.wait(job, every=0.05)) in server.results.values()
        server.step_seconds = 0.5
        job = client.make_video(client.upload(photo), targets=[photo, photo])
        client.cancel(job)
        with pytest.raises(NotFound):
            client.wait(job, every=0.05)
        with pytest.raises(ServerError, match="driving and targets are missing"):
            client.make_video(photo)


def test_a_job_that_fails_says_why() -> None:
    job = {
        "id": "7",
        "kind": "identity",
        "state": "failed",
        "identity": "ada",
        "done": 0,
        "total": 0,
        "unit": "",
        "message": "",
        "created": "2026-11-27T12:00:00Z",
        "seconds_left": None,
        "result": None,
        "problems": [{"what": "4 photos are too few"}],
        "report": None,
    }
    carry = httpx.MockTransport(lambda request: httpx.Response(200, json=job))
    with Client(transport=carry) as client, pytest.raises(JobFailed, match="failed: 4 photos are too few"):
        client.wait(client.job(client.create_identity("ada", [b"x"], consent_by="Ada")), every=0)


def test_a_busy_server_is_asked_again_but_not_for_ever(photo: bytes) -> None:
    asked = []

    def busy(request: httpx.Request) -> httpx.Response:
        asked.append(request.content)
        wait = {"Retry-After": "0.01"} if len(asked) < 4 else {"Retry-After": "3600"}
        return httpx.Response(503, headers=wait, json={"problems": [{"what": "too many", "do": "send this again"}]})

    with Client(patience=30, transport=httpx.MockTransport(busy)) as client:
        started = time.monotonic()
        with pytest.raises(Busy, match="too many; send this again"):
            client.upload(photo)
    assert time.monotonic() - started < 20
    assert len(asked) == 4
    assert all(photo in content for content in asked)


def test_a_key_is_sent(server: Rehearsal, photo: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.keys = str(tmp_path / "keys.json")
    _, key = add_key(server.keys, "a friend", [Scope.EDIT])
    with rehearsing(server) as url:
        with Client(url) as client:
            assert client.options().auth
            with pytest.raises(NotAllowed):
                client.upload(photo)
        monkeypatch.setenv("DRIG_API_KEY", key)
        with Client(url) as client:
            client.upload(photo)
            with pytest.raises(NotAllowed, match="delete"):
                client.delete_identity("base")
        with Client(url, key="wrong") as client, pytest.raises(NotAllowed):
            client.upload(photo)


def test_no_server_no_file_and_somebody_elses_server(tmp_path: Path) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(Unreachable, match="does not answer"):
        client.identities()
    with Client("http://127.0.0.1:9") as client, pytest.raises(MissingFile, match="does not exist"):
        client.edit(tmp_path / "no.jpg")
    with Client("http://127.0.0.1:9") as client, pytest.raises(DrigError, match="cannot read"):
        client.upload(tmp_path)
    strange = httpx.MockTransport(lambda request: httpx.Response(404, text="<h1>nginx</h1>"))
    with Client(transport=strange) as client, pytest.raises(NotFound, match="check that the address"):
        client.identities()


def test_errors_travel_between_processes(url: str) -> None:
    with Client(url) as client, pytest.raises(NotFound) as raised:
        client.identity("nobody")
    copy = pickle.loads(pickle.dumps(raised.value))
    assert (type(copy), copy.problems, copy.status) == (NotFound, raised.value.problems, 404)


def test_awaited_it_does_the_same(url: str, server: Rehearsal, photo: bytes) -> None:
    async def work() -> None:
        async with AsyncClient(url) as client:
            found = await client.upload(photo)
            edits = await asyncio.gather(*(client.edit(found, controls={"yaw": yaw}, steps=2) for yaw in (0, 20)))
            assert edits[0].image != edits[1].image
            news = [one async for one in client.stream(found, controls={"yaw": 20}, steps=2)]
            assert isinstance(news[-1], Edited)
            assert news[-1].image == edits[1].image
            job = await client.make_video(found, driving=mp4_of(read_photo(photo)))
            assert (await client.wait(job, every=0.05)).state == "done"
            with pytest.raises(NotFound):
                await client.identity("nobody")
        async with AsyncClient("http://127.0.0.1:9") as client:
            with pytest.raises(Unreachable):
                await client.identities()

    asyncio.run(work())


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[inspect.Parameter]]:
        public = {name: method for name, method in vars(kind).items() if not name.startswith("_")}
        return {name: list(inspect.signature(method).parameters.values()) for name, method in public.items()}

    assert methods(Client) == methods(AsyncClient)
    assert all(method.__doc__ for name, method in vars(Client).items() if not name.startswith("_"))


def test_it_brings_no_torch() -> None:
    script = "import sys, drig.client; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_drig_edit_on_a_server(
    url: str,
    server: Rehearsal,
    photo: bytes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    server.forget_sources()
    for name, content in (("me.png", photo), ("you.png", photo_of_a_head(1))):
        Path(name).write_bytes(content)
    there = ["edit", "me.png", "--server", url, "--steps", "2"]
    assert main([*there, "--like", "you.png", "--controls.yaw", "20", "--sheet", "sheet.png"]) == 0
    assert Path("edited.png").read_bytes() == server.pictures[-1]
    assert read_photo("sheet.png").shape[1] > 900
    assert "edited portrait: edited.png" in capsys.readouterr().out
    assert len(server.company.sources._shelf) == 0  # the photos are not left there
    assert main([*there, "--paste_back", "--controls.mood", "smile", "--out", "there.png"]) == 0
    assert Path("there.png").read_bytes() == server.pictures[-1]
    assert read_photo("there.png").shape == (256, 256, 3)  # the whole photo
    assert server.requests[-2][0] == "/v1/edits:stream"
    assert main([*there, "--controls.yaw", "20", "--identity", "nobody"]) == 2
    assert "no identity is called 'nobody'" in capsys.readouterr().err
    assert main(["edit", "me.png", "--server", "http://127.0.0.1:9", "--controls.yaw", "20"]) == 2
    assert "does not answer" in capsys.readouterr().err
