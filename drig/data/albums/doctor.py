"""The album doctor: everything that is measured of an album before time is spent on training it, and what follows.

An album of one light, one pose and one place, cut from one talking video, is what most bad results come from (SPEC 9).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from drig.data.albums import variety
from drig.data.albums.loading import Album
from drig.data.albums.people import people
from drig.data.albums.photo_quality import blur, duplicates
from drig.data.albums.typical import HeadPriors, Training
from drig.data.albums.verdicts import Level, PhotoMeasures, Variety, Verdict, judge
from drig.faces.codes import FaceCodes
from drig.faces.controls import head_angles
from drig.faces.estimators import Estimator, estimate
from drig.faces.head import HeadModel
from drig.faces.identity_embedding import IdentityEmbedder
from drig.faces.portraits import Portrait
from drig.inspection import BATCH, measure


@dataclass(frozen=True, kw_only=True, eq=False)
class AlbumFaces:
    """An album's portraits with everything that is known of each."""

    portraits: tuple[Portrait, ...]
    codes: FaceCodes
    photos: tuple[PhotoMeasures, ...]
    expression_names: tuple[str, ...] = ()
    """Of the codes, where the head model has names for them."""

    @property
    def images(self) -> NDArray[np.uint8]:
        """(N, S, S, 3) RGB."""
        return np.stack([portrait.image for portrait in self.portraits])

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, chosen: Sequence[int]) -> Self:
        """Some of them, measured as they were among the others."""
        return replace(
            self,
            portraits=tuple(self.portraits[i] for i in chosen),
            codes=self.codes[list(chosen)],
            photos=tuple(self.photos[i] for i in chosen),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class AlbumCheck:
    """What the doctor found."""

    faces: AlbumFaces
    variety: Variety
    """Of the usable photos."""
    verdicts: tuple[Verdict, ...]
    """Of the album as a whole, faults first."""
    rejects: dict[str, str]
    """Key of each photo without a usable portrait -> why."""
    compared_with: str
    """What the photos' percentiles are of."""

    @property
    def passes(self) -> bool:
        """Whether it may be trained on: no verdict on the album is a fault."""
        return not any(verdict.level == Level.FAULT for verdict in self.verdicts)

    @property
    def summary(self) -> str:
        """One sentence."""
        faults = sum(verdict.level == Level.FAULT for verdict in self.verdicts)
        remarks = len(self.verdicts) - faults
        if faults:
            return f"Do not train on this album: {_count(faults, 'fault')} and {_count(remarks, 'remark')}."
        return f"Good to train on, with {_count(remarks, 'remark')}." if remarks else "Good to train on."

    def report(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "passes": self.passes,
            "summary": self.summary,
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "variety": asdict(self.variety),
            "compared_with": self.compared_with,
            "photos": [
                {**asdict(photo), "usable": photo.usable, "verdicts": [asdict(v) for v in photo.verdicts]}
                for photo in self.faces.photos
            ],
            "rejects": self.rejects,
        }


def examine(
    album: Album, codes: FaceCodes, head: HeadModel, embedder: IdentityEmbedder, training: Training | None = None
) -> AlbumCheck:
    """Measures and judges an album whose portraits have been fitted (codes of N faces, in the portraits' order).

    training: what the photos are compared with; None = the head's own priors.
    """
    who = people(embedder.embed_portraits(album.portraits))
    faces = measure_faces(album.keys, album.portraits, codes, head, who, training)
    return judge_faces(faces, album.rejects, album.warnings, training)


def table(check: AlbumCheck) -> str:
    """A line for each photo, then what is said of the album."""
    row = "{:<26} {:>5} {:>5} {:>5} {:>6} {:>8}  {}".format
    lines = [row("photo", "yaw", "pitch", "blur", "error%", "covered%", "verdict")]
    for photo in check.faces.photos:
        numbers = (f"{photo.yaw:.0f}", f"{photo.pitch:.0f}", f"{photo.blur:.2f}", f"{photo.landmark_error:.1f}")
        said = "; ".join(verdict.text for verdict in photo.verdicts) or "good"
        verdict = said if photo.usable else f"leave out: {said}"
        lines.append(row(Path(photo.key).name, *numbers, f"{100 * photo.covered:.0f}", verdict))
    lines += [f"{Path(key).name:<26} not used: {reason}" for key, reason in check.rejects.items()]
    lines += [f"{verdict.level}: {verdict.text}" for verdict in check.verdicts]
    return "\n".join([*lines, check.summary])


def fit_portraits(
    portraits: Sequence[Portrait], estimator: Estimator, on_fitted: Callable[[int], object] = lambda count: None
) -> FaceCodes:
    """The codes of portraits of one size, in batches; `on_fitted` is told how many are done."""
    batches = []
    for start in range(0, len(portraits), BATCH):
        batch = portraits[start : start + BATCH]
        batches.append(estimate(estimator, batch))
        on_fitted(start + len(batch))
    return FaceCodes.cat(batches)


def measure_faces(
    keys: Sequence[str],
    portraits: Sequence[Portrait],
    codes: FaceCodes,
    head: HeadModel,
    who: NDArray[np.int64],
    training: Training | None = None,
) -> AlbumFaces:
    """Every photo in numbers; `who` (N,) says who it shows, 0 for the person that the album is about."""
    fits = [measure(portrait, codes[i], head) for i, portrait in enumerate(portraits)]
    percentiles = (training or HeadPriors()).percentiles(codes)
    images = np.stack([portrait.image for portrait in portraits])
    places, repeats = variety.places(images), duplicates(portraits)
    photos = tuple(
        PhotoMeasures(
            key=keys[i],
            yaw=fit.angles[0],
            pitch=fit.angles[1],
            person=int(who[i]),
            blur=blur(portrait),
            enlarged=len(portrait.image) / portrait.source_side if portrait.source_side else 0.0,
            landmark_error=fit.inner_error,
            colour_error=fit.colour_error,
            covered=fit.unexplained,
            place=int(places[i]),
            repeats=None if (original := repeats[i]) is None else keys[original],
            percentiles={kind: float(values[i]) for kind, values in percentiles.items()},
        )
        for i, (portrait, fit) in enumerate(zip(portraits, fits, strict=True))
    )
    return AlbumFaces(portraits=tuple(portraits), codes=codes, photos=photos, expression_names=head.expression_names)


def judge_faces(
    faces: AlbumFaces, rejects: dict[str, str], warnings: Sequence[str] = (), training: Training | None = None
) -> AlbumCheck:
    """What follows from the measures; `warnings` of loading become remarks."""
    # Blurred photos count too: where and in what light they were taken can still be seen.
    own = [i for i, photo in enumerate(faces.photos) if photo.person == 0 and photo.repeats is None]
    usable = sum(photo.usable for photo in faces.photos)
    found = _vary(faces[own], usable)
    remarks = [Verdict(Level.REMARK, warning) for warning in warnings]
    if rejects:
        what = "photo or frame" if len(rejects) == 1 else "photos or frames"
        remarks.append(Verdict(Level.REMARK, f"{len(rejects)} {what} without a usable face: not used"))
    return AlbumCheck(
        faces=faces,
        variety=found,
        verdicts=(*judge(faces.photos, found), *remarks),
        rejects=rejects,
        compared_with=(training or HeadPriors()).name,
    )


def _vary(faces: AlbumFaces, usable: int) -> Variety:
    angles = head_angles(faces.codes)  # (N, 3)
    places = variety.places(faces.images)
    return Variety(
        photos=len(faces),
        usable=usable,
        light=variety.light_spread(faces.codes),
        pose=variety.pose_spread(faces.codes),
        expression=variety.expression_spread(faces.codes, faces.expression_names),
        one_place=float((places == 0).mean()),
        yaw=(float(angles[:, 0].min()), float(angles[:, 0].max())),
        pitch=(float(angles[:, 1].min()), float(angles[:, 1].max())),
    )


def _count(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"
