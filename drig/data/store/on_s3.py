"""A buffer store that is written to S3 shard by shard: no disk holds more of it than the shard that is being written.

Before a shard goes its description, `shard-<hex>.json`: what the manifest will say of it, its rejects and its keys. An
uploaded shard is there whole or not at all, so the next run, on any machine, takes over shards that are not in the
manifest yet and knows what is done without reading a shard. Readers need the manifest and the shards only.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from drig import storage
from drig.data.records import FORMAT, VERSION
from drig.data.store import MANIFEST, BufferStore, Manifest, Shard, ShardWriter, StoreKind, commit_shards
from drig.data.store.writing import RECORDS_A_SHARD
from drig.errors import DrigError, MissingFile
from drig.patience import patiently

MANIFEST_EVERY_S = 60.0
"""The manifest grows with the store, so it is not written with every shard."""
_READERS = 16  # descriptions that are read at once; each is a request of some 20 ms


class S3StoreWriter:
    """As `BufferStoreWriter`, with a store at an s3:// prefix. Only one may write there at a time.

    Args:
        patience_s: how long to wait for an S3 that does not answer. Then its error is raised.
    """

    def __init__(
        self, place: str, *, size: int, head: str, estimator: str, shard: int = RECORDS_A_SHARD, patience_s: float = 0.0
    ) -> None:
        self._place = place
        self._kind = StoreKind(size=size, head=head, estimator=estimator)
        self._records_a_shard = shard
        self._patience_s = patience_s
        self._shards: list[Shard] = []
        self._rejects: dict[str, str] = {}
        self._stored: set[str] = set()
        self._writer: ShardWriter | None = None
        self._keys: list[str] = []
        self._entries = 0
        self._saved = 0.0
        self._scratch = tempfile.TemporaryDirectory(prefix="drig-shard-")
        self._resume()

    @property
    def done(self) -> set[str]:
        """Keys that were stored or rejected, by earlier runs too."""
        return self._stored | self._rejects.keys()

    @property
    def rejects(self) -> dict[str, str]:
        """Key of each photo that could not be used -> why."""
        return dict(self._rejects)

    def put_encoded(self, key: str, content: bytes) -> None:
        """Add a record that `records.encode` has turned into bytes."""
        self._open().put_encoded(key, content)
        self._keys.append(key)

    def reject(self, key: str, reason: str) -> None:
        """Note a photo that cannot be used, so that it is counted and not tried again."""
        self._open().reject(key, reason)

    def _open(self) -> ShardWriter:
        if self._entries == self._records_a_shard:
            self._commit()
        if self._writer is None:
            self._writer = ShardWriter(self._scratch.name, **asdict(self._kind))
        self._entries += 1
        return self._writer

    def _commit(self) -> None:
        if self._writer is None:
            return
        shard, keys = self._writer.finish(), self._keys
        self._writer, self._keys, self._entries = None, [], 0
        file = Path(self._scratch.name) / shard.file
        about = {"format": FORMAT, "version": VERSION, "shard": asdict(shard), "keys": keys}
        self._upload(_description_of(shard.file), json.dumps(about).encode())
        patiently(lambda: storage.upload_file(file, self._at(shard.file)), self._patience_s)
        file.unlink()
        self._take(shard, keys)
        if time.monotonic() - self._saved > MANIFEST_EVERY_S:
            self._save()

    def _take(self, shard: Shard, keys: Sequence[str]) -> None:
        self._shards.append(shard)
        self._stored.update(keys)
        self._rejects.update((key, reason) for key, reason in shard.rejects.items() if key not in self._stored)
        for key in keys:
            self._rejects.pop(key, None)  # an earlier run's

    def _resume(self) -> None:
        """Read what earlier runs have left, and list all of it."""
        if not storage.exists(self._place):
            return
        shards = read_manifest(self._place).shards if storage.exists(self._at(MANIFEST)) else ()
        listed = [shard.file for shard in shards]
        there = {Path(file).name for file in storage.list_files(self._place, recursive=False)}
        unlisted = sorted(name for name in there.difference(listed) if name.endswith(".lmdb"))
        with ThreadPoolExecutor(_READERS) as pool:
            for shard, keys in pool.map(self._read_description, [*listed, *unlisted]):
                self._take(shard, keys)
        if unlisted:
            self._save()

    def _read_description(self, file: str) -> tuple[Shard, list[str]]:
        place = self._at(_description_of(file))
        try:
            about: dict[str, Any] = json.loads(storage.read_bytes(place))
            shard = Shard(**{**about["shard"], "kind": StoreKind(**about["shard"]["kind"])})
            keys: list[str] = about["keys"]
            known = (about["format"], about["version"]) == (FORMAT, VERSION)
        except MissingFile as error:
            raise DrigError(
                f"{self._place} was copied to S3, not written there: {file} has no list of its keys. Continue the "
                "local store, or name another prefix."
            ) from error
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise DrigError(f"{place} is damaged ({error}); name another prefix.") from error
        if not known:
            raise DrigError(
                f"{place} is of another version of drig: name another prefix, and extract the photos again."
            )
        if shard.kind != self._kind:
            raise DrigError(
                f"{self._place} holds {shard.kind.size} px, head {shard.kind.head}, estimator {shard.kind.estimator}; "
                "name another prefix."
            )
        return shard, keys

    def _save(self) -> None:
        manifest = Manifest(kind=self._kind, shards=tuple(self._shards), rejects=self._rejects)
        manifest.save(Path(self._scratch.name))
        self._upload(MANIFEST, (Path(self._scratch.name) / MANIFEST).read_bytes())
        self._saved = time.monotonic()

    def _upload(self, name: str, content: bytes) -> None:
        patiently(lambda: storage.write_bytes(self._at(name), content), self._patience_s)

    def _at(self, name: str) -> str:
        return storage.join(self._place, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is not None:
            self._patience_s = 0.0  # one wait for an outage is enough
        try:
            self._commit()
            if self._shards:
                self._save()
        finally:
            self._scratch.cleanup()


def read_manifest(place: str) -> Manifest:
    """What the store at an s3:// prefix holds. Raises DrigError where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        storage.download_file(storage.join(place, MANIFEST), Path(folder) / MANIFEST)
        return Manifest.load(Path(folder))


def copy_shards(place: str, folder: Path, chosen: Sequence[Shard]) -> BufferStore:
    """Some shards of a store on S3 as a store of their own in a local folder."""
    for shard in chosen:
        storage.download_file(storage.join(place, shard.file), folder / shard.file)
    commit_shards(folder, chosen)
    return BufferStore(folder)


def _description_of(file: str) -> str:
    return str(Path(file).with_suffix(".json"))
