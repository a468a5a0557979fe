"""What a store consists of: shards, each an LMDB file that says what it holds, and the manifest that lists them."""

import json
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self
from weakref import WeakValueDictionary

import lmdb

from drig import storage
from drig.data.records import FORMAT, VERSION
from drig.errors import DrigError

MANIFEST = "manifest.json"
META_KEY = b"\0meta"  # record keys never begin with NUL
_LONGEST_KEY = 511  # bytes, LMDB's limit


@dataclass(frozen=True, kw_only=True)
class StoreKind:
    """What all records of a store share."""

    size: int
    """Side of portraits and buffers in pixels."""
    head: str
    """Head model that gives the codes their meaning."""
    estimator: str
    """What estimated the codes; "truth" for synthetic portraits."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A finished shard, as its writer reports it to the driver; picklable."""

    file: str
    count: int
    bytes: int
    kind: StoreKind
    rejects: dict[str, str] = field(default_factory=dict)
    """Key of each photo that could not be used -> why."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a store holds: its kind, its shards in the order of their commits, its rejects."""

    kind: StoreKind
    shards: tuple[Shard, ...] = ()
    rejects: dict[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        content = {
            "format": FORMAT,
            "version": VERSION,
            **asdict(self.kind),
            "shards": [{"file": s.file, "count": s.count, "bytes": s.bytes} for s in self.shards],
            "rejects": self.rejects,
        }
        storage.write_bytes(folder / MANIFEST, json.dumps(content, indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> Self:
        if not (folder / MANIFEST).is_file():
            raise DrigError(f"{folder} is not a buffer store: it has no {MANIFEST}. Make one with extract_buffers.")
        try:
            content = json.loads(storage.read_bytes(folder / MANIFEST))
            kind = _kind_of(content, folder)
            shards = tuple(Shard(**entry, kind=kind) for entry in content["shards"])
            return cls(kind=kind, shards=shards, rejects=content["rejects"])
        except (AttributeError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise DrigError(f"{folder / MANIFEST} is damaged ({error}); extract the photos again.") from error


# LMDB must not have one file open twice in a process, so readers of one store share its environments. They are opened
# without locks, which shards that never change do not need: a forked child may go on using them.
_environments: WeakValueDictionary[str, lmdb.Environment] = WeakValueDictionary()
_environments_lock = threading.Lock()


def open_shard(path: Path) -> lmdb.Environment:
    name = str(path.resolve())
    with _environments_lock:
        environment = _environments.get(name)
        if environment is None:
            try:
                environment = lmdb.open(
                    name, subdir=False, lock=False, readonly=True, create=False, readahead=False, max_readers=1
                )
            except lmdb.Error as error:
                raise DrigError(f"{path} cannot be read ({error}); extract the photos again.") from error
            _environments[name] = environment
        return environment


def shard_keys(path: Path) -> list[str]:
    with open_shard(path).begin(buffers=True) as transaction:
        keys = [bytes(key) for key in transaction.cursor().iternext(keys=True, values=False)]
    return [key.decode() for key in keys if key != META_KEY]


def describe_shard(path: Path) -> Shard:
    """What a finished shard says of itself."""
    environment = open_shard(path)
    with environment.begin() as transaction:
        about = json.loads(transaction.get(META_KEY) or b"{}")
    if "rejects" not in about:
        raise DrigError(f"{path} is not a shard of a buffer store; remove it.")
    count = environment.stat()["entries"] - 1
    kind = _kind_of(about, path)
    return Shard(file=path.name, count=count, bytes=path.stat().st_size, kind=kind, rejects=about["rejects"])


def _kind_of(about: dict[str, Any], path: Path) -> StoreKind:
    if (about.get("format"), about.get("version")) != (FORMAT, VERSION):
        given = f"{about.get('format')} version {about.get('version')}"
        raise DrigError(f"{path} is {given}; this drig reads {FORMAT} version {VERSION}: extract the photos again.")
    return StoreKind(size=about["size"], head=about["head"], estimator=about["estimator"])


def check_local(folder: str | Path) -> None:
    if storage.is_s3(folder):
        raise DrigError(
            f"{folder}: LMDB maps files into memory, so a buffer store is written and read in a local folder; "
            "copy the folder with storage.upload_folder and storage.download_folder."
        )


def check_kind(folder: Path, there: StoreKind, wanted: StoreKind) -> None:
    if there != wanted:
        raise DrigError(f"{folder} holds {_in_words(there)}, not {_in_words(wanted)}; name another folder.")


def _in_words(kind: StoreKind) -> str:
    return f"{kind.size} px, head {kind.head}, estimator {kind.estimator}"


def check_length(path: Path, expected: int) -> None:
    length = path.stat().st_size if path.is_file() else 0
    if length != expected:  # reading a file that was cut short would end the process, not raise
        raise DrigError(f"{path} has {length} bytes instead of {expected}; copy the store again.")


def key_bytes(key: str) -> bytes:
    content = key.encode()
    if not 0 < len(content) <= _LONGEST_KEY or content[0] == 0:
        raise DrigError(f"key {key!r}: give 1 to {_LONGEST_KEY} bytes of text.")
    return content
