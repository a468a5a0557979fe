"""A delta in one file: safetensors, the format of a rig's weights (`drig.diffusion.weights`) for what differs.

Tensors: of every layer of the UNet, `<layer>.down`, `.up` and `.bias` of a convolution or linear layer, `.weight` and
`.bias` of a norm; what else belongs to the person is kept under `extra.`. Metadata: `format`, `version`, `base` (the
base's `content_hash`), `config` (its RigConfig as JSON) and `metadata` (the caller's JSON object).
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from drig.diffusion.deltas.changes import Affine, Change, LowRank, LowRankLayer
from drig.diffusion.deltas.delta import Delta, changeable_layers
from drig.diffusion.deltas.hashing import content_hash
from drig.diffusion.network import Rig
from drig.diffusion.weights import (
    DELTA_FORMAT,
    EXTRA,
    LoadedWeights,
    load_weights,
    read_config,
    read_file,
    require_finite,
    write_file,
)
from drig.errors import DrigError

VERSION = "1"


@dataclasses.dataclass(frozen=True)
class LoadedDelta:
    """What a delta file holds."""

    delta: Delta
    """In float32, on the CPU."""
    tensors: dict[str, Tensor]
    """The extra tensors."""
    metadata: dict[str, Any]
    """The caller's JSON object."""


def is_delta(path: str | Path) -> bool:
    """Whether a file is a delta's, by its header. False for what cannot be read: its reader will say why."""
    try:
        with safe_open(path, framework="pt") as file:
            return bool((file.metadata() or {}).get("format") == DELTA_FORMAT)
    except (OSError, SafetensorError):
        return False


def save_delta(
    path: str | Path,
    delta: Delta,
    extra_tensors: Mapping[str, Tensor] = {},
    metadata: Mapping[str, Any] = {},
    *,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write the delta in `dtype`, the extra tensors in theirs and the JSON-serialisable metadata, whole or not at all.

    float16 is eight times as precise as bfloat16 here, where no number comes near its largest. Raises DrigError where
    the place cannot be written to.
    """
    changes = {
        f"{name}.{part}": tensor.detach().to(dtype)
        for name, change in delta.changes.items()
        for part, tensor in change.named_parameters()
    }
    header = {
        "format": DELTA_FORMAT,
        "version": VERSION,
        "base": delta.base,
        "config": json.dumps(dataclasses.asdict(delta.config)),
        "metadata": json.dumps(dict(metadata)),
    }
    write_file(Path(path), header, changes | {EXTRA + name: tensor for name, tensor in extra_tensors.items()})


def load_delta(path: str | Path, rig: Rig, base: str) -> LoadedDelta:
    """Read what `save_delta` wrote. `rig`: the base in memory, `base`: the `content_hash` of its tensors.

    Raises DrigError for a file that is missing, damaged, not a delta's, of another base, whose tensors are not of its
    base's shapes, or that holds what is no finite number.
    """
    header, tensors = read_file(Path(path))
    config = read_config(path, header, DELTA_FORMAT, VERSION)
    if header.get("base") != base:
        raise DrigError(
            f"{path} is a delta over the base {header.get('base', 'of no name')[:16]}.., and this base is "
            f"{base[:16]}... Give the weights that it was trained from."
        )
    extra = {name.removeprefix(EXTRA): tensors.pop(name) for name in list(tensors) if name.startswith(EXTRA)}
    layers = dict(changeable_layers(rig))
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer, _, part = name.rpartition(".")
        parts.setdefault(layer, {})[part] = tensor.float()
    names = sorted(layers.keys() | parts.keys())
    problems = [line for name in names for line in _problems(name, layers.get(name), parts.get(name, {}))]
    if problems:
        raise DrigError(
            f"{path}: {len(problems)} of its layers are not what a delta over its base can have: "
            f"{'; '.join(problems[:3])}. The file was altered after it was written: get it again."
        )
    require_finite(path, tensors)
    changes: dict[str, Change] = {
        name: Affine(**found) if isinstance(layers[name], nn.GroupNorm) else LowRank(**found)
        for name, found in parts.items()
    }
    return LoadedDelta(Delta(base, config, changes), extra, json.loads(header["metadata"]))


def load_merged(path: str | Path, base: str | Path | None) -> LoadedWeights:
    """The whole rig of a person: of a file of weights as they are, of a delta merged into its `base`, a weights file.

    The extra tensors and the metadata are the person's. Raises DrigError as `load_weights` and `load_delta` do, and for
    a delta without a base.
    """
    if not is_delta(path):
        return load_weights(path)
    if base is None:
        raise DrigError(f"{path} is a delta: give the weights of the base rig that it was trained over, too")
    rig = load_weights(base).rig
    found = load_delta(path, rig, content_hash(rig.state_dict()))
    found.delta.merge_into(rig)
    return LoadedWeights(rig, found.tensors, found.metadata)


def _problems(name: str, layer: LowRankLayer | nn.GroupNorm | None, found: Mapping[str, Tensor]) -> list[str]:
    """What is wrong with a layer's tensors, in at most one line."""
    if layer is None:
        return [f"{name} is no layer of the UNet"]
    outputs, *inputs = layer.weight.shape
    if isinstance(layer, nn.GroupNorm):
        wanted: dict[str, tuple[int, ...]] = {"weight": (outputs,), "bias": (outputs,)}
    else:
        rank = max(1, found["up"].shape[-1]) if "up" in found and found["up"].ndim else 1
        wanted = {"down": (rank, *inputs), "up": (outputs, rank), "bias": (outputs,)}
    shapes = {part: tuple(tensor.shape) for part, tensor in found.items()}
    return [] if shapes == wanted else [f"{name} has {shapes} instead of {wanted}"]
