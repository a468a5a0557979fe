"""Who answers: baselines that need no rig, the base rig, and the base personalised in several ways."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch

from drig.editing import Editor
from drig.evaluation.subjects import Subject, Trial
from drig.faces.buffers import Buffers
from drig.faces.codes import FaceCodes, blend, transfer
from drig.metrics import Picture
from drig.personalization import album_dataset, own_editor
from drig.pictures import to_picture
from drig.reading import Face
from drig.training.config import TrainingConfig
from drig.training.loop import train

_BATCH = 16  # portraits sampled at once
FRAMES = 12
"""Of a sweep from one pose to another."""


@dataclass(frozen=True)
class Method:
    """A way to answer trials."""

    text: str
    photos: int | None = None
    """Of the album that it learns from; None = all, 0 = it learns nothing."""
    same_light: bool = False
    """It learns from the bad album."""
    whole: bool = False
    """It trains a whole rig instead of a delta."""
    plain: bool = False
    """As in the paper: of the source's skin it knows the codes alone, though its rig follows more, and it is sampled
    one way round."""
    rendered: bool = False
    """It trains nothing: its answers are the edited buffers, of the person whom the album shows."""
    told: bool = False
    """It edits with what `personalised` trained, and is told the true light, expression and pose that the answer has:
    what is lost then is not the estimator's doing."""

    def album(self, subject: Subject) -> list[Face]:
        """What it learns from; fewer faces than `photos` where the subject has not so many."""
        return (subject.same_light if self.same_light else subject.album)[: self.photos]

    def is_possible(self, subject: Subject) -> bool:
        """Whether the subject has what it learns from."""
        if self.told and not subject.same_light:  # a real person's photos have no truth but the estimate
            return False
        return self.photos == 0 or len(self.album(subject)) >= max(1, self.photos or 1)


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "truth": Method("the true answers: what the measures say of perfect edits", photos=0),
        "copy": Method("the source photo as it is", photos=0),
        "buffers": Method("the edited buffers, rendered", photos=0, plain=True, rendered=True),
        "own_buffers": Method("the same, with the shape and skin that the whole album shows", rendered=True),
        "plain_base": Method("stage 1 alone, as in the paper", photos=0, plain=True),
        "base": Method("stage 1 alone, with the skin that the source shows", photos=0),
        "personalised": Method("stage 2 on the whole album, a delta"),
        "told": Method("the same, told the true light, expression or pose instead of reading a photo", told=True),
        "10_photos": Method("the same with 10 photos", photos=10),
        "5_photos": Method("with 5", photos=5),
        "1_photo": Method("with one", photos=1),
        "same_light": Method("with an album that was taken in one light", same_light=True),
        "whole_rig": Method("stage 2 on the whole album, a rig of its own", whole=True),
    }
)


class Maker:
    """Makes the portraits of one subject.

    base: without a mean shape. Its rig is trained over, and shared by the editors of deltas.
    training: of a delta; whole: of a whole rig. folder: for what is trained.
    """

    def __init__(
        self,
        base: Editor,
        subject: Subject,
        training: TrainingConfig,
        whole: TrainingConfig,
        folder: Path,
        *,
        mirror: bool,
        steps: int | None,
        sampler: str,
    ) -> None:
        self.base, self.subject, self.folder = base, subject, folder
        self.training, self.whole = training, whole
        self.mirror, self.steps, self.sampler = mirror, steps, sampler
        self._editors: dict[str, Editor] = {}
        self._met: dict[tuple[str, int], tuple[Editor, Face]] = {}
        self._targets: dict[tuple[str, int, int], Face] = {}

    def answers(self, method: str) -> list[Picture]:
        """The method's portrait (S, S, 3) for each of the subject's trials."""
        trials, unseen = self.subject.trials, self.subject.unseen
        if method == "truth":
            return [trial.answer.picture for trial in trials]
        if method == "copy":
            return [unseen[trial.source].portrait.image for trial in trials]
        return self._make(method, [(trial.source, self.asked(method, trial)) for trial in trials])

    def asked(self, method: str, trial: Trial) -> FaceCodes:
        """What the edit of a trial should render, one face."""
        source = self._read(method, trial.source).codes
        if METHODS[method].told:
            return transfer(source, trial.answer.codes, trial.modes)
        return transfer(source, self._read(method, trial.source, trial.target).codes, trial.modes)

    def sweep(self, method: str) -> list[Picture]:
        """FRAMES of the first unseen photo on its way to the next one's pose, which would be better off smooth."""
        start = self._read(method, 0).codes
        end = transfer(start, self.subject.unseen[1].codes, ["pose"])
        return self._make(method, [(0, blend(start, end, i / (FRAMES - 1))) for i in range(FRAMES)])

    def _make(self, method: str, edits: Sequence[tuple[int, FaceCodes]]) -> list[Picture]:
        """Of sources, by their places among the unseen photos, and what their edits should render."""
        if METHODS[method].rendered:
            return [to_picture(self._buffers(method, source, codes).rendered[0]) for source, codes in edits]
        editor, made = self.editor(method), list[Picture]()
        for start in range(0, len(edits), _BATCH):
            part = edits[start : start + _BATCH]
            buffers = torch.cat([self._buffers(method, source, codes).stacked() for source, codes in part])
            portraits = [self.subject.unseen[source].portrait.image for source, _ in part]
            made += list(editor.sample(buffers, portraits, steps=self.steps, sampler=self.sampler))
        return made

    def _buffers(self, method: str, source: int, edited: FaceCodes) -> Buffers:
        editor, face = self._meeting(method, source)
        return editor.buffers(face.codes, edited)

    def _meeting(self, method: str, source: int) -> tuple[Editor, Face]:
        """Who edits an unseen photo, and the photo as it sees it."""
        if (method, source) not in self._met:
            editor, face = self.editor(method), self.subject.unseen[source]
            self._met[method, source] = (editor, face) if METHODS[method].plain else editor.meeting(face)
        return self._met[method, source]

    def _read(self, method: str, source: int, target: int | None = None) -> Face:
        """An unseen photo, or a target for it, as who edits it sees it."""
        editor, face = self._meeting(method, source)
        if target is None or METHODS[method].plain:
            return face if target is None else self.subject.unseen[target]
        if (method, source, target) not in self._targets:
            self._targets[method, source, target] = editor.reread(self.subject.unseen[target])
        return self._targets[method, source, target]

    def editor(self, method: str) -> Editor:
        """What a possible method edits with; it is trained at the first call."""
        learns = METHODS[method]
        if learns.told:
            return self.editor("personalised")
        if method not in self._editors:
            self._editors[method] = self._made(method, learns)
        return self._editors[method]

    def _made(self, method: str, learns: Method) -> Editor:
        if learns.plain:
            plain = copy.copy(self.base)
            plain.mirrored = False
            return plain
        if learns.photos == 0:
            return self.base
        if learns.rendered:
            return self.base.of_person(learns.album(self.subject))[0]
        return self._trained(method, learns)

    def _trained(self, method: str, learns: Method) -> Editor:
        editor, faces = self.base.of_person(learns.album(self.subject))
        dataset = album_dataset(editor, faces, mirror=self.mirror)
        rig = copy.deepcopy(editor.rig) if learns.whole else editor.rig
        result = train(self.whole if learns.whole else self.training, rig, dataset, workdir=self.folder / method)
        assert result.weights is not None, "nothing asks the training to stop early"
        return own_editor(editor, result.weights, mirror=self.mirror)
