"""Checkpoints of a run: folders `checkpoint_<samples seen>` in its work folder.

    rig.safetensors        the weights; delta.safetensors, in float32, where a delta over a base is trained
    ema.safetensors        the averaged weights or delta, if the run has them
    optimizer.safetensors  Adam's state, `<parameter>/<moment>`
    progress.json          samples seen, both configs, the dataset's size, last metrics, SHA-256 of the other files

A folder is written under a temporary name and renamed when complete; a damaged one is passed over for the one before.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from drig import storage
from drig.config import flatten
from drig.diffusion.deltas import Delta, load_delta, save_delta
from drig.diffusion.network import Rig
from drig.diffusion.weights import load_weights, save_weights
from drig.errors import DrigError
from drig.training.config import CHANGEABLE, TrainingConfig
from drig.training.ema import Ema

log = logging.getLogger(__name__)

FORMAT = "drig-checkpoint-1"
PREFIX = "checkpoint_"
PROGRESS = "progress.json"


@dataclass
class State:
    """All that training changes, and what a checkpoint of it must agree with."""

    rig: Rig
    delta: Delta | None
    """What is trained instead of the rig, if anything is."""
    ema: Ema[Rig | Delta] | None
    optimizer: torch.optim.Optimizer
    config: TrainingConfig
    dataset_size: int
    samples_seen: int
    metrics: dict[str, float]

    @property
    def trained(self) -> Rig | Delta:
        return self.rig if self.delta is None else self.delta

    def networks(self) -> dict[str, Rig | Delta]:
        """What a checkpoint holds, by file name."""
        name = "rig.safetensors" if self.delta is None else "delta.safetensors"
        return {name: self.trained} | ({"ema.safetensors": self.ema.average} if self.ema else {})

    def identity(self) -> dict[str, Any]:
        """What has to be equal for one run to be the continuation of another, as flat JSON values."""
        training = {f"training.{k}": v for k, v in flatten(self.config).items() if k not in CHANGEABLE}
        rig = {f"rig.{k}": v for k, v in flatten(self.rig.config).items()}
        return {**training, **rig, "dataset size": self.dataset_size}


def save(workdir: Path, state: State) -> Path:
    """Write the checkpoint of `state`, then delete all but the newest `config.keep`; returns its folder."""
    folder = workdir / f"{PREFIX}{state.samples_seen:012d}"
    temporary = workdir / f".{folder.name}.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, network in state.networks().items():
            if isinstance(network, Delta):
                save_delta(temporary / name, network, dtype=torch.float32)
            else:
                save_weights(temporary / name, network)
        save_file(_optimizer_tensors(state), temporary / "optimizer.safetensors")
        progress = {
            "format": FORMAT,
            "samples_seen": state.samples_seen,
            "identity": state.identity(),
            "metrics": state.metrics,
            "files": {path.name: storage.sha256(path) for path in sorted(temporary.iterdir())},
        }
        (temporary / PROGRESS).write_text(json.dumps(progress, indent=2))
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one of the same age, passed over by restore
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise DrigError(
            f"cannot write a checkpoint to {workdir}: {error}. Make room or choose another folder."
        ) from error
    for old in find(workdir)[state.config.keep :]:
        shutil.rmtree(old)
    return folder


def find(workdir: Path) -> list[Path]:
    """The checkpoint folders of a run, newest first."""
    return sorted((path for path in workdir.glob(f"{PREFIX}*") if path.is_dir()), reverse=True)


def adopt(folder: Path, workdir: Path) -> Path:
    """Copy a checkpoint from elsewhere, under whatever name it was stored, to where `train` in `workdir` finds it.

    Raises DrigError for a damaged one.
    """
    try:
        samples_seen = _read_progress(folder)["samples_seen"]
    except (OSError, ValueError, KeyError, DrigError) as error:
        raise DrigError(f"the checkpoint {folder} is damaged: {error}. Give an intact one.") from error
    target = workdir / f"{PREFIX}{samples_seen:012d}"
    temporary = workdir / f".{target.name}.tmp"
    if not target.exists():
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(folder, temporary)
        temporary.rename(target)
    return target


def restore(workdir: Path, state: State) -> None:
    """Bring `state` to the newest undamaged checkpoint in `workdir`; leave it as it is if there is none at all.

    Raises DrigError, naming what differs, for a checkpoint of another run, and if every checkpoint is damaged.
    """
    damaged = []
    for folder in find(workdir):
        try:
            progress = _read_progress(folder)
        except (OSError, ValueError, KeyError, DrigError) as error:
            log.warning("passing over the damaged checkpoint %s: %s", folder, error)
            damaged.append(folder.name)
            continue
        _require_same_run(folder, state, progress["identity"])
        _load(folder, state)
        state.samples_seen, state.metrics = progress["samples_seen"], progress["metrics"]
        return
    if damaged:
        raise DrigError(
            f"every checkpoint in {workdir} is damaged: {', '.join(damaged)}. "
            "Put an intact one there, or delete them to train from the beginning."
        )


def _read_progress(folder: Path) -> dict[str, Any]:
    """progress.json of an intact checkpoint; ValueError, KeyError, OSError or DrigError for any other."""
    progress = json.loads((folder / PROGRESS).read_text())
    if not isinstance(progress, dict) or progress["format"] != FORMAT:
        raise ValueError(f"{PROGRESS} is not of format {FORMAT}")
    for name, digest in progress["files"].items():
        if storage.sha256(folder / name) != digest:
            raise ValueError(f"{name} is not as it was written")
    return progress


def _require_same_run(folder: Path, state: State, found: Mapping[str, Any]) -> None:
    wanted = state.identity()
    differences = [
        f"{name} {found.get(name)} there, {wanted.get(name)} here"
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]
    if differences:
        raise DrigError(
            f"{folder} is of another run: {'; '.join(differences)}. "
            "Use the same settings to continue it, or another folder for a new run."
        )


def _load(folder: Path, state: State) -> None:
    for name, network in state.networks().items():
        if isinstance(network, Delta):
            network.load_state_dict(load_delta(folder / name, state.rig, network.base).delta.state_dict())
            continue
        weights = load_weights(folder / name).rig.state_dict()
        if not state.config.train_encoder:
            _require_same_encoder(folder, network, weights)
        network.load_state_dict(weights)
    tensors = load_file(folder / "optimizer.safetensors")
    moments: dict[int, dict[str, Tensor]] = {}
    for index, name in enumerate(trained_parameters(state.trained)):
        moments[index] = {key.rpartition("/")[2]: t for key, t in tensors.items() if key.rpartition("/")[0] == name}
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _require_same_encoder(folder: Path, rig: Rig, weights: Mapping[str, Tensor]) -> None:
    """A frozen encoder is the mark of the weights that a run started from."""
    for name, tensor in rig.state_dict().items():
        if name.startswith("encoder.") and not torch.equal(tensor.cpu(), weights[name]):
            raise DrigError(
                f"{folder} was trained from other starting weights: its frozen encoder differs. "
                "Start from the same weights to continue it, or use another folder for a new run."
            )


def trained_parameters(network: Rig | Delta) -> dict[str, torch.nn.Parameter]:
    """The parameters that the optimiser holds, in its order, by name."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def _optimizer_tensors(state: State) -> dict[str, Tensor]:
    names = list(trained_parameters(state.trained))
    moments = state.optimizer.state_dict()["state"]
    return {
        f"{names[i]}/{key}": tensor.cpu().contiguous()
        for i, values in moments.items()
        for key, tensor in values.items()
    }
