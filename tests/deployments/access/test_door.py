"""Who gets past the door, without anything of the API behind it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI, UploadFile
from fastapi.testclient import TestClient

from deployments.access.door import Door, key_of
from deployments.access.keys import Key, KeyRing, Scope, add_key
from deployments.access.rates import Rates
from deployments.api.errors import answer_errors


@pytest.fixture
def open_door(tmp_path: Path) -> Callable[..., TestClient]:
    def door(
        *, keys: str | None = None, client: tuple[str, int] = ("127.0.0.1", 5), host: str = "127.0.0.1"
    ) -> TestClient:
        app = FastAPI()

        @app.get("/v1/who")
        def who(key: Key = Depends(key_of)) -> str:  # noqa: B008
            key.require(Scope.DELETE, "ann")
            return key.name

        @app.post("/v1/upload")
        async def upload(file: UploadFile) -> int:
            return len(await file.read())

        @app.get("/healthz")
        def health() -> str:
            return "ok"

        answer_errors(app, lambda path: 1)
        app.add_middleware(Door, keys=KeyRing(keys) if keys else None, rates=Rates())
        return TestClient(app, base_url=f"http://{host}:8000", client=client)

    return door


def problem(response: Any) -> str:
    return str(response.json()["problems"][0]["what"])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_without_keys_this_machine_may_do_everything(open_door: Callable[..., TestClient], host: str) -> None:
    assert open_door(host=host, client=("::1", 5)).get("/v1/who").json() == "this machine"


@pytest.mark.parametrize("client", [("10.0.0.7", 5), ("::ffff:10.0.0.7", 5), ("testclient", 5)])
def test_without_keys_nobody_else_gets_in(open_door: Callable[..., TestClient], client: tuple[str, int]) -> None:
    response = open_door(client=client).get("/v1/who")
    assert response.status_code == 403
    assert "drig keys --add" in problem(response)
    assert open_door(client=client).get("/healthz").status_code == 200


def test_a_page_of_somebody_else_in_this_machines_browser(open_door: Callable[..., TestClient]) -> None:
    assert open_door(host="rebound.example").get("/v1/who").status_code == 403
    door = open_door()
    for origin in ("https://evil.example", "null", "http://127.0.0.1:3000", ""):
        assert door.get("/v1/who", headers={"Origin": origin}).status_code == 403
    assert door.get("/v1/who", headers={"Origin": "http://127.0.0.1:8000"}).status_code == 200


def test_with_keys(open_door: Callable[..., TestClient], tmp_path: Path) -> None:
    file = str(tmp_path / "keys.json")
    _, text = add_key(file, "shop", [Scope.DELETE], identities=["ann"], per_minute=2)
    _, other = add_key(file, "other", [Scope.EDIT])
    door = open_door(keys=file, client=("10.0.0.7", 5), host="drig.example")
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        response = door.get("/v1/who", headers=headers)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert door.post("/v1/upload", headers=headers, content=b"x" * 100).status_code == 401
    assert door.get("/v1/who", headers={"Authorization": f"Bearer {text}"}).json() == "shop"
    response = door.get("/v1/who", headers={"Authorization": f"Bearer {other}"})
    assert response.status_code == 403
    assert "may not delete" in problem(response)
    assert door.get("/v1/who", headers={"Authorization": f"Bearer {text}"}).status_code == 200
    response = door.get("/v1/who", headers={"Authorization": f"Bearer {text}"})
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1
    assert door.get("/healthz").status_code == 200
