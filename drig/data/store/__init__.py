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

from drig.data.store.reading import BufferStore, PackedDataset, StoreDataset
from drig.data.store.shards import MANIFEST, Manifest, Shard, StoreKind
from drig.data.store.writing import BufferStoreWriter, ShardWriter, commit_shards, resume

__all__ = [
    "MANIFEST",
    "BufferStore",
    "BufferStoreWriter",
    "Manifest",
    "PackedDataset",
    "Shard",
    "ShardWriter",
    "StoreDataset",
    "StoreKind",
    "commit_shards",
    "resume",
]
