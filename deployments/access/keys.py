"""API keys: a file of names, scopes and hashes; the keys themselves are shown once and kept nowhere.

A key is `drig_<id>_<secret>`. Its secret has 256 random bits, so that one round of SHA-256 is as good as many: nobody
can try them all, as could be done with a password.
"""

import hashlib
import hmac
import json
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from drig import logs, storage
from drig.errors import DrigError, MissingFile
from drig.identities import BASE, check_name

REREAD_S = 2.0
"""How old what a `KeyRing` knows may be: a revoked key is refused after that."""


class Scope(StrEnum):
    """What a key may do with the identities that it is for."""

    EDIT = "edit"
    PERSONALISE = "personalise"
    DELETE = "delete"
    ADMIN = "admin"
    """All of these, with every identity, and see everybody's jobs."""


class AccessError(DrigError):
    """A request that may not be met; `status` is HTTP's."""

    status = 403


class Unauthenticated(AccessError):
    """Nobody knows who asks."""

    status = 401


@dataclass(frozen=True, kw_only=True)
class Key:
    """What is known of a key."""

    id: str
    name: str
    """Whose it is, for people."""
    scopes: frozenset[Scope]
    identities: frozenset[str] | None = None
    """Which it is for; None = all. The base rig is for everybody."""
    per_minute: int = 120
    """Requests."""
    created: str = ""
    """UTC, ISO 8601."""
    secret_sha256: str = ""

    def require(self, scope: Scope, identity: str | None = None) -> None:
        """Raise AccessError unless this key may do that, and with that identity."""
        if Scope.ADMIN in self.scopes:
            return
        if scope not in self.scopes:
            raise AccessError(
                f"the key {self.name!r} may not {scope}; it may {', '.join(sorted(self.scopes)) or 'do nothing'}. "
                "Ask who runs this server for another key."
            )
        if identity is not None and not self.sees(identity):
            raise AccessError(
                f"the key {self.name!r} is not for the identity {identity!r}; GET /v1/identities lists which"
            )

    def sees(self, identity: str) -> bool:
        """Whether it may know of that identity."""
        return Scope.ADMIN in self.scopes or self.identities is None or identity in (BASE, *self.identities)


EVERYBODY = Key(id="", name="this machine", scopes=frozenset({Scope.ADMIN}), per_minute=0)
"""Who asks where no keys are needed; 0 = without a limit."""


class KeyRing:
    """The keys of a file, a path or s3:// URI, read again when it may have changed. Raises DrigError for none."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._keys = {key.id: key for key in read_keys(file)}
        self._read_at = time.monotonic()

    def find(self, authorization: str | None) -> Key:
        """The key in an Authorization header. Raises Unauthenticated; how it differs is not told."""
        kind, _, text = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not text:
            raise Unauthenticated("this server wants a key: send the header Authorization: Bearer drig_..")
        _, key_id, secret = (*text.strip().split("_", 2), "", "")[:3]
        known = self._current().get(key_id)
        # Compared also where there is no such key, so that time tells nothing.
        same = hmac.compare_digest(_hash(secret), known.secret_sha256 if known else _hash(""))
        if known is None or not same:
            raise Unauthenticated("this key is unknown or was revoked; ask who runs this server for a new one")
        return known

    def _current(self) -> dict[str, Key]:
        if time.monotonic() - self._read_at >= REREAD_S:
            try:
                self._keys = {key.id: key for key in read_keys(self.file)}
            except DrigError as error:  # S3 is away, or somebody edits the file: those who were known are let in
                logs.event("keys_unreadable", level=logging.WARNING, reason=str(error))
            self._read_at = time.monotonic()
        return self._keys


def add_key(
    file: str, name: str, scopes: Sequence[Scope], *, identities: Sequence[str] | None = None, per_minute: int = 120
) -> tuple[Key, str]:
    """Add a key to the file, which is made where there is none; gives it, and its text, which is nowhere afterwards."""
    if not name or not name.isprintable():
        raise DrigError(f"the key's name is {name!r}; give whose it is, such as 'web shop'")
    if not scopes:
        raise DrigError(f"a key without scopes is of no use; give any of {', '.join(Scope)}")
    if per_minute < 1:
        raise DrigError(f"per_minute is {per_minute}; give 1 or more")
    for identity in identities or ():
        check_name(identity)
    secret = secrets.token_urlsafe(32)
    key = Key(
        id=secrets.token_hex(4),
        name=name,
        scopes=frozenset(scopes),
        identities=None if identities is None else frozenset(identities),
        per_minute=per_minute,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        secret_sha256=_hash(secret),
    )
    _write(file, [*_read_or_none(file), key])
    return key, f"drig_{key.id}_{secret}"


def revoke_key(file: str, key_id: str) -> Key:
    """Take a key out of the file. Raises DrigError where there is none of that id."""
    keys = read_keys(file)
    gone = [key for key in keys if key.id == key_id]
    if not gone:
        known = ", ".join(f"{key.id} ({key.name})" for key in keys) or "none"
        raise DrigError(f"{file} has no key {key_id!r}; it has {known}")
    _write(file, [key for key in keys if key.id != key_id])
    return gone[0]


def read_keys(file: str) -> list[Key]:
    """The keys of a file. Raises DrigError for a missing or damaged one: without keys a server refuses everybody."""
    try:
        return [_from_json(entry) for entry in json.loads(storage.read_bytes(file))["keys"]]
    except MissingFile:
        raise DrigError(f"there is no file of keys at {file}; make one: drig keys --keys {file} --add NAME") from None
    except (KeyError, TypeError, ValueError) as error:
        raise DrigError(
            f"{file} is no file of keys ({type(error).__name__}: {error}); mend it, or make a new one"
        ) from None


def _read_or_none(file: str) -> list[Key]:
    return read_keys(file) if storage.exists(file) else []


def _write(file: str, keys: Sequence[Key]) -> None:
    storage.write_bytes(file, json.dumps({"keys": [_to_json(key) for key in keys]}, indent=2).encode())
    if not storage.is_s3(file):
        Path(file).chmod(0o600)


def _to_json(key: Key) -> dict[str, Any]:
    identities = None if key.identities is None else sorted(key.identities)
    return {**asdict(key), "scopes": sorted(key.scopes), "identities": identities}


def _from_json(entry: dict[str, Any]) -> Key:
    key = Key(**entry)
    identities = None if key.identities is None else frozenset(key.identities)
    return replace(key, scopes=frozenset(Scope(scope) for scope in key.scopes), identities=identities)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
