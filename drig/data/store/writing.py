"""Writing shards, and adding finished ones to a store."""

import json
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import lmdb

from drig.data.records import FORMAT, VERSION, Record, describe, encode
from drig.data.store.reading import BufferStore
from drig.data.store.shards import (
    MANIFEST,
    META_KEY,
    Manifest,
    Shard,
    StoreKind,
    check_kind,
    check_local,
    describe_shard,
    key_bytes,
)
from drig.errors import DrigError

RECORDS_A_SHARD = 1024  # what a single process loses at most when it is killed: about 150 MB at 256 px
_BATCH = 64  # records a transaction
_FIRST_MAP_SIZE = 1 << 26


class ShardWriter:
    """Writes one shard. A context manager: the shard is finished at the end, and removed if an error ends it."""

    def __init__(self, folder: str | Path, *, size: int, head: str, estimator: str) -> None:
        self.kind = StoreKind(size=size, head=head, estimator=estimator)
        self._rejects: dict[str, str] = {}
        self._pending: dict[bytes, bytes] = {}
        self._shard: Shard | None = None
        self._path = Path(folder) / f"shard-{uuid.uuid4().hex}.lmdb"
        self._temporary = self._path.with_suffix(".tmp")
        check_local(folder)
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
        self._pending[key_bytes(key)] = content
        if len(self._pending) >= _BATCH:
            self._flush()

    def reject(self, key: str, reason: str) -> None:
        """Note a photo that cannot be used, so that it is counted and not tried again."""
        self._rejects[key] = reason

    def finish(self) -> Shard:
        """Give the shard its final name, complete and on the disk."""
        about = {"format": FORMAT, "version": VERSION, **asdict(self.kind), "rejects": self._rejects}
        self._pending[META_KEY] = json.dumps(about).encode()
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
        check_kind(folder, manifest.kind, shard.kind)
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
    check_local(folder)
    folder = Path(folder)
    if not folder.exists():
        return set()
    listed: set[str] = set()
    if (folder / MANIFEST).exists():
        manifest = Manifest.load(folder)
        check_kind(folder, manifest.kind, StoreKind(size=size, head=head, estimator=estimator))
        listed = {shard.file for shard in manifest.shards}
    for unfinished in folder.glob("shard-*.tmp"):
        unfinished.unlink()
    finished = [describe_shard(path) for path in sorted(folder.glob("shard-*.lmdb")) if path.name not in listed]
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


@contextmanager
def _writing(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (lmdb.Error, OSError) as error:
        raise DrigError(f"cannot write {path}: {error}.") from error
