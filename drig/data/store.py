"""Buffer store: a folder of LMDB shards that a manifest lists; `docs/buffer-store.md` is the written format.

Writers never touch each other: each fills a shard of its own under a temporary name, then renames it. One process, the
driver of the job, commits finished shards to the manifest, so a store only ever holds whole records of whole shards.
The same command run again goes on where the last one stopped:

    done = resume(folder, size=256, head="open", estimator="fit")      # driver, before
    with ShardWriter(folder, ...) as writer:                           # any number of tasks, one shard each
        writer.put(record)
    commit_shards(folder, [writer.shard])                              # driver, as shards come in

A single process needs `BufferStoreWriter` only.
"""

import json
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from weakref import WeakValueDictionary

import lmdb
from torch import Tensor
from torch.utils.data import Dataset

from drig import storage
from drig.data.items import Item, unpacked
from drig.data.records import FORMAT, VERSION, Record, decode, decode_packed, describe, encode
from drig.errors import DrigError

MANIFEST = "manifest.json"
RECORDS_A_SHARD = 1024  # what a single process loses at most when it is killed: about 150 MB at 256 px
_META_KEY = b"\0meta"  # record keys never begin with NUL
_LONGEST_KEY = 511  # bytes, LMDB's limit
_BATCH = 64  # records a transaction
_FIRST_MAP_SIZE = 1 << 26


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


class ShardWriter:
    """Writes one shard. A context manager: the shard is finished at the end, and removed if an error ends it."""

    def __init__(self, folder: str | Path, *, size: int, head: str, estimator: str) -> None:
        self.kind = StoreKind(size=size, head=head, estimator=estimator)
        self._rejects: dict[str, str] = {}
        self._pending: dict[bytes, bytes] = {}
        self._shard: Shard | None = None
        self._path = Path(folder) / f"shard-{uuid.uuid4().hex}.lmdb"
        self._temporary = self._path.with_suffix(".tmp")
        _check_local(folder)
        with _writing(folder):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # One writer, no reader: no lock is needed, and one sync at the end suffices.
            self._lmdb = lmdb.open(
                str(self._temporary), subdir=False, lock=False, sync=False, map_size=_FIRST_MAP_SIZE, readahead=False
            )

    def put(self, record: Record) -> None:
        """Add a record; one that is there under the same key is replaced."""
        self.put_encoded(record.key, encode(record))

    def put_encoded(self, key: str, content: bytes) -> None:
        """`put` for a record that `records.encode` has turned into bytes elsewhere."""
        named, size = describe(content)
        if named != key:
            raise DrigError(f"the record of {named!r} cannot be put under {key!r}.")
        if size != self.kind.size:
            raise DrigError(f"record {key!r} has {size} px, this store {self.kind.size} px.")
        self._pending[_key_bytes(key)] = content
        if len(self._pending) >= _BATCH:
            self._flush()

    def reject(self, key: str, reason: str) -> None:
        """Note a photo that cannot be used, so that it is counted and not tried again."""
        self._rejects[key] = reason

    def finish(self) -> Shard:
        """Give the shard its final name, complete and on the disk."""
        about = {"format": FORMAT, "version": VERSION, **asdict(self.kind), "rejects": self._rejects}
        self._pending[_META_KEY] = json.dumps(about).encode()
        try:
            self._flush()
            with _writing(self._path):
                count = self._lmdb.stat()["entries"] - 1
                self._lmdb.sync(True)
                self._lmdb.close()
                self._temporary.replace(self._path)
                length = self._path.stat().st_size
        except DrigError:
            self.abandon()
            raise
        self._shard = Shard(file=self._path.name, count=count, bytes=length, kind=self.kind, rejects=self._rejects)
        return self._shard

    def abandon(self) -> None:
        """Remove what was written."""
        self._lmdb.close()
        self._temporary.unlink(missing_ok=True)

    @property
    def shard(self) -> Shard:
        """What `finish` gave."""
        assert self._shard is not None, "the shard is not finished"
        return self._shard

    def _flush(self) -> None:
        with _writing(self._path):
            while self._pending:
                try:
                    with self._lmdb.begin(write=True) as transaction:
                        for key, content in self._pending.items():
                            transaction.put(key, content)
                    self._pending = {}
                except lmdb.MapFullError:
                    self._lmdb.set_mapsize(2 * self._lmdb.info()["map_size"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None:
            self.finish()
        else:
            self.abandon()


def commit_shards(folder: str | Path, shards: Iterable[Shard]) -> Manifest:
    """Add finished shards to a store's manifest; ones that it lists are skipped. Only one process may commit.

    Where two shards hold the same key, the one committed last counts. Shards of another kind raise DrigError.
    """
    folder = Path(folder)
    manifest = Manifest.load(folder) if (folder / MANIFEST).exists() else None
    for shard in shards:
        if manifest is None:
            manifest = Manifest(kind=shard.kind)
        _check_kind(folder, manifest.kind, shard.kind)
        if shard.file not in {listed.file for listed in manifest.shards}:
            rejects = {**manifest.rejects, **shard.rejects}
            manifest = replace(manifest, shards=(*manifest.shards, shard), rejects=rejects)
    assert manifest is not None, "a store begins with its first shard"
    manifest.save(folder)
    return manifest


def resume(folder: str | Path, *, size: int, head: str, estimator: str) -> set[str]:
    """Ready a folder for a job that may have been interrupted; the keys that it has done: stored or rejected.

    Finished shards that never came to be committed are committed, unfinished ones removed: no other job may be writing
    here. A store of another kind raises DrigError.
    """
    _check_local(folder)
    folder = Path(folder)
    if not folder.exists():
        return set()
    listed: set[str] = set()
    if (folder / MANIFEST).exists():
        manifest = Manifest.load(folder)
        _check_kind(folder, manifest.kind, StoreKind(size=size, head=head, estimator=estimator))
        listed = {shard.file for shard in manifest.shards}
    for unfinished in folder.glob("shard-*.tmp"):
        unfinished.unlink()
    finished = [_describe_shard(path) for path in sorted(folder.glob("shard-*.lmdb")) if path.name not in listed]
    if finished:
        commit_shards(folder, finished)
    if not listed and not finished:
        return set()
    store = BufferStore(folder)
    return {*store.keys(), *store.rejects}


class BufferStoreWriter:
    """Writes a store from one process: a context manager around shards that are committed as they fill up.

    What was put before an error is kept. `done` holds the keys that earlier runs stored or rejected.
    """

    def __init__(
        self, folder: str | Path, *, size: int, head: str, estimator: str, shard: int = RECORDS_A_SHARD
    ) -> None:
        """`shard`: records after which a shard is committed."""
        self._folder = Path(folder)
        self._records_a_shard = shard
        self._kind = StoreKind(size=size, head=head, estimator=estimator)
        self.done = resume(folder, size=size, head=head, estimator=estimator)
        self._shard: ShardWriter | None = None
        self._entries = 0

    @property
    def rejects(self) -> dict[str, str]:
        """Key of each photo that could not be used -> why, as far as they are committed."""
        return BufferStore(self._folder).rejects if (self._folder / MANIFEST).exists() else {}

    def put(self, record: Record) -> None:
        """Add a record; one that is there under the same key is replaced."""
        self._writer().put(record)

    def put_encoded(self, key: str, content: bytes) -> None:
        """As `put`, for a record of this store's size that another process has encoded."""
        self._writer().put_encoded(key, content)

    def reject(self, key: str, reason: str) -> None:
        """Note a photo that cannot be used, so that it is counted and not tried again."""
        self._writer().reject(key, reason)

    def _writer(self) -> ShardWriter:
        if self._entries == self._records_a_shard:
            self._commit()
        if self._shard is None:
            self._shard = ShardWriter(self._folder, **asdict(self._kind))
        self._entries += 1
        return self._shard

    def _commit(self) -> None:
        if self._shard is not None:
            commit_shards(self._folder, [self._shard.finish()])
        self._shard, self._entries = None, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._commit()


class BufferStore:
    """Reads a store. Records are ordered by key, whatever shards they lie in. Picklable; safe to fork."""

    def __init__(self, folder: str | Path) -> None:
        """Raises DrigError for a folder that is no store of this version, or is damaged or incomplete."""
        _check_local(folder)
        self.folder = Path(folder)
        self.manifest = Manifest.load(self.folder)
        shard_of: dict[str, int] = {}
        for index, shard in enumerate(self.manifest.shards):
            _check_length(self.folder / shard.file, shard.bytes)
            _check_kind(self.folder, self.manifest.kind, _describe_shard(self.folder / shard.file).kind)
            shard_of.update(dict.fromkeys(_shard_keys(self.folder / shard.file), index))
        self._keys = sorted(shard_of)
        self._shard_of = shard_of
        self._open: dict[int, lmdb.Environment] = {}

    @property
    def size(self) -> int:
        """Side of portraits and buffers in pixels."""
        return self.manifest.kind.size

    @property
    def rejects(self) -> dict[str, str]:
        """Key of each photo that could not be used -> why."""
        return {key: reason for key, reason in self.manifest.rejects.items() if key not in self._shard_of}

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> list[str]:
        return list(self._keys)

    def read(self, which: str | int) -> Record:
        """A record by its key or by its place in the order of keys. An unknown key raises DrigError."""
        key, content = self._content(which)
        with _named(self.folder, key):
            return decode(content)

    def read_packed(self, which: str | int) -> Item:
        """The same as a packed training item (`drig.data.items`)."""
        key, content = self._content(which)
        with _named(self.folder, key):
            return decode_packed(content)

    def read_for_network(self, which: str | int) -> tuple[Tensor, Tensor]:
        """(3, S, S) image in [-1, 1] and (9, S, S) buffers: rendered, normal, albedo."""
        item = unpacked({name: tensor[None] for name, tensor in self.read_packed(which).items()})
        return item["image"][0], item["buffers"][0]

    def _content(self, which: str | int) -> tuple[str, bytes]:
        key = which if isinstance(which, str) else self._keys[which]
        if key not in self._shard_of:
            raise DrigError(f"{self.folder} has no record {key!r}; it holds {len(self)}, such as {self._keys[:3]}.")
        index = self._shard_of[key]
        if index not in self._open:
            self._open[index] = _open_shard(self.folder / self.manifest.shards[index].file)
        with self._open[index].begin() as transaction:
            content = transaction.get(_key_bytes(key))
        if content is None:
            raise DrigError(f"{self.folder} is damaged: record {key!r} has gone; copy the store again.")
        return key, content

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # another process opens the shards itself


class PackedDataset(Dataset[Item]):
    """A store as packed training items (`drig.data.items`), in the order of keys: what a training run reads."""

    def __init__(self, store: BufferStore | str | Path) -> None:
        self.store = store if isinstance(store, BufferStore) else BufferStore(store)
        if not len(self.store):
            raise DrigError(f"{self.store.folder} holds no record: all {len(self.store.rejects)} photos were rejected.")

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> Item:
        return self.store.read_packed(index)


class StoreDataset(PackedDataset):
    """The same as the network takes it: `image` (3, S, S) float32 in [-1, 1] and `buffers` (9, S, S) float32."""

    def __getitem__(self, index: int) -> Item:
        image, buffers = self.store.read_for_network(index)
        return {"image": image, "buffers": buffers}


# LMDB must not have one file open twice in a process, so readers of one store share its environments. They are opened
# without locks, which shards that never change do not need: a forked child may go on using them.
_environments: WeakValueDictionary[str, lmdb.Environment] = WeakValueDictionary()
_environments_lock = threading.Lock()


def _open_shard(path: Path) -> lmdb.Environment:
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


def _shard_keys(path: Path) -> list[str]:
    with _open_shard(path).begin(buffers=True) as transaction:
        keys = [bytes(key) for key in transaction.cursor().iternext(keys=True, values=False)]
    return [key.decode() for key in keys if key != _META_KEY]


def _describe_shard(path: Path) -> Shard:
    """What a finished shard says of itself."""
    environment = _open_shard(path)
    with environment.begin() as transaction:
        about = json.loads(transaction.get(_META_KEY) or b"{}")
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


def _check_local(folder: str | Path) -> None:
    if storage.is_s3(folder):
        raise DrigError(
            f"{folder}: LMDB maps files into memory, so a buffer store is written and read in a local folder; "
            "copy the folder with storage.upload_folder and storage.download_folder."
        )


def _check_kind(folder: Path, there: StoreKind, wanted: StoreKind) -> None:
    if there != wanted:
        raise DrigError(f"{folder} holds {_in_words(there)}, not {_in_words(wanted)}; name another folder.")


def _in_words(kind: StoreKind) -> str:
    return f"{kind.size} px, head {kind.head}, estimator {kind.estimator}"


def _check_length(path: Path, expected: int) -> None:
    length = path.stat().st_size if path.is_file() else 0
    if length != expected:  # reading a file that was cut short would end the process, not raise
        raise DrigError(f"{path} has {length} bytes instead of {expected}; copy the store again.")


def _key_bytes(key: str) -> bytes:
    content = key.encode()
    if not 0 < len(content) <= _LONGEST_KEY or content[0] == 0:
        raise DrigError(f"key {key!r}: give 1 to {_LONGEST_KEY} bytes of text.")
    return content


@contextmanager
def _named(folder: Path, key: str) -> Iterator[None]:
    try:
        yield
    except DrigError as error:
        raise DrigError(f"{folder}, {key!r}: {error}") from error


@contextmanager
def _writing(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (lmdb.Error, OSError) as error:
        raise DrigError(f"cannot write {path}: {error}.") from error
