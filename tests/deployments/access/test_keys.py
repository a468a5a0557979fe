"""API keys: what is kept of them, who is let in, and what each may do."""

import json
from pathlib import Path

import pytest

from deployments.access import keys as module
from deployments.access.command import main
from deployments.access.keys import (
    EVERYBODY,
    AccessError,
    Key,
    KeyRing,
    Scope,
    Unauthenticated,
    add_key,
    read_keys,
    revoke_key,
)
from deployments.access.rates import SMALL_ONES, Rates, TooMany
from drig.errors import DrigError


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "keys.json")


def test_a_key_is_let_in_and_kept_as_a_hash(file: str) -> None:
    key, text = add_key(file, "shop", [Scope.EDIT], identities=["ann"], per_minute=7)
    assert KeyRing(file).find(f"Bearer {text}") == key == read_keys(file)[0]
    assert text.rsplit("_", 1)[1] not in Path(file).read_text()
    assert Path(file).stat().st_mode & 0o077 == 0
    _, other = add_key(file, "other", [Scope.DELETE])
    assert KeyRing(file).find(f"bearer {other}").name == "other"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic abc",
        "Bearer drig",
        "Bearer drig_x_y",
        "Bearer {id}",
        "{text}",
        "Bearer {text}x",
    ],
)
def test_nobody_else_is(file: str, header: str | None) -> None:
    key, text = add_key(file, "shop", [Scope.EDIT])
    with pytest.raises(Unauthenticated):
        KeyRing(file).find(header and header.format(id=f"drig_{key.id}_", text=text))


def test_a_revoked_key_is_refused_by_who_runs(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key, text = add_key(file, "shop", [Scope.EDIT])
    add_key(file, "other", [Scope.EDIT])
    ring = KeyRing(file)
    ring.find(f"Bearer {text}")
    revoke_key(file, key.id)
    ring.find(f"Bearer {text}")  # still known for a moment
    monkeypatch.setattr(module, "REREAD_S", 0.0)
    with pytest.raises(Unauthenticated):
        ring.find(f"Bearer {text}")


def test_a_file_that_cannot_be_read_for_a_while_locks_nobody_out(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, text = add_key(file, "shop", [Scope.EDIT])
    ring = KeyRing(file)
    monkeypatch.setattr(module, "REREAD_S", 0.0)
    Path(file).write_text("half a fi")
    assert ring.find(f"Bearer {text}").name == "shop"
    with pytest.raises(DrigError):
        KeyRing(file)


def test_what_a_key_may_do() -> None:
    key = Key(id="1", name="shop", scopes=frozenset({Scope.EDIT}), identities=frozenset({"ann"}))
    key.require(Scope.EDIT, "ann")
    key.require(Scope.EDIT, "base")
    for scope, identity in ((Scope.EDIT, "bob"), (Scope.DELETE, "ann"), (Scope.ADMIN, None)):
        with pytest.raises(AccessError):
            key.require(scope, identity)
    assert not key.sees("bob")
    EVERYBODY.require(Scope.DELETE, "bob")
    Key(id="2", name="all", scopes=frozenset({Scope.EDIT})).require(Scope.EDIT, "bob")


def test_keys_on_s3(bucket: str) -> None:
    _, text = add_key(f"{bucket}/keys.json", "shop", [Scope.EDIT])
    assert KeyRing(f"{bucket}/keys.json").find(f"Bearer {text}").name == "shop"


@pytest.mark.parametrize(
    "content", [None, "", "[]", '{"keys": [{"id": 1}]}', '{"keys": [{"id": "1", "name": "x", "scopes": ["fly"]}]}']
)
def test_a_file_that_is_none(file: str, content: str | None) -> None:
    if content is not None:
        Path(file).write_text(content)
    with pytest.raises(DrigError, match=r"keys\.json"):
        read_keys(file)


def test_a_key_may_ask_so_often() -> None:
    rates = Rates()
    key = Key(id="1", name="shop", scopes=frozenset(), per_minute=3)
    for _ in range(3):
        rates.count(key)
    with pytest.raises(TooMany) as refused:
        rates.count(key)
    assert 1 <= refused.value.retry_after <= 120
    rates.count(Key(id="2", name="other", scopes=frozenset(), per_minute=3))
    for _ in range(1000):
        rates.count(EVERYBODY)
    half = Rates(share=0.5)
    for _ in range(2):
        half.count(key)
    with pytest.raises(TooMany):
        half.count(key)


def test_small_requests_count_little() -> None:
    rates, key = Rates(), Key(id="1", name="shop", scopes=frozenset(), per_minute=2)
    rates.count(key)
    for _ in range(SMALL_ONES):
        rates.count(key, small=True)
    for small in (True, False):
        with pytest.raises(TooMany, match="2 times a minute"):
            rates.count(key, small=small)


def test_the_command(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--keys", file, "--add", "web shop", "--scopes", "edit,delete", "--identities", "ann"]) == 0
    text = capsys.readouterr().out.strip().splitlines()[-1]
    assert KeyRing(file).find(f"Bearer {text}").identities == frozenset({"ann"})
    assert main(["--keys", file]) == 0
    assert "delete, edit" in capsys.readouterr().out
    assert main(["--keys", file, "--revoke", text.split("_")[1]]) == 0
    assert json.loads(Path(file).read_text()) == {"keys": []}
    for bad in (
        ["--add", ""],
        ["--add", "x", "--revoke", "y"],
        ["--revoke", "nobody"],
        ["--add", "x", "--identities", "../x"],
    ):
        assert main(["--keys", file, *bad]) == 2
