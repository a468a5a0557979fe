"""Identities as small deltas over one shared base rig: 7 MB a person instead of 530 MB.

    delta = Delta.start(rig, rank=8, generator=generator)   # or Delta.between(rig, tuned, rank=8)
    with attached(rig, delta):                              # train it
        rig.denoise(x_t, t, buffers, code)
    with merged(rig, delta):                                # edit with it
        ...
    save_delta("ann.safetensors", delta)

A delta belongs to the very tensors of its base: it names them by `content_hash`.
"""

from drig.diffusion.deltas.delta import Delta, attached, merged
from drig.diffusion.deltas.files import LoadedDelta, is_delta, load_delta, load_merged, save_delta
from drig.diffusion.deltas.hashing import content_hash

__all__ = [
    "Delta",
    "LoadedDelta",
    "attached",
    "content_hash",
    "is_delta",
    "load_delta",
    "load_merged",
    "merged",
    "save_delta",
]
