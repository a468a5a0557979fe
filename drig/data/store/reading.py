"""Reading a store, record by record or as a data set to train on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
from torch import Tensor
from torch.utils.data import Dataset

from drig.data.items import Item, unpacked
from drig.data.records import Record, decode, decode_packed
from drig.data.store.shards import (
    Manifest,
    check_kind,
    check_length,
    check_local,
    describe_shard,
    key_bytes,
    open_shard,
    shard_keys,
)
from drig.errors import DrigError


class BufferStore:
    """Reads a store. Records are ordered by key, whatever shards they lie in. Picklable; safe to fork."""

    def __init__(self, folder: str | Path) -> None:
        """Raises DrigError for a folder that is no store of this version, or is damaged or incomplete."""
        check_local(folder)
        self.folder = Path(folder)
        self.manifest = Manifest.load(self.folder)
        shard_of: dict[str, int] = {}
        for index, shard in enumerate(self.manifest.shards):
            check_length(self.folder / shard.file, shard.bytes)
            check_kind(self.folder, self.manifest.kind, describe_shard(self.folder / shard.file).kind)
            shard_of.update(dict.fromkeys(shard_keys(self.folder / shard.file), index))
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
            self._open[index] = open_shard(self.folder / self.manifest.shards[index].file)
        with self._open[index].begin() as transaction:
            content = transaction.get(key_bytes(key))
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


@contextmanager
def _named(folder: Path, key: str) -> Iterator[None]:
    try:
        yield
    except DrigError as error:
        raise DrigError(f"{folder}, {key!r}: {error}") from error
