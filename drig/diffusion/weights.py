"""A rig in one file: safetensors, with the full configuration as JSON metadata.

Tensors carry their state-dict names; what else belongs to the rig (a mean shape, an average code) is kept under
`extra.`. Metadata: `format`, `version`, `config` (the RigConfig as JSON) and `metadata` (the caller's JSON object).
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from drig.diffusion.network import Rig, RigConfig
from drig.errors import DrigError

FORMAT, VERSION = "drig-rig", "1"
DELTA_FORMAT = "drig-delta"
"""Of the files that hold a delta over a rig (`drig.diffusion.deltas`)."""
EXTRA = "extra."


@dataclasses.dataclass(frozen=True)
class LoadedWeights:
    """What a weights file holds."""

    rig: Rig
    """In eval mode, on the CPU."""
    tensors: dict[str, Tensor]
    """The extra tensors."""
    metadata: dict[str, Any]
    """The caller's JSON object."""


def save_weights(
    path: str | Path,
    rig: Rig,
    extra_tensors: Mapping[str, Tensor] = {},
    metadata: Mapping[str, Any] = {},
    *,
    half: bool = False,
) -> None:
    """Write the rig, the extra tensors and the JSON-serialisable metadata to `path`, whole or not at all.

    half: keep the matrices and kernels in float16, which halves the file; whoever loads them computes in float32.
    Raises DrigError where the place cannot be written to.
    """
    tensors = {name: t.half() if half and t.ndim > 1 else t for name, t in rig.state_dict().items()}
    tensors |= {EXTRA + name: tensor for name, tensor in extra_tensors.items()}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "config": json.dumps(dataclasses.asdict(rig.config)),
        "metadata": json.dumps(dict(metadata)),
    }
    write_file(Path(path), header, tensors)


def write_file(path: Path, header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file, whole or not at all. Raises DrigError where the place cannot be written to."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        save_file(
            {name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary, metadata=dict(header)
        )
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise DrigError(
            f"cannot write weights to {path}: {error}. Choose a folder that exists and is writable."
        ) from error


def load_weights(path: str | Path, *, size: int | None = None) -> LoadedWeights:
    """Read what `save_weights` wrote. `size`: the image size that the caller needs, pixels; None takes any.

    Raises DrigError for a file that is missing, damaged, not a rig's, of another size than asked for, whose tensors
    are not those of its configuration, or hold numbers that are not finite.
    """
    header, tensors = read_file(Path(path))
    if header.get("format") == DELTA_FORMAT:
        raise DrigError(
            f"{path} is a delta: it needs its base, and cannot stand where a whole rig is wanted. "
            "Give the weights of a whole rig, such as its base's."
        )
    config = read_config(path, header, FORMAT, VERSION)
    if size is not None and config.size != size:
        raise DrigError(
            f"{path} holds a rig for {config.size} px and {size} px are needed. "
            f"Use weights trained at {size} px, or work at {config.size} px."
        )
    extra = {name.removeprefix(EXTRA): tensors.pop(name) for name in list(tensors) if name.startswith(EXTRA)}
    with torch.device("meta"):  # the shapes without the cost of initial weights
        rig = Rig(config)
    tensors = in_full(tensors)
    problems = _differences(rig.state_dict(), tensors)
    if problems:
        raise DrigError(
            f"{path}: {len(problems)} of its tensors are not those of the configuration it carries: "
            f"{'; '.join(problems[:3])}. The file was altered after it was written: get it again."
        )
    require_finite(path, tensors)
    rig.load_state_dict(tensors, assign=True)
    return LoadedWeights(rig.eval(), extra, json.loads(header["metadata"]))


def read_file(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of a safetensors file. Raises DrigError for one that is missing or damaged."""
    if not path.is_file():
        raise DrigError(f"no weights at {path}. Give the path of a .safetensors file that training wrote.")
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DrigError(
            f"{path} is not a safetensors file, or part of it is missing: {error}. Get it again."
        ) from error


def read_extra(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The caller's JSON object and the extra tensors of a rig's file or a delta's, without the rig.

    Raises DrigError for a file that is missing or damaged.
    """
    if not path.is_file():
        raise DrigError(f"no weights at {path}. Give the path of a .safetensors file that training wrote.")
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(EXTRA)]  # noqa: SIM118
            extra = {name.removeprefix(EXTRA): file.get_tensor(name) for name in names}
            return dict(json.loads((file.metadata() or {}).get("metadata", "{}"))), extra
    except SafetensorError as error:
        raise DrigError(
            f"{path} is not a safetensors file, or part of it is missing: {error}. Get it again."
        ) from error


def in_full(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file as a rig has them: what was kept in half precision in float32."""
    return {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in tensors.items()}


def read_config(path: str | Path, header: Mapping[str, str], file_format: str, version: str) -> RigConfig:
    """The configuration that a file of our making carries. Raises DrigError for another format, and for a bad one."""
    if (header.get("format"), header.get("version")) != (file_format, version):
        raise DrigError(
            f"{path} says format {header.get('format')!r}, version {header.get('version')!r}; wanted are "
            f"{file_format!r}, {version!r}. Give a file that this version's training wrote."
        )
    try:
        fields: dict[str, Any] = json.loads(header["config"])
        tuples: dict[str, Any] = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return RigConfig(**(fields | tuples))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise DrigError(
            f"{path} carries a configuration that cannot be read: {error!r}. Get the file again."
        ) from error


def require_finite(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises DrigError where a training that diverged left its traces."""
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        raise DrigError(
            f"{path} has numbers that are not finite, in {len(bad)} of its tensors, the first {bad[0]}. "
            "Train it again at a lower learning_rate, or take an earlier checkpoint."
        )


def _differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """One line for each name that only one side has, or whose shape or type differs."""
    lines = [f"{name} is missing" for name in expected.keys() - found.keys()]
    lines += [f"{name} is not part of the rig" for name in found.keys() - expected.keys()]
    for name in expected.keys() & found.keys():
        want, got = expected[name], found[name]
        if (want.shape, want.dtype) != (got.shape, got.dtype):
            lines.append(f"{name} is {got.dtype} {tuple(got.shape)} instead of {want.dtype} {tuple(want.shape)}")
    return sorted(lines)
