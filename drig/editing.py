"""The one class that edits; the command line, evaluation, batch jobs and Serve all call it.

An edit (paper section 3.3, SPEC 6): source photo -> face codes -> changed codes -> physical buffers -> sampling
with the source's own global code, through a base rig (stage 1 alone) or a personalised one.
"""

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from drig.data.photos import Photo, to_network, to_photo
from drig.diffusion.deltas import Delta, content_hash, is_delta, load_delta, merged, save_delta
from drig.diffusion.network import Rig
from drig.diffusion.precision import autocast_dtype
from drig.diffusion.samplers import find_sampler
from drig.diffusion.weights import load_weights, save_weights
from drig.errors import DrigError
from drig.faces.buffers import Buffers, centre_shift, render_buffers
from drig.faces.codes import FaceCodes, transfer
from drig.faces.controls import Controls, apply_controls
from drig.faces.estimators import Estimator, load_estimator
from drig.faces.head import HeadModel, load_head
from drig.faces.landmarks import LandmarkDetector
from drig.faces.portraits import Portrait, find_portrait
from drig.memory import reuse_freed_memory
from drig.randomness import torch_generator

MODES = ("light", "exp", "pose", "latent")
"""What an edit can take from a target photo: the first three change the buffers, `latent` the global code."""


@dataclass(frozen=True)
class Face:
    """A photo as the editor sees it: make it once with `Editor.read`, edit it many times."""

    portrait: Portrait
    codes: FaceCodes
    """One face, with its own shape code."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Edit:
    """An edited portrait and what led to it."""

    image: np.ndarray
    """(S, S, 3) uint8 RGB."""
    buffers: Tensor
    """(9, S, S) float32: the physical buffers that the network followed (rendered, normal, albedo)."""
    codes: FaceCodes
    """The edited codes that were rendered."""
    warnings: tuple[str, ...]
    """What a user should know, e.g. that the photo held several faces."""


class Editor:
    """Edits photos with one rig: the base one, one person's, or the base as a person's delta changes it.

    Editors of deltas share the rig of the editor that they were made from: use all of these from one thread.

    Args:
        rig: the network; put in eval mode here.
        head, estimator: the physical layer that the rig was trained with.
        mean_shape: (1, S) the album's mean shape for a personalised rig; it replaces every shape code (SPEC 6).
        delta: what makes `rig`, its base, the person's.
    """

    def __init__(
        self,
        rig: Rig,
        head: HeadModel,
        estimator: Estimator,
        *,
        mean_shape: Tensor | None = None,
        delta: Delta | None = None,
        device: str = "cpu",
    ) -> None:
        if device == "cpu":
            reuse_freed_memory()
        self.rig = rig.to(device).eval()
        self.head = head
        self.estimator = estimator
        self.mean_shape = mean_shape
        self.delta = delta
        self.detector = LandmarkDetector()

    @classmethod
    def load(cls, weights: Path, *, base: "Path | Editor | None" = None, device: str = "cpu") -> "Editor":
        """The editor of a file that `save` wrote. Raises DrigError if there is none or it is damaged.

        base: where the base of a delta is: a weights file, or an editor whose rig is to be shared, which takes
            milliseconds. Weights of a whole rig have no base, and ask for none.
        """
        if is_delta(weights):
            if base is None:
                raise DrigError(f"{weights} is a delta: give the base rig that it was trained over, too")
            return (base if isinstance(base, Editor) else cls.load(base, device=device)).personalised(weights)
        loaded = load_weights(weights)
        try:
            head = load_head(loaded.metadata["head"])
            estimator = load_estimator(loaded.metadata["estimator"], head)
        except KeyError as missing:
            raise DrigError(
                f"{weights} does not say which {missing.args[0]} it was trained with; give weights written by drig"
            ) from None
        return cls(loaded.rig, head, estimator, mean_shape=loaded.tensors.get("mean_shape"), device=device)

    def save(self, path: Path) -> None:
        """Everything `load` needs in one safetensors file, of a delta all but its base; whole or not at all."""
        tensors = {} if self.mean_shape is None else {"mean_shape": self.mean_shape}
        metadata = {"head": self.head.name, "estimator": self.estimator.name}
        if self.delta is None:
            save_weights(path, self.rig, tensors, metadata)
        else:
            save_delta(path, self.delta, tensors, metadata)

    def personalised(self, delta: Path) -> "Editor":
        """The editor of a delta over this one's rig, which both then use.

        Raises DrigError for a delta over another base, or for another head or estimator.
        """
        loaded = load_delta(delta, self.rig, self._rig_hash)
        for what, own in (("head", self.head.name), ("estimator", self.estimator.name)):
            if loaded.metadata.get(what, own) != own:
                raise DrigError(
                    f"{delta} was trained with the {what} {loaded.metadata[what]!r} and its base says {own!r}. "
                    "Give the base as it was when the delta was trained."
                )
        self.rig.eval()  # where it was trained over, dropout is still on
        person = copy.copy(self)
        person.delta = loaded.delta.to(self.device).requires_grad_(False)
        person.mean_shape = loaded.tensors.get("mean_shape")
        return person

    @cached_property
    def _rig_hash(self) -> str:
        """Of the rig's tensors, which an editor that deltas are loaded over must not train."""
        return content_hash(self.rig.state_dict())

    @property
    def device(self) -> torch.device:
        """Where the rig computes."""
        return next(self.rig.parameters()).device

    @property
    def size(self) -> int:
        """Side of the portraits in pixels."""
        return self.rig.config.size

    @property
    def expression_names(self) -> tuple[str, ...]:
        """The facial actions that `Controls.expression` may name."""
        return self.head.expression_names

    def read(self, photo: Photo, *, aligned: bool = False) -> Face:
        """Find and fit the face of a photo (H, W, 3) uint8. Raises PhotoRejected where there is none.

        aligned: the photo is an FFHQ crop already; it is only resized.
        """
        portrait = find_portrait(photo, self.detector, self.size, aligned=aligned)
        image = (to_network(portrait.image)[None] + 1) / 2  # (1, 3, S, S) in [0, 1]
        codes = self.estimator.fit(image, torch.from_numpy(portrait.landmarks)[None])
        found = portrait.faces_found
        warnings = (f"{found} faces in the photo; the largest was taken",) if found > 1 else ()
        return Face(portrait, codes, warnings)

    def buffers(self, source: FaceCodes, edited: FaceCodes | None = None) -> Buffers:
        """The buffers of edited codes, the head held on the source's FFHQ centre. None = of the source itself."""
        edited = source if edited is None else edited
        if self.mean_shape is not None:
            edited = edited.replace(shape=self.mean_shape.expand_as(edited.shape))
        return render_buffers(self.head, edited, self.size, shift=centre_shift(self.head, source, edited))

    @torch.no_grad()
    def edit(
        self,
        source: Photo | Face,
        target: Photo | Face | None = None,
        *,
        modes: Collection[str] = (),
        controls: Controls | None = None,
        steps: int = 20,
        sampler: str = "ddim",
        seed: int = 0,
        aligned: bool = False,
        on_step: Callable[[int, int, Tensor], None] | None = None,
    ) -> Edit:
        """Edit a portrait; without a target and without controls, reconstruct it.

        Args:
            modes: what to take from the target: light, exp, pose, latent.
            controls: explicit numbers, applied after the target.
            steps: of the sampler; 20 in the paper.
            sampler: one of drig.diffusion.samplers.SAMPLERS; ddim is the paper's, unipc needs the fewest steps.
            seed: of the start noise; the same seed gives the same picture.
            aligned: photos are FFHQ crops already.
            on_step: called with (steps done, steps, (1, 3, S, S) current x0 in [-1, 1]).

        Raises:
            PhotoRejected: a photo without a usable face. DrigError: contradictory or unknown options.
        """
        _check(modes, target is not None)
        find_sampler(sampler)  # a wrong name is told before any work
        source = source if isinstance(source, Face) else self.read(source, aligned=aligned)
        codes, latent_from, warnings = source.codes, source, source.warnings
        if target is not None:
            target = target if isinstance(target, Face) else self.read(target, aligned=aligned)
            codes = transfer(codes, target.codes, set(modes) - {"latent"})
            latent_from = target if "latent" in modes else source
            warnings += tuple(f"target: {warning}" for warning in target.warnings)
        if controls:
            codes = apply_controls(codes, controls, self.expression_names)
        buffers = self.buffers(source.codes, codes).stacked()  # (1, 9, S, S)
        portrait = latent_from.portrait.image
        (image,) = self.sample(buffers, [portrait], steps=steps, sampler=sampler, seed=seed, on_step=on_step)
        return Edit(image, buffers[0], codes, warnings)

    @torch.no_grad()
    def sample(
        self,
        buffers: Tensor,
        portraits: Sequence[np.ndarray],
        *,
        steps: int = 20,
        sampler: str = "ddim",
        seed: int = 0,
        on_step: Callable[[int, int, Tensor], None] | None = None,
    ) -> np.ndarray:
        """Buffers (N, 9, S, S) and the N portraits (S, S, 3) uint8 that give the global codes -> (N, S, S, 3) uint8.

        All start from the same noise, so that the frames of a video do not flicker.
        """
        solve = find_sampler(sampler)
        device = self.device
        photos = torch.stack([to_network(portrait) for portrait in portraits]).to(device)  # (N, 3, S, S)
        noise = torch.randn((1, *photos.shape[1:]), generator=torch_generator(seed, "edit")).to(device)
        dtype = autocast_dtype("auto", device)
        with merged(self.rig, self.delta), torch.autocast(device.type, dtype, enabled=dtype is not None):
            codes = self.rig.encode(photos)
            images = solve(self.rig, noise.expand_as(photos), buffers.to(device), codes, steps=steps, callback=on_step)
        return to_photo(images)


def _check(modes: Collection[str], has_target: bool) -> None:
    unknown = sorted(set(modes) - set(MODES))
    if unknown:
        raise DrigError(f"unknown modes {', '.join(unknown)}; choose from {', '.join(MODES)}")
    if modes and not has_target:
        raise DrigError(f"modes {', '.join(modes)} take from a target photo; give one, or use explicit controls")
    if has_target and not modes:
        raise DrigError(f"a target photo without modes changes nothing; choose from {', '.join(MODES)}")
