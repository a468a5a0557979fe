"""Photos read, previews and pictures, without Ray Serve."""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from deployments.messages import FoundFace, Previewed, PreviewJob, Refused, Source
from deployments.replicas.faces import FaceReplica
from deployments.replicas.sources import Sources
from deployments.replicas.transport import encode_png, pack, unpack
from drig.data.photos import read_photo
from drig.editing import edited_codes
from drig.faces.controls import Controls, head_angles
from drig.faces.estimators import load_estimator
from drig.faces.head import HeadModel, load_head
from drig.faces.likeness import Likeness
from drig.identities import BASE, Identities, IdentityInfo
from drig.previews import preview
from drig.reading import FaceReader


class Room:
    """A face replica with the sources that it fetches from."""

    def __init__(self, identities: Identities) -> None:
        self.sources = Sources(100_000_000, 60)
        self.fetched = 0
        self.faces = FaceReplica(identities.tracking_uri, self._fetch)

    async def _fetch(self, token: str) -> FoundFace | None:
        self.fetched += 1
        return await self.sources.face(token)


def ada(head: HeadModel) -> Likeness:
    """Somebody whose shape and skin are far from everybody's."""
    stripes = torch.linspace(0, 40, 256).sin().exp().expand(1, 3, 256, 256).half().float()
    mean_shape, mean_skin = torch.full((1, head.shape_size), 1.5), torch.full((1, head.tex_size), 1.0)
    return Likeness(mean_shape=mean_shape, mean_skin=mean_skin, skin_detail=stripes)


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    """The base that drig ships, and `ada`."""
    folder = tmp_path_factory.mktemp("registry")
    registry = Identities(f"sqlite:///{folder}/mlflow.db")
    registry.ensure_base()
    weights = folder / "weights.safetensors"
    head = load_head("open")
    save_file(
        {f"extra.{name}": tensor for name, tensor in ada(head).tensors().items()},
        weights,
        metadata={"config": json.dumps({"size": 64})},
    )
    registry.register("ada", weights, album_report={"photos": 3})
    return registry


@pytest.fixture(scope="module")
def room(identities: Identities) -> Room:
    return Room(identities)


@pytest.fixture(scope="module")
def photo(synthetic_people: Path) -> bytes:
    """A portrait in the middle of a larger photo."""
    portrait = read_photo(synthetic_people / "person_0000" / "00.png")
    wide = np.pad(portrait, ((64, 64), (96, 160), (0, 0)), "edge")
    return encode_png(wide)


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    async def start() -> Any:
        return await work()

    return asyncio.run(start())


def job(token: str, identity: IdentityInfo, **changes: Any) -> PreviewJob:
    plain: dict[str, Any] = {"target": None, "modes": (), "controls": {}, "layer": "rendered", "size": 256}
    return PreviewJob(source=token, identity=identity, **(plain | changes))


def picture(answer: Any) -> np.ndarray:
    png = answer.png if isinstance(answer, Previewed) else answer
    assert isinstance(png, bytes), answer
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_face_travels_whole(room: Room, photo: bytes) -> None:
    found = run(lambda: room.faces.read(photo, 256, False))
    assert isinstance(found, FoundFace)
    head = load_head("open")
    face = FaceReader(head, load_estimator("fit", head)).read(read_photo(photo), 256)
    arrived = unpack(found)
    for name, tensor in face.codes.as_dict().items():
        torch.testing.assert_close(getattr(arrived.codes, name), tensor)
    assert (arrived.portrait.image == face.portrait.image).all()
    assert found.photo_size == (512, 384)
    assert found.pose == pytest.approx(head_angles(face.codes)[0].tolist(), abs=1e-3)
    assert set(found.actions) == set(head.expression_names)
    top_left, _, bottom_right, _ = found.corners
    assert top_left == pytest.approx((96, 64), abs=12)  # FFHQ's crop of a portrait is the portrait, nearly
    assert bottom_right == pytest.approx((352, 320), abs=12)
    again = pack(arrived, read_photo(photo), head)
    assert again.corners == found.corners


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"text", "not a photo"), (b"", "the file is empty"), (encode_png(np.zeros((80, 80, 3), np.uint8)), "no face")],
)
def test_photos_without_a_face(room: Room, content: bytes, message: str) -> None:
    answer = run(lambda: room.faces.read(content, 256, False))
    assert isinstance(answer, Refused)
    assert (answer.status, message in answer.message) == (422, True)


def test_previews_are_what_an_edit_renders(room: Room, identities: Identities, photo: bytes) -> None:
    async def see() -> tuple[FoundFace, list[Previewed | Refused]]:
        found = await room.faces.read(photo, 256, False)
        assert isinstance(found, FoundFace)
        token = await room.sources.keep(Source(found, photo))
        base = identities.get(BASE)
        controls = {"yaw": 25.0, "light_direction": (1.0, 0.0, 1.0)}
        jobs = [
            job(token, base),
            job(token, base, controls=controls, layer="normal", size=128),
            job(token, base, controls=controls, layer="mesh"),
            job(token, identities.get("ada")),
        ]
        return found, [await room.faces.preview(one) for one in jobs]

    fetched = room.fetched
    found, answers = run(see)
    assert room.fetched == fetched + 1  # the face is remembered
    plain, turned, mesh, hers = (picture(answer) for answer in answers)
    head, face = load_head("open"), unpack(found)
    source = Likeness.of_skins(head, face.codes, face.portrait.seen[None])[0]
    shown = replace(face, codes=source.own(head, face.codes))  # the base knows nobody but who is in the photo
    codes = edited_codes(shown, None, (), Controls(yaw=25, light_direction=(1, 0, 1)), head.expression_names)
    assert np.array_equal(plain, preview(head, shown, shown.codes, "rendered", 256, likeness=source))
    assert not np.array_equal(plain, preview(head, face, face.codes, "rendered", 256))
    assert np.array_equal(turned, preview(head, shown, codes, "normal", 128, likeness=source))
    assert np.array_equal(mesh, preview(head, shown, codes, "mesh", 256, likeness=source))
    own = FaceReader(head, load_estimator("fit", head)).reread(face, ada(head))
    assert np.array_equal(hers, preview(head, own, own.codes, "rendered", 256, likeness=ada(head)))
    assert not np.array_equal(hers, plain)
    assert isinstance(answers[1], Previewed)
    assert answers[1].pose[0] == pytest.approx(25, abs=0.01)
    assert 0 < answers[1].seconds < 10


def test_a_target_gives_its_light(room: Room, identities: Identities, photo: bytes) -> None:
    async def see() -> list[Any]:
        found = await room.faces.read(photo, 256, False)
        assert isinstance(found, FoundFace)
        dark = dict(found.codes) | {"light": found.codes["light"] * 0.2}
        tokens = [await room.sources.keep(Source(face, photo)) for face in (found, _with_codes(found, dark))]
        base = identities.get(BASE)
        return [
            await room.faces.preview(job(tokens[0], base)),
            await room.faces.preview(job(tokens[0], base, target=tokens[1], modes=("light",))),
        ]

    own, lit = (picture(answer).astype(float) for answer in run(see))
    assert lit[own > 0].mean() < 0.5 * own[own > 0].mean()


@pytest.mark.parametrize("kind", ["portrait", "landmarks", "mesh", "rendered", "normal", "albedo"])
def test_every_picture_of_what_was_found(room: Room, photo: bytes, kind: str) -> None:
    async def see() -> Any:
        found = await room.faces.read(photo, 256, False)
        assert isinstance(found, FoundFace)
        return await room.faces.picture(await room.sources.keep(Source(found, photo)), kind, 256)

    shown = picture(run(see))
    assert shown.shape == (256, 256, 3)
    assert shown.std() > 5


def test_what_cannot_be_seen_is_said(room: Room, identities: Identities, photo: bytes) -> None:
    async def see() -> list[Any]:
        found = await room.faces.read(photo, 256, False)
        assert isinstance(found, FoundFace)
        token, base = await room.sources.keep(Source(found, photo)), identities.get(BASE)
        return [
            await room.faces.preview(job("gone", base)),
            await room.faces.picture("gone", "mesh", 256),
            await room.faces.preview(job(token, base, modes=("light",))),
            await room.faces.preview(job(token, base, controls={"yaw": 200.0})),
            await room.faces.preview(job(token, base, controls={"expression": {"grin": 1.0}})),
        ]

    answers = run(see)
    assert [answer.status for answer in answers] == [404, 404, 422, 422, 422]
    assert "take from a target" in answers[2].message
    assert "from -90 to 90" in answers[3].message
    assert "'grin' is unknown" in answers[4].message


def _with_codes(face: FoundFace, codes: dict[str, Any]) -> FoundFace:
    return FoundFace(**(vars(face) | {"codes": codes}))
