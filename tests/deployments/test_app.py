"""The Serve application: its settings, and edits through real HTTP, proxy, ingress and replica."""

import base64
import inspect
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, get_args

import httpx
import numpy as np
import pytest
import ray
import torch
import yaml
from pydantic import ValidationError
from ray import serve
from ray.serve.schema import ServeDeploySchema

from deployments.api.photos import PORTRAIT_SIZE
from deployments.app import build
from deployments.replicas.transport import encode_png
from deployments.serve import APP_NAME, main, serving
from deployments.settings import ServeConfig, TrainingPreset
from drig.data.photos import read_photo, steady_frames
from drig.diffusion.network import Rig, RigConfig
from drig.editing import Editor
from drig.errors import DrigError
from drig.faces.buffers import render_buffers
from drig.faces.controls import Controls
from drig.faces.estimators import load_estimator
from drig.faces.head import neutral_codes
from drig.faces.open_head import OpenHead
from drig.identities import Identities
from drig.pictures import to_picture
from drig.provenance import read_mark
from drig.reading import FaceReader
from pipelines.personalize import PRESETS

SMALL = RigConfig(
    size=64,
    base_channels=32,
    channel_mult=(1, 1),
    blocks_per_level=1,
    attention_size=0,
    patch=4,
    encoder_blocks=(1, 1, 1, 1),
)


@dataclass(frozen=True)
class Served:
    """A running application, and what it edits with."""

    url: str
    config: ServeConfig
    identities: Identities
    photos: tuple[bytes, bytes]
    """PNG files of two people."""

    def edit(self, source: bytes, target: bytes | None = None, **form: Any) -> httpx.Response:
        files = {"source": ("source.png", source)} | ({"target": ("target.png", target)} if target else {})
        return httpx.post(f"{self.url}/v1/edits", files=files, data=form, timeout=120)

    def keep(self, photo: bytes) -> dict[str, Any]:
        """What POST /v1/sources tells of a photo."""
        response = httpx.post(f"{self.url}/v1/sources", files={"photo": ("me.png", photo)}, timeout=120)
        assert response.status_code == 201, response.text
        told: dict[str, Any] = response.json()
        return told

    def post(self, path: str, **body: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, timeout=120)


def random_editor(seed: int) -> Editor:
    """An editor whose rig is untrained, but not at its initial values: those would ignore the buffers."""
    head = OpenHead.load()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)  # PyTorch's initial values come from the global generator
        rig = Rig(SMALL)
        for parameter in rig.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return Editor(rig, head, load_estimator("fit", head))


def photo_of_a_head(seed: int) -> bytes:
    """A PNG file: some bald person in front of a grey wall."""
    head, generator = OpenHead.load(), torch.Generator().manual_seed(seed)
    codes = neutral_codes(head)
    codes = codes.replace(shape=torch.randn(codes.shape.shape, generator=generator))
    buffers = render_buffers(head, codes, 256)
    return encode_png(to_picture(buffers.rendered[0] + 0.5 * (1 - buffers.alpha[0])))


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def pixels(content: bytes) -> bytes:
    """Of a picture whose file differs from that of the same picture by its signature."""
    return read_photo(content).tobytes()


@pytest.fixture(scope="module")
def served(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    identities = Identities(f"sqlite:///{folder}/mlflow.db")
    weights = folder / "weights.safetensors"
    random_editor(0).save(weights)
    identities.register_base(weights)
    random_editor(1).save(weights)
    identities.register("ada", weights, album_report={"photos": 10})
    config = ServeConfig(
        tracking_uri=identities.tracking_uri, work=str(folder / "jobs"), credentials=str(folder / "credentials")
    )
    with serving(config, port=0) as url:
        yield Served(url, config, identities, (photo_of_a_head(0), photo_of_a_head(1)))


def test_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = ServeConfig(tracking_uri="sqlite:////nowhere/mlflow.db")
        with pytest.raises(DrigError, match="choose another one"), serving(config, port=taken.getsockname()[1]):
            pass


@pytest.mark.parametrize("name", ["base", "ada"])
def test_an_edit_over_http_is_the_edit_in_this_process(served: Served, name: str) -> None:
    source, target = served.photos
    response = served.edit(
        source, target, identity=name, modes="light,exp", yaw="10", steps="4", sampler="unipc", seed="3"
    )
    assert response.status_code == 200, response.text
    editor = Editor.load(served.identities.fetch(name))
    reader = FaceReader(editor.head, editor.estimator)
    with one_thread():
        faces = [reader.read(read_photo(photo), PORTRAIT_SIZE) for photo in (source, target)]
    edit = editor.edit(
        *faces,
        modes=("light", "exp"),
        controls=Controls(yaw=10),
        steps=4,
        sampler="unipc",
        seed=3,
    )
    # What reads and what edits has one thread in Serve, and this process has more, so that sums differ in their last
    # bits. Estimates end up to 1e-3 apart then, of which a rig of random weights would make another picture.
    np.testing.assert_allclose(read_photo(response.content), edit.image, rtol=0, atol=1)
    mark = read_mark(response.content, "image/png")
    assert mark is not None
    assert (mark.intact, mark.edit) == (True, {"changed": ["exp", "light", "yaw"]})
    assert response.headers["x-drig-identity"] == name
    assert json.loads(response.headers["x-drig-warnings"]) == list(edit.warnings)


def test_identity_seed_sampler_and_light_all_matter(served: Served) -> None:
    forms: list[dict[str, Any]] = [
        {},
        {"identity": "ada"},
        {"seed": "1"},
        {"sampler": "unipc"},
        {"light_direction": "1,0,0"},
    ]
    pictures = {pixels(served.edit(served.photos[0], steps="2", **form).content) for form in forms}
    assert len(pictures) == len(forms)


@pytest.mark.parametrize(
    ("form", "what"),
    [
        ({"expression": '{"smile": 1}'}, "facial action 'smile' is unknown"),
        ({"modes": "light"}, "take from a target photo"),
        ({"yaw": "120"}, "from -90 to 90"),
        ({"aligned": "true"}, "source: not an FFHQ crop"),
    ],
)
def test_what_only_the_editor_can_refuse(served: Served, form: dict[str, Any], what: str) -> None:
    response = served.edit(served.photos[0], **form)
    assert response.status_code == 422
    assert what in response.json()["problems"][0]["what"]


def test_a_photo_that_cannot_be_used_is_named(served: Served) -> None:
    response = served.edit(served.photos[0], b"no picture", modes="light")
    assert response.status_code == 415
    assert response.json()["problems"][0]["what"].startswith("target is no photo")


def test_a_new_version_is_live_within_seconds_and_no_request_fails(served: Served, tmp_path: Path) -> None:
    served.identities.register("grace", _saved(random_editor(2), tmp_path), album_report={"photos": 10})
    token, pictures = served.keep(served.photos[0])["token"], dict[str, set[bytes]]()

    def edit() -> str:
        response = served.post("/v1/edits", source_token=token, identity="grace", steps=2)
        assert response.status_code == 200, response.text
        version = str(response.headers["x-drig-identity-version"])
        pictures.setdefault(version, set()).add(pixels(response.content))
        return version

    versions = [edit(), edit()]
    with ThreadPoolExecutor(1) as pool:
        other = _saved(random_editor(3), tmp_path)
        registered = pool.submit(served.identities.register, "grace", other, album_report={"photos": 10})
        end = time.monotonic() + 60
        while versions[-1] == "1":
            versions.append(edit())
            assert time.monotonic() < end
        assert registered.result() == 2
    versions += [edit(), edit()]
    assert versions == sorted(versions)
    assert [len(pictures[version]) for version in "12"] == [1, 1]
    assert pictures["1"] != pictures["2"]
    served.identities.delete("grace")
    while served.post("/v1/edits", source_token=token, identity="grace", steps=2).status_code != 404:
        assert time.monotonic() < end + 60


def test_a_source_is_previewed_and_edited_many_times(served: Served) -> None:
    told = served.keep(served.photos[0])
    token = told["token"]
    preview = served.post("/v1/previews", source_token=token, controls={"yaw": 20}, layer="normal", size=64)
    assert preview.status_code == 200, preview.text
    assert float(preview.headers["x-drig-pose"].partition(",")[0]) == pytest.approx(20, abs=0.1)
    edit = served.post("/v1/edits", source_token=token, controls={"yaw": 20}, steps=2, answer="json").json()
    assert set(edit["timings"]) == {"queue", "load", "read", "render", "sample", "total"}
    normal = read_photo(base64.b64decode(edit["buffers"]["normal"]))
    np.testing.assert_allclose(normal, read_photo(preview.content), rtol=0, atol=1)
    mesh = httpx.get(f"{served.url}/v1/sources/{token}/pictures/mesh", timeout=60)
    assert read_photo(mesh.content).shape == (256, 256, 3)
    pasted = served.post("/v1/edits", source_token=token, steps=2, paste_back=True)
    assert read_photo(pasted.content).shape == read_photo(served.photos[0]).shape
    assert httpx.delete(f"{served.url}/v1/sources/{token}", timeout=60).status_code == 204
    for path in ("/v1/previews", "/v1/edits"):
        assert served.post(path, source_token=token).status_code == 404


def test_an_edit_is_watched(served: Served) -> None:
    body = {"source_token": served.keep(served.photos[0])["token"], "steps": 3}
    with httpx.stream("POST", f"{served.url}/v1/edits:stream", json=body, timeout=60) as response:
        lines = [line for line in response.iter_lines() if line]
    assert [line for line in lines if line.startswith("event")] == ["event: progress"] * 3 + ["event: result"]
    result = json.loads(lines[-1].removeprefix("data: "))
    assert pixels(base64.b64decode(result["image"])) == pixels(served.post("/v1/edits", **body).content)


def test_an_edit_that_nobody_waits_for_is_stopped(served: Served) -> None:
    token = served.keep(served.photos[0])["token"]
    endless = {"source_token": token, "steps": 1000, "sampler": "heun"}
    alone = _seconds(lambda: served.post("/v1/edits", source_token=token, steps=100))
    started = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):  # a client that hangs up
        httpx.post(f"{served.url}/v1/edits", json=endless, timeout=1)
    response = served.post("/v1/edits", **endless, deadline=1)
    assert (response.status_code, "deadline" in response.text) == (503, True)
    with httpx.stream("POST", f"{served.url}/v1/edits:stream", json=endless, timeout=60) as watched:
        next(watched.iter_lines())
    assert served.post("/v1/edits", source_token=token, steps=2).status_code == 200
    assert time.monotonic() - started < 2 + 10 * alone  # each of the three alone takes 20 times `alone`


def test_a_replica_that_is_killed_loses_no_edit(served: Served) -> None:
    token = served.keep(served.photos[0])["token"]
    expected = {
        (name, seed): pixels(served.post("/v1/edits", source_token=token, identity=name, seed=seed, steps=4).content)
        for name in ("base", "ada")
        for seed in (1, 2)
    }

    def edit(number: int) -> httpx.Response:
        name, seed = list(expected)[number % 4]
        response = served.post("/v1/edits", source_token=token, identity=name, seed=seed, steps=4)
        assert response.status_code == 200, response.text
        assert response.headers["x-drig-identity"] == name
        assert pixels(response.content) == expected[name, seed]
        return response

    with ThreadPoolExecutor(3) as pool:
        edits = [pool.submit(edit, number) for number in range(24)]
        while not edits[3].done():
            time.sleep(0.05)
        _kill_a_replica("EditReplica")
        for done in edits:
            done.result()


def test_a_video_is_driven_by_photos(served: Served) -> None:
    files = [("source", served.photos[0]), *[("targets", photo) for photo in served.photos]]
    form = {"identity": "ada", "modes": "exp,pose", "steps": "2", "size": "64"}
    job = httpx.post(f"{served.url}/v1/videos", files=files, data=form, timeout=60).json()
    end = time.monotonic() + 120
    while job["state"] in ("waiting", "running"):
        assert time.monotonic() < end, job
        time.sleep(0.1)
        job = httpx.get(f"{served.url}/v1/jobs/{job['id']}", timeout=60).json()
    assert (job["state"], job["done"], job["total"]) == ("done", 4, 4), job
    video = httpx.get(f"{served.url}{job['result']}", timeout=60).content
    frames = list(steady_frames(video, 2.0))
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 2
    mark = read_mark(video, "video/mp4")
    assert mark is not None
    assert (mark.intact, mark.edit) == (True, {"changed": ["exp", "pose"]})
    assert httpx.delete(f"{served.url}/v1/jobs/{job['id']}", timeout=60).status_code == 204


def test_a_video_without_a_face_says_so(served: Served) -> None:
    grey = encode_png(np.full((64, 64, 3), 128, np.uint8))
    files = [("source", served.photos[0]), ("targets", grey)]
    job = httpx.post(f"{served.url}/v1/videos", files=files, timeout=60).json()
    while job["state"] in ("waiting", "running"):
        time.sleep(0.1)
        job = httpx.get(f"{served.url}/v1/jobs/{job['id']}", timeout=60).json()
    assert job["state"] == "failed"
    assert "none of the 1 frames" in job["problems"][0]["what"]


def test_the_application_is_upgraded_and_no_request_fails(served: Served) -> None:
    upgraded, answers = Event(), list[httpx.Response]()

    def ask() -> None:
        while not upgraded.is_set():
            answers.append(served.edit(served.photos[0], steps="1"))

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask) for _ in range(2)]
        serve.run(build(served.config.model_copy(update={"sources_mib": 64})), name=APP_NAME)
        before = len(answers)
        while len(answers) < before + 4:
            time.sleep(0.1)
        upgraded.set()
        for one in asked:
            one.result()
    failed = [(answer.status_code, answer.text) for answer in answers if answer.status_code != 200]
    assert failed == []
    assert before > 0


def test_health_is_answered_during_edits_and_too_many_are_turned_away(served: Served) -> None:
    token = served.keep(served.photos[0])["token"]  # with photos they would wait for the finder of faces instead
    with ThreadPoolExecutor(64) as pool:
        edits = [pool.submit(served.post, "/v1/edits", source_token=token, steps=50) for _ in range(64)]
        time.sleep(0.5)
        assert httpx.get(f"{served.url}/healthz", timeout=60).status_code == 200
        assert not all(edit.done() for edit in edits)  # it was answered before them
        answers = [edit.result() for edit in edits]
    assert {answer.status_code for answer in answers} == {200, 503}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers if answer.status_code == 503)


def test_one_serve_on_one_ray(served: Served) -> None:
    with pytest.raises(DrigError, match="already runs"), serving(ServeConfig(tracking_uri="sqlite:////x.db"), port=0):
        pass
    assert httpx.get(f"{served.url}/healthz").status_code == 200


def _kill_a_replica(deployment: str) -> None:
    """As a machine would that goes away."""
    names = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
    (replica, *_) = [name for name in names if name.startswith("SERVE_REPLICA") and f"#{deployment}#" in name]
    ray.kill(ray.get_actor(replica, namespace="serve"))


def _seconds(action: Callable[[], object]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def _saved(editor: Editor, folder: Path) -> Path:
    editor.save(folder / "weights.safetensors")
    return folder / "weights.safetensors"


def test_serve_yaml_is_what_serve_and_the_builder_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    document = yaml.safe_load((Path(inspect.getfile(build)).parent / "serve.yaml").read_text())
    (application,) = ServeDeploySchema.model_validate(document).applications
    assert application.import_path == "deployments.app:build"
    config = ServeConfig.model_validate(application.args)
    assert config.tracking_uri == "http://mlflow:5000"
    # Serve refuses a configuration for a deployment that the application does not have.
    names = {deployment.name for deployment in application.deployments}
    assert names == {"Ingress", "EditReplica", "FaceReplica", "Sources", "Jobs"}
    assert build(config)._bound_deployment.name == "Ingress"


def test_identities_can_be_made_by_every_preset() -> None:
    assert get_args(TrainingPreset) == tuple(PRESETS)


def test_unknown_settings_and_a_missing_store_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="gpus"):
        ServeConfig.model_validate({"tracking_uri": "http://mlflow:5000", "gpus": 1})
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(DrigError, match="give tracking_uri"):
        ServeConfig()


def test_the_command_checks_before_it_starts_ray(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs", str(tmp_path), "--dry-run"]) == 0
    assert main(["--editors", "0"]) == 2
    assert "editors" in capsys.readouterr().err
