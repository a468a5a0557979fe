"""A delta: what makes a base rig one person's, as changes of its UNet's layers; the rig itself is never written to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast
from weakref import WeakSet

import torch
from torch import Tensor, nn

from drig.diffusion.deltas.changes import Affine, Change, LowRank, LowRankLayer
from drig.diffusion.deltas.hashing import content_hash
from drig.diffusion.network import Rig, RigConfig
from drig.errors import DrigError

_IN_USE: WeakSet[Rig] = WeakSet()
"""Rigs that have a delta attached."""


class Delta(nn.Module):
    """Changes of a base rig's UNet: of low rank in its convolutions and linear layers, exact in biases and norms.

    Its parameters are all that training one person trains.

    Args:
        base: `content_hash` of the base rig's tensors.
        config: the base rig's.
        changes: of each of `changeable_layers`, by its name in the UNet.
    """

    def __init__(self, base: str, config: RigConfig, changes: Mapping[str, Change]) -> None:
        super().__init__()
        self.base = base
        self.config = config
        # A module's name cannot contain a dot.
        self._changes = nn.ModuleDict({name.replace(".", "/"): change for name, change in changes.items()})

    @classmethod
    def start(cls, rig: Rig, rank: int, generator: torch.Generator) -> "Delta":
        """A delta to train over `rig`, which changes nothing yet, on the rig's device."""
        changes: dict[str, Change] = {}
        for name, layer in changeable_layers(rig):
            if isinstance(layer, nn.GroupNorm):
                changes[name] = Affine.start(layer)
            else:
                changes[name] = LowRank.start(layer, rank, generator)
        return cls(content_hash(rig.state_dict()), rig.config, changes).to(next(rig.parameters()).device)

    @classmethod
    def between(cls, base: Rig, tuned: Rig, rank: int) -> "Delta":
        """What a fine-tuned UNet is more than its base: the nearest of that rank in every layer.

        Raises DrigError for rigs whose configurations or encoders differ: a delta changes the UNet alone.
        """
        if rank < 1:
            raise DrigError(f"the rank to compress to is {rank}; give 1 or more")
        encoders = base.encoder.state_dict(), tuned.encoder.state_dict()
        if base.config != tuned.config or content_hash(encoders[0]) != content_hash(encoders[1]):
            raise DrigError("the two rigs differ in more than their UNets' weights. Give a rig and its own stage 2.")
        tuned_layers, changes = dict(changeable_layers(tuned)), dict[str, Change]()
        for name, layer in changeable_layers(base):
            weight, bias = (_difference(tuned_layers[name], layer, part) for part in ("weight", "bias"))
            norm = isinstance(layer, nn.GroupNorm)
            changes[name] = Affine(weight, bias) if norm else LowRank.nearest(weight, bias, rank)
        return cls(content_hash(base.state_dict()), base.config, changes)

    @property
    def changes(self) -> dict[str, Change]:
        """By the layer's name in the UNet."""
        return {name.replace("/", "."): cast(Change, change) for name, change in self._changes.items()}

    @property
    def rank(self) -> int:
        """The largest of its layers' ranks."""
        return max((change.rank for change in self.changes.values() if isinstance(change, LowRank)), default=0)

    @property
    def size(self) -> int:
        """How many numbers it is made of."""
        return sum(parameter.numel() for parameter in self.parameters())

    @torch.no_grad()
    def merge_into(self, rig: Rig) -> None:
        """Make the delta part of `rig`'s own weights: the fastest to run, but of this one person for good."""
        self.require_shape(rig)
        layers = dict(changeable_layers(rig))
        for name, change in self.changes.items():
            change.merge_into(layers[name])

    def require_shape(self, rig: Rig) -> None:
        """Raise DrigError unless `rig` has the layers that this delta changes."""
        if self.config != rig.config:
            raise DrigError(
                f"the delta is for rigs of {self.config} and this one is of {rig.config}. Use it with its own base."
            )


@contextmanager
def attached(rig: Rig, delta: Delta | Sequence[Delta] | None) -> Iterator[None]:
    """Within the block `rig` is the delta's person; None = the base rig as it is.

    Costs a fraction of a millisecond, copies no weights and leaves the rig's tensors and their names alone. A sequence
    gives each sample of a batch a delta of its own, and batches inside the block then have that many samples. The
    delta takes part in autograd, in DDP (where it is a part of the wrapped module) and in torch.compile (compile
    inside the block: what was compiled outside does not see it).

    Raises DrigError for a delta of another kind of rig, for a batch of another length than the sequence, and while
    another delta is attached to this rig: use it from one thread at a time.
    """
    if delta is None:
        yield
        return
    deltas = [delta] if isinstance(delta, Delta) else list(delta)
    for each in deltas:
        each.require_shape(rig)
    layers = dict(changeable_layers(rig))
    changes = delta.changes if isinstance(delta, Delta) else _stack(deltas)
    handles = [layers[name].register_forward_hook(_changing(change)) for name, change in changes.items()]
    if not isinstance(delta, Delta):
        handles.append(rig.denoisingUNet.register_forward_pre_hook(_require_samples(len(deltas))))
    try:
        with _alone(rig):
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def merged(rig: Rig, delta: Delta | None) -> Iterator[None]:
    """As `attached` for one person whom nobody trains, at the base rig's own speed.

    Within the block the UNet computes with weights that have the delta in them, made at its beginning: milliseconds,
    and the UNet's memory once more. Behind it the rig has its own again, bit for bit. Raises DrigError as `attached`.
    """
    if delta is None:
        yield
        return
    delta.require_shape(rig)
    with _alone(rig):
        parameters = [parameter for _, layer in changeable_layers(rig) for parameter in layer.parameters()]
        own = [parameter.data for parameter in parameters]
        try:
            for parameter in parameters:
                parameter.data = parameter.data.clone()
            delta.merge_into(rig)
            yield
        finally:
            for parameter, values in zip(parameters, own, strict=True):
                parameter.data = values


@contextmanager
def _alone(rig: Rig) -> Iterator[None]:
    """Within the block the rig is a person's. Raises DrigError if it is already."""
    if rig in _IN_USE:
        raise DrigError("the rig has a delta attached already. Leave that block first, or load the base once more.")
    _IN_USE.add(rig)
    try:
        yield
    finally:
        _IN_USE.remove(rig)


def changeable_layers(rig: Rig) -> Iterator[tuple[str, LowRankLayer | nn.GroupNorm]]:
    """The layers of the UNet that a delta can change, which are all that have parameters, by name."""
    for name, layer in rig.denoisingUNet.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv1d, nn.Linear, nn.GroupNorm)):
            yield name, layer


def _changing(change: Change) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    """A forward hook that changes a layer's output."""

    def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        changed: Tensor = change(layer, inputs[0], output)
        return changed

    return hook


def _require_samples(count: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    """A hook that raises DrigError unless the UNet is given a batch of `count`."""

    def hook(unet: nn.Module, inputs: tuple[Any, ...]) -> None:
        if len(inputs[0]) != count:
            raise DrigError(f"a batch of {len(inputs[0])} for {count} deltas: give one delta for each sample.")

    return hook


@torch.no_grad()
def _stack(deltas: Sequence[Delta]) -> dict[str, Change]:
    """The changes of several deltas as one for each sample."""
    by_delta = [delta.changes for delta in deltas]
    stacked: dict[str, Change] = {}
    for name in by_delta[0]:
        parts = [changes[name] for changes in by_delta]
        kind = type(parts[0])
        stacked[name] = kind.stack(parts)  # type: ignore[arg-type]
    return stacked


def _difference(tuned: nn.Module, base: nn.Module, part: str) -> Tensor:
    difference: Tensor = (getattr(tuned, part) - getattr(base, part)).detach()
    return difference
