"""How far the `fit` estimator is from the truth on synthetic people that its network never saw.

    python benchmarks/fit.py [--people 40] [--size 256] [--seen 64] [--folder runs/held_out] [--real PHOTOS]

Portraits of `drig synth` (rendered into the folder unless they are there), with the detector's landmarks; faces that it
does not find are left out. With --seen the estimator gets them reduced: that is what coarse portraits cost. The mean
head in typical light under the landmarks' pose, landmarks and colours without the network, network and colours without
landmarks (`drig extract --aligned --detect false`), and `fit` itself; and `fit` on drawn landmarks, the true ones off
as a detector's are (`drig.training.base.detection`).

Medians over the portraits, in brackets the 90th percentile. Of real photos nobody knows the truth: there, how far the
head is from the detected landmarks and from the colours of the skin, as `drig inspect` measures.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from tqdm import tqdm

from drig.data.photos import list_photos, read_photo
from drig.data.synthetic import read_truth, write_people
from drig.errors import PhotoRejected
from drig.faces.buffers import render_buffers, vertex_normals
from drig.faces.codes import FaceCodes
from drig.faces.fit import Fit
from drig.faces.fit_light_prior import sphere
from drig.faces.head import neutral_codes
from drig.faces.landmarks import LandmarkDetector
from drig.faces.lighting import shade
from drig.faces.open_head import OpenHead
from drig.faces.portraits import find_portrait
from drig.faces.regressor import Regressor
from drig.inspection import Fitted, inspect
from drig.randomness import numpy_generator
from drig.training.base.detection import DetectorErrors

SEED = 1
"""Of the people: not the training's."""
USED = 0.1
"""Facial actions of at least so much count as used."""
BATCH = 16

Estimate = Callable[[Tensor, Tensor], FaceCodes]


@dataclass(frozen=True)
class Faces:
    """Portraits (N, 3, S, S) in [0, 1], who they show, observed and drawn landmarks (N, 68, 2) and the truth."""

    people: list[str]
    images: Tensor
    landmarks: Tensor
    drawn: Tensor
    codes: FaceCodes

    def estimate(self, estimate: Estimate, *, drawn: bool = False) -> tuple[FaceCodes, float]:
        """Everybody's codes, and portraits a second."""
        start = time.perf_counter()
        landmarks = self.drawn if drawn else self.landmarks
        chunks = zip(self.images.split(BATCH), landmarks.split(BATCH), strict=True)
        codes = FaceCodes.cat([estimate(images, landmarks) for images, landmarks in chunks])
        return codes, len(codes) / (time.perf_counter() - start)


def portraits(head: OpenHead, folder: Path, people: int, photos: int, size: int, side: int) -> tuple[Faces, int]:
    """Synthetic portraits as the detector sees them, reduced to `side`, and in how many it sees no face."""
    detector, errors, missed = LandmarkDetector(), DetectorErrors.load(), 0
    names, images, landmarks, drawn, codes = [], [], [], [], []
    made = write_people(folder, people=range(people), photos=photos, size=size, seed=SEED, head=head)
    for path in tqdm(made, total=people * photos, unit="portrait", desc="held-out people", leave=False):
        try:
            seen = find_portrait(read_photo(path), detector, side, aligned=True)
        except PhotoRejected:
            missed += 1
            continue
        names.append(path.parent.name)
        images.append(seen.image)
        landmarks.append(seen.landmarks)
        truth, points = read_truth(path)
        rng = numpy_generator(SEED, "detection", len(codes))
        drawn.append(errors.detect(points.numpy(), truth.pose[0, :3], rng))
        codes.append(truth)
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
    found, likely = (torch.from_numpy(np.stack(points)) for points in (landmarks, drawn))
    return Faces(names, stacked, found, likely, FaceCodes.cat(codes)), missed


class Errors:
    """What is wrong with estimated codes."""

    def __init__(self, head: OpenHead) -> None:
        self.head = head
        vertices = head.template[:-1]
        front = vertex_normals(vertices[None], head.faces)[0, :, 2] > 0.2
        points = (head.template[head.landmark_corners] * head.landmark_weights[..., None]).sum(1)  # (68, 3)
        self.eye_distance = (points[36:42].mean(0) - points[42:48].mean(0)).norm()
        self.face = front & (vertices[:, 1] > points[8, 1])  # from the chin upwards
        self.mouth = front & ((vertices - points[48:68].mean(0)).norm(dim=1) < 0.035)
        near = [(vertices - points[eye].mean(0)).norm(dim=1) < 0.025 for eye in (slice(36, 42), slice(42, 48))]
        self.eyes = front & (near[0] | near[1])
        self.skin = head.regions["skin"] * (1 - head.regions["scalp"])

    def __call__(self, truth: FaceCodes, found: FaceCodes, size: int) -> dict[str, Tensor]:
        """(N,) of each kind."""
        turn = Rotation.from_rotvec(found.pose[:, :3].numpy()) * Rotation.from_rotvec(truth.pose[:, :3].numpy()).inv()
        used = truth.exp > USED
        actions = (found.exp - truth.exp).abs()
        mesh, neutral = self._mesh(truth, found), self._mesh(_at_rest(truth), _at_rest(found))
        moved = self._expression(truth, found)
        directions = sphere(400)
        lit, found_lit = (shade(directions, codes.light) for codes in (truth, found))  # (N, 400, 3)
        front = directions[:, 2] > 0
        return {
            "pose, degrees": torch.from_numpy(turn.magnitude()).rad2deg(),
            "actions that are used, mean absolute": (actions * used).sum(1) / used.sum(1).clamp(min=1),
            "all actions, mean absolute": actions.mean(1),
            "mouth, % of the eye distance": mesh[:, self.mouth].mean(1),
            "eyes, %": mesh[:, self.eyes].mean(1),
            "mouth and eyes, %": mesh[:, self.mouth | self.eyes].mean(1),
            "their movement alone, %": moved[:, self.mouth | self.eyes].mean(1),
            "face at rest, %": neutral[:, self.face].mean(1),
            "SH light, RMSE": (found.light - truth.light).square().mean((1, 2)).sqrt(),
            "shading, RMSE": _rms(found_lit - lit),
            "shading of the front, RMSE": _rms((found_lit - lit)[:, front]),
            "the same at its best brightness": _rms((_brightness(found_lit, lit, front) * found_lit - lit)[:, front]),
            "albedo of the skin, RMSE": self._albedo(truth, found),
            "buffers, PSNR dB": self._psnr(truth, found, size),
        }

    def _mesh(self, truth: FaceCodes, found: FaceCodes) -> Tensor:
        """(N, V) distance of unturned heads in % of the eye distance, the found face moved and scaled onto the true
        one: a photo tells neither depth nor size."""
        a, b = (self.head.vertices(_unturned(codes)) for codes in (found, truth))
        a, b = (points - points[:, self.face].mean(1, keepdim=True) for points in (a, b))
        over = (a * b)[:, self.face].sum((1, 2), keepdim=True)
        scale = over / a[:, self.face].square().sum((1, 2), keepdim=True)
        distance: Tensor = 100 * (scale * a - b).norm(dim=2) / self.eye_distance
        return distance

    def _expression(self, truth: FaceCodes, found: FaceCodes) -> Tensor:
        """(N, V) distance between what the facial actions do to the same head."""
        moved = torch.einsum("ne,evc->nvc", found.exp - truth.exp, self.head.expression_basis)
        distance: Tensor = 100 * moved.norm(dim=2) / self.eye_distance
        return distance

    def _albedo(self, truth: FaceCodes, found: FaceCodes) -> Tensor:
        error = (self.head.albedo(found) - self.head.albedo(truth)).square().mean(1) * self.skin
        return (error.sum((1, 2)) / self.skin.sum()).sqrt()

    def _psnr(self, truth: FaceCodes, found: FaceCodes, size: int) -> Tensor:
        """Of the rendered buffers, over the pixels that either head covers."""
        a, b = (render_buffers(self.head, codes, size) for codes in (found, truth))
        covered = torch.maximum(a.alpha, b.alpha)
        error = ((a.rendered - b.rendered).square().mean(1, keepdim=True) * covered).sum((1, 2, 3))
        return -10 * (error / covered.sum((1, 2, 3))).log10()


def _rms(difference: Tensor) -> Tensor:
    """(N, P, 3) -> (N,)"""
    return difference.square().mean((1, 2)).sqrt()


def _brightness(found: Tensor, true: Tensor, where: Tensor) -> Tensor:
    """(N, 1, 1) the factor that brings found shading closest: a darker face under a brighter light looks the same."""
    found, true = found[:, where], true[:, where]
    return (found * true).sum((1, 2), keepdim=True) / found.square().sum((1, 2), keepdim=True)


def _unturned(codes: FaceCodes) -> FaceCodes:
    return codes.replace(pose=torch.zeros_like(codes.pose))


def _at_rest(codes: FaceCodes) -> FaceCodes:
    return codes.replace(exp=torch.zeros_like(codes.exp))


def ways(head: OpenHead) -> dict[str, Estimate]:
    """The estimators by name."""
    plain, fit = Fit(head, None), Fit(head, Regressor.load())

    def typical(images: Tensor, landmarks: Tensor) -> FaceCodes:
        posed, mean = plain.fit(images, landmarks), neutral_codes(head, len(images))
        return mean.replace(pose=posed.pose, cam=posed.cam)

    return {
        "mean head": typical,
        "landmarks": plain.fit,
        "no landmarks": lambda images, _: fit.fit(images, None),
        "fit": fit.fit,
    }


def skin_spread(head: OpenHead, people: list[str], codes: FaceCodes) -> tuple[float, float]:
    """Standard deviation of the logarithm of the estimated skin's colour: among a person's photos, and among people."""
    colours = pd.DataFrame(head.skin_colour(codes).log().numpy()).groupby(people)
    return float(colours.var().mean().mean() ** 0.5), float(colours.mean().var().mean() ** 0.5)


class Way:
    """One of them as an Estimator."""

    def __init__(self, name: str, estimate: Estimate) -> None:
        self.name, self.estimate = name, estimate

    def fit(self, portraits: Tensor, landmarks: Tensor | None) -> FaceCodes:
        assert landmarks is not None
        return self.estimate(portraits, landmarks)


def real_photos(head: OpenHead, folder: Path) -> None:
    """Prints a table of medians over the folder's photos, the 90th percentiles in brackets."""
    photos = list_photos(str(folder), recursive=True)
    print(f"{len(photos)} photos in {folder}")
    for name, estimate in ways(head).items():
        outcomes = [item.outcome for item in inspect(photos, head, Way(name, estimate))]
        faces = [face for face in outcomes if isinstance(face, Fitted)]
        shown = []
        for label, values in (
            ("inner landmarks", [face.inner_error for face in faces]),
            ("colours", [face.colour_error for face in faces]),
            ("unexplained skin", [100 * face.unexplained for face in faces]),
        ):
            median, high = np.quantile(values, (0.5, 0.9))
            shown.append(f"{label} {median:5.1f}% ({high:.1f})")
        print(f"{name:<16}{len(faces):4} faces   " + "   ".join(shown), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=40, help="synthetic people")
    parser.add_argument("--photos", type=int, default=4, help="portraits of each")
    parser.add_argument("--size", type=int, default=256, help="side of the portraits, pixels")
    parser.add_argument("--seen", type=int, help="side of what the estimator sees of them; all of it if not given")
    parser.add_argument("--folder", type=Path, default=Path("runs/held_out"), help="where they are rendered")
    parser.add_argument("--real", type=Path, help="folder of real photos to measure as well")
    options = parser.parse_args()
    head = OpenHead.load()
    faces, missed = portraits(
        head, options.folder, options.people, options.photos, options.size, options.seen or options.size
    )
    measure, columns, speeds = Errors(head), {}, {}
    for name, estimate in ways(head).items():
        faces.estimate(lambda images, landmarks, way=estimate: way(images[:1], landmarks[:1]))  # type: ignore[misc]
        codes, speeds[name] = faces.estimate(estimate)
        columns[name] = measure(faces.codes, codes, options.size)
    codes, speeds["drawn landmarks"] = faces.estimate(ways(head)["fit"], drawn=True)
    columns["drawn landmarks"] = measure(faces.codes, codes, options.size)
    print(f"{len(faces.codes)} portraits, {missed} not found; {torch.get_num_threads()} threads")
    print(f"{'median (90th percentile)':<38}" + "".join(f"{name:>18}" for name in columns))
    for label in columns["fit"]:
        values = [columns[name][label] for name in columns]
        shown = (f"{float(v.median()):.3f} ({float(v.quantile(0.1 if 'PSNR' in label else 0.9)):.3f})" for v in values)
        print(f"{label:<38}" + "".join(f"{text:>18}" for text in shown))
    print(f"{'portraits a second':<38}" + "".join(f"{speeds[name]:18.1f}" for name in columns))
    within, between = skin_spread(head, faces.people, faces.estimate(ways(head)["fit"])[0])
    print(
        f"skin, standard deviation of its logarithm: {within:.3f} among a person's photos, {between:.3f} among people"
    )
    if options.real:
        real_photos(head, options.real)


if __name__ == "__main__":
    main()
