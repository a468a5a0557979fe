"""The one class that edits; the command line, evaluation, batch jobs and Serve all call it.

An edit (paper section 3.3, SPEC 6): source photo -> face codes -> changed codes -> physical buffers -> sampling
with the source's own global code, through a base rig (stage 1 alone) or a personalised one.
"""

import copy
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from drig.both_ways import MIRRORED, BothWays
from drig.data.photos import Photo, to_network, to_photo
from drig.diffusion.deltas import Delta, attached, content_hash, is_delta, load_delta, merged, save_delta
from drig.diffusion.network import Rig
from drig.diffusion.precision import autocast_dtype
from drig.diffusion.samplers import find_sampler
from drig.diffusion.weights import load_weights, save_weights
from drig.errors import DrigError
from drig.faces.buffers import Buffers
from drig.faces.codes import FaceCodes, transfer
from drig.faces.controls import Controls, apply_controls
from drig.faces.estimators import Estimator, load_estimator
from drig.faces.head import HeadModel, load_head
from drig.faces.likeness import FOLLOWS_SKIN, NOBODY, Likeness
from drig.memory import reuse_freed_memory
from drig.randomness import torch_generator
from drig.reading import Face, FaceReader

MODES = ("light", "exp", "pose", "latent")
"""What an edit can take from a target photo: the first three change the buffers, `latent` the global code."""


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
        likeness: of the person whose rig it is.
        delta: what makes `rig`, its base, the person's.
        follows_skin: the rig, or its base, has learnt from buffers that show the detail of people's skin.
        mirrored: it has learnt from mirror images as from photos; it then samples both ways round (`drig.both_ways`).
    """

    def __init__(
        self,
        rig: Rig,
        head: HeadModel,
        estimator: Estimator,
        *,
        likeness: Likeness = NOBODY,
        delta: Delta | None = None,
        follows_skin: bool = False,
        mirrored: bool = False,
        device: str = "cpu",
    ) -> None:
        if device == "cpu":
            reuse_freed_memory()
        self.rig = rig.to(device).eval()
        self.head = head
        self.estimator = estimator
        self.likeness = likeness
        self.delta = delta
        self.follows_skin = follows_skin
        self.mirrored = mirrored
        self._reader = FaceReader(head, estimator)
        self.detector = self._reader.detector

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
        return cls(
            loaded.rig,
            head,
            estimator,
            likeness=Likeness.of_tensors(loaded.tensors),
            follows_skin=loaded.metadata.get(FOLLOWS_SKIN, False),
            mirrored=loaded.metadata.get(MIRRORED, False),
            device=device,
        )

    def save(self, path: Path) -> None:
        """Everything `load` needs in one safetensors file, of a delta all but its base; whole or not at all."""
        tensors = self.likeness.tensors()
        metadata = {
            "head": self.head.name,
            "estimator": self.estimator.name,
            FOLLOWS_SKIN: self.follows_skin,
            MIRRORED: self.mirrored,
        }
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
        person.likeness = Likeness.of_tensors(loaded.tensors)
        person.mirrored = loaded.metadata.get(MIRRORED, False)
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
        return self._reader.read(photo, self.size, aligned=aligned)

    def of_person(self, faces: Sequence[Face]) -> tuple["Editor", list[Face]]:
        """The same editor for the person in these photos, and the photos as it sees them then.

        It has the mean of their shape (SPEC 6) and, for `fit`, skin; with its detail, where the rig follows that.
        """
        own = copy.copy(self)
        own.likeness, faces = self._reader.acquainted(faces, detail=self.follows_skin)
        return own, faces

    def meeting(self, source: Face) -> tuple["Editor", Face]:
        """Who edits the photo, and the photo as it sees it: this editor, if it knows somebody or can follow no skin, or
        else one with the likeness that the photo itself shows."""
        if self.follows_skin and not self.likeness.known:
            editor, (source,) = self.of_person([source])
            return editor, source
        return self, self.reread(source)

    def reread(self, face: Face) -> Face:
        """A face as one of the editor's person's, if it is that (`FaceReader.reread`)."""
        return self._reader.reread(face, self.likeness)

    def own(self, codes: FaceCodes) -> FaceCodes:
        """What the codes of photos are, given that they show the editor's person: with that person's skin."""
        return self.likeness.own(self.head, codes)

    def buffers(self, source: FaceCodes, edited: FaceCodes | None = None) -> Buffers:
        """The buffers of edited codes, the head held on the source's FFHQ centre. None = of the source itself."""
        edited = source if edited is None else edited
        return self.likeness.buffers(self.head, source, edited, self.size)

    @torch.no_grad()
    def head_mask(self, source: FaceCodes, edited: FaceCodes) -> np.ndarray:
        """(S, S) bool: where the head of one face is in its portrait, before an edit or after it."""
        alphas = [self.buffers(source).alpha, self.buffers(source, edited).alpha]  # (1, 1, S, S) each
        return np.asarray(torch.cat(alphas).amax((0, 1)).cpu() > 0)

    @torch.no_grad()
    def edit(
        self,
        source: Photo | Face,
        target: Photo | Face | None = None,
        *,
        modes: Collection[str] = (),
        controls: Controls | None = None,
        steps: int | None = None,
        sampler: str = "ddim",
        seed: int = 0,
        aligned: bool = False,
        on_step: Callable[[int, int, Tensor], None] | None = None,
    ) -> Edit:
        """Edit a portrait; without a target and without controls, reconstruct it.

        Args:
            modes: what to take from the target: light, exp, pose, latent.
            controls: explicit numbers, applied after the target.
            steps: of the sampler; None = as many as the rig needs, 20 in the paper (`RigConfig.steps`).
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
        target = target if isinstance(target, Face | None) else self.read(target, aligned=aligned)
        return edit_together(
            [self.plan(source, target, modes=modes, controls=controls, seed=seed)],
            steps=steps,
            sampler=sampler,
            on_step=on_step,
        )[0]

    @torch.no_grad()
    def plan(
        self,
        source: Face,
        target: Face | None = None,
        *,
        modes: Collection[str] = (),
        controls: Controls | None = None,
        seed: int = 0,
    ) -> "Plan":
        """An edit up to the sampling, which `edit_together` does of several at once. Takes and raises as `edit`."""
        editor, source = self.meeting(source)
        target = None if target is None else editor.reread(target)
        codes = edited_codes(source, target, modes, controls, self.expression_names)
        warnings = source.warnings
        if target is not None:
            warnings += tuple(f"target: {warning}" for warning in target.warnings)
        latent_from = target if target is not None and "latent" in modes else source
        buffers = editor.buffers(source.codes, codes).stacked()[0]  # (9, S, S)
        return Plan(self, buffers, latent_from.portrait.image, codes, warnings, seed)

    @torch.no_grad()
    def sample(
        self,
        buffers: Tensor,
        portraits: Sequence[np.ndarray],
        *,
        steps: int | None = None,
        sampler: str = "ddim",
        seed: int = 0,
        on_step: Callable[[int, int, Tensor], None] | None = None,
    ) -> np.ndarray:
        """Buffers (N, 9, S, S) and the N portraits (S, S, 3) uint8 that give the global codes -> (N, S, S, 3) uint8.

        All start from the same noise, so that the frames of a video do not flicker.
        """
        noise = _noise(seed, self.size).expand(len(portraits), -1, -1, -1)
        with merged(self.rig, self.delta):
            return _sample(self, buffers, portraits, noise, steps=steps, sampler=sampler, on_step=on_step)

    def samples_with(self, other: "Editor") -> bool:
        """Whether edits of both can be one batch: of one rig, all of deltas or all of the rig itself, and alike."""
        return (
            self.rig is other.rig and (self.delta is None) == (other.delta is None) and self.mirrored == other.mirrored
        )


@dataclass(frozen=True)
class Plan:
    """An edit that only has to be sampled."""

    editor: Editor
    buffers: Tensor
    """(9, S, S)"""
    portrait: np.ndarray
    """uint8 RGB, square: what gives the global code."""
    codes: FaceCodes
    warnings: tuple[str, ...]
    seed: int


@torch.no_grad()
def edit_together(
    plans: Sequence[Plan],
    *,
    steps: int | None = None,
    sampler: str = "ddim",
    on_step: Callable[[int, int, Tensor], None] | None = None,
) -> list[Edit]:
    """Sample several edits in one batch, of one rig: of its deltas, which may differ, or of the rig as it is.

    Each gets the picture that it gets alone, but for the rounding of sums in another order.
    on_step: as of `Editor.edit`, with the pictures (N, 3, S, S) of all.
    Raises DrigError where they cannot be one batch (`Editor.samples_with`).
    """
    editors = [plan.editor for plan in plans]
    if not all(editor.samples_with(editors[0]) for editor in editors):
        raise DrigError("edits of different rigs, or of deltas and of the base itself: sample these apart")
    noise = torch.cat([_noise(plan.seed, plan.editor.size) for plan in plans])  # (N, 3, S, S)
    buffers = torch.stack([plan.buffers for plan in plans])
    with _persons(editors):
        portraits = [plan.portrait for plan in plans]
        images = _sample(editors[0], buffers, portraits, noise, steps=steps, sampler=sampler, on_step=on_step)
    return [Edit(image, plan.buffers, plan.codes, plan.warnings) for image, plan in zip(images, plans, strict=True)]


def _persons(editors: Sequence[Editor]) -> AbstractContextManager[None]:
    """Within the block, sample i of a batch is of editor i's delta; its mirror image, if there is one, too."""
    first = editors[0]
    if all(editor.delta is first.delta for editor in editors):
        return merged(first.rig, first.delta)
    deltas = [editor.delta for editor in editors if editor.delta is not None]
    return attached(first.rig, deltas * 2 if first.mirrored else deltas)


def _noise(seed: int, size: int) -> Tensor:
    """(1, 3, S, S) where an edit starts."""
    return torch.randn((1, 3, size, size), generator=torch_generator(seed, "edit"))


def _sample(
    editor: Editor,
    buffers: Tensor,
    portraits: Sequence[np.ndarray],
    noise: Tensor,
    *,
    steps: int | None,
    sampler: str,
    on_step: Callable[[int, int, Tensor], None] | None,
) -> Photo:
    """Buffers (N, 9, S, S), N portraits and noise (N, 3, S, S) -> (N, S, S, 3) uint8."""
    solve, device = find_sampler(sampler), editor.device
    rig = BothWays(editor.rig) if editor.mirrored else editor.rig
    steps = editor.rig.config.steps if steps is None else steps
    photos = torch.stack([to_network(_resized(portrait, editor.size)) for portrait in portraits]).to(device)
    dtype = autocast_dtype("auto", device)
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        codes = rig.encode(photos)
        images = solve(rig, noise.to(device), buffers.to(device), codes, steps=steps, callback=on_step)
    return to_photo(images)


def _resized(portrait: np.ndarray, size: int) -> np.ndarray:
    """The portrait as the rig takes it: one that was read for another rig is larger, as a rule."""
    if portrait.shape[:2] == (size, size):
        return portrait
    return np.asarray(Image.fromarray(portrait).resize((size, size), Image.Resampling.LANCZOS))


def edited_codes(
    source: Face,
    target: Face | None,
    modes: Collection[str],
    controls: Controls | None,
    expression_names: Sequence[str],
) -> FaceCodes:
    """What an edit makes of the source's codes. Raises DrigError for contradictory or unknown options."""
    _check(modes, target is not None)
    codes = source.codes
    if target is not None:
        codes = transfer(codes, target.codes, set(modes) - {"latent"})
    return apply_controls(codes, controls, expression_names) if controls else codes


def _check(modes: Collection[str], has_target: bool) -> None:
    unknown = sorted(set(modes) - set(MODES))
    if unknown:
        raise DrigError(f"unknown modes {', '.join(unknown)}; choose from {', '.join(MODES)}")
    if modes and not has_target:
        raise DrigError(f"modes {', '.join(modes)} take from a target photo; give one, or use explicit controls")
    if has_target and not modes:
        raise DrigError(f"a target photo without modes changes nothing; choose from {', '.join(MODES)}")
