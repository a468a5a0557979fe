"""How far the `fit` estimator is from the truth, and how fast it is.

    python benchmarks/fit.py [--count 64] [--people 8] [--photos 4] [--size 256]

Two kinds of faces with known codes. `head`: the open head itself with random codes, its landmarks moved by noise, its
rendered buffer as the photo. `synthetic`: portraits of synthetic people, whose hair, shadows and clothes no buffer has,
with the detector's landmarks; faces that it does not find are left out. One thread.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from tqdm import tqdm

from drig.data.synthetic import render_portrait, sample_person, sample_shot
from drig.errors import PhotoRejected
from drig.faces.buffers import render_buffers
from drig.faces.camera import project
from drig.faces.codes import FaceCodes
from drig.faces.fit import LandmarkFit
from drig.faces.fit_light_prior import sample_lights, sphere
from drig.faces.head import neutral_codes
from drig.faces.landmarks import LandmarkDetector
from drig.faces.lighting import shade
from drig.faces.open_head import OpenHead
from drig.faces.portraits import find_portrait

LANDMARK_NOISE = 0.015
"""Of the inter-ocular distance."""
_EXPRESSIONS = ("jawOpen", "mouthSmileLeft", "mouthSmileRight", "eyeBlinkLeft", "eyeBlinkRight", "browInnerUp")


@dataclass(frozen=True)
class Faces:
    """Portraits (N, 3, S, S) in [0, 1], observed landmarks (N, 68, 2) and the truth."""

    images: Tensor
    landmarks: Tensor
    codes: FaceCodes


def heads(head: OpenHead, count: int, size: int, generator: torch.Generator) -> Faces:
    """The open head with random codes, in front of grey."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    exp = torch.zeros(count, head.exp_size)
    shared = torch.rand(count, 4, generator=generator) * (torch.rand(count, 4, generator=generator) < 0.4)
    for column, name in zip((0, 1, 1, 2, 2, 3), _EXPRESSIONS, strict=True):
        exp[:, head.expression_names.index(name)] = shared[:, column]
    codes = neutral_codes(head, count).replace(
        shape=0.8 * normal(head.shape_size),
        tex=0.7 * normal(head.tex_size),
        exp=exp,
        pose=torch.cat([torch.tensor([0.15, 0.3, 0.05]) * normal(3), torch.zeros(count, 3)], 1),
        light=sample_lights(count, generator),
    )
    landmarks = project(head.landmarks(codes, head.vertices(codes)), codes)[..., :2]
    eyes = (landmarks[:, 36:42].mean(1) - landmarks[:, 42:48].mean(1)).norm(dim=1)
    landmarks = landmarks + LANDMARK_NOISE / 2**0.5 * eyes[:, None, None] * normal(68, 2)
    buffers = render_buffers(head, codes, size)
    return Faces((buffers.rendered + 0.5 * (1 - buffers.alpha)).clamp(0, 1), landmarks, codes)


def portraits(head: OpenHead, people: int, photos: int, size: int) -> tuple[Faces, int]:
    """Synthetic portraits as the detector sees them, and in how many it sees no face."""
    detector, found, missed = LandmarkDetector(), [], 0
    for index in tqdm(range(people * photos), unit="portrait", desc="render", leave=False):
        person = sample_person(head, 0, index // photos)
        portrait = render_portrait(head, person, sample_shot(person, index % photos), size)
        try:
            seen = find_portrait(portrait.image, detector, size, aligned=True)
        except PhotoRejected:
            missed += 1
            continue
        found.append((portrait, seen))
    images = torch.from_numpy(np.stack([portrait.image for portrait, _ in found])).permute(0, 3, 1, 2) / 255
    landmarks = torch.from_numpy(np.stack([seen.landmarks for _, seen in found]))
    return Faces(images, landmarks, FaceCodes.cat([portrait.codes for portrait, _ in found])), missed


def errors(head: OpenHead, truth: FaceCodes, fitted: FaceCodes) -> dict[str, Tensor]:
    """What is wrong with each face, (N,) each."""
    turn = Rotation.from_rotvec(fitted.pose[:, :3].numpy()) * Rotation.from_rotvec(truth.pose[:, :3].numpy()).inv()
    skin = head.regions["skin"] * (1 - head.regions["scalp"])
    albedo = ((head.albedo(fitted) - head.albedo(truth)).abs() * skin).sum((2, 3)) / skin.sum()
    directions = sphere(400)
    shading, wanted = shade(directions, fitted.light), shade(directions, truth.light)  # (N, 400, 3)
    front = directions[:, 2] > 0
    level = wanted[:, front].mean((1, 2))
    difference = (shading - wanted).abs().mean(2) / level[:, None]
    return {
        "head turned by, degrees": torch.from_numpy(turn.magnitude()).rad2deg(),
        "landmarks in 3-D, mm": 1000 * _misfit(_points(head, fitted), _points(head, truth)),
        "the same for the mean face, mm": 1000 * _misfit(_points(head, neutral_codes(head)), _points(head, truth)),
        "shading on the front, %": 100 * difference[:, front].mean(1),
        "shading on the back, %": 100 * difference[:, ~front].mean(1),
        "albedo of the skin, %": 100 * albedo.mean(1),
        "skin tone, standard deviations": (fitted.tex[:, 0] - truth.tex[:, 0]).abs(),
    }


def _points(head: OpenHead, codes: FaceCodes) -> Tensor:
    """(N, 51, 3) landmarks within the face, the head unturned."""
    rest = codes.replace(pose=torch.cat([torch.zeros(len(codes), 3), codes.pose[:, 3:]], 1))
    return head.landmarks(rest, head.vertices(rest))[:, 17:]


def _misfit(a: Tensor, b: Tensor) -> Tensor:
    """Mean distance after moving and scaling a onto b, (N,): a single photo tells neither depth nor size."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    scale = (a * b).sum((1, 2), keepdim=True) / a.square().sum((1, 2), keepdim=True)
    misfit: Tensor = (a * scale - b).norm(dim=2).mean(1)
    return misfit


def report(name: str, head: OpenHead, estimator: LandmarkFit, faces: Faces) -> None:
    estimator.fit(faces.images[:1], faces.landmarks[:1])  # compiles the rasteriser
    start = time.perf_counter()
    estimator.geometry.fit(faces.landmarks)
    middle = time.perf_counter()
    fitted = estimator.fit(faces.images, faces.landmarks)
    end = time.perf_counter()
    count, geometry = len(faces.codes), (middle - start)
    whole = end - middle
    print(f"\n{name}: {count} faces, {count / whole:.1f} a second ({geometry / whole:.0%} of the time for geometry)")
    print(f"{'error':<34} {'mean':>7} {'median':>7} {'worst':>7}")
    for label, values in errors(head, faces.codes, fitted).items():
        print(f"{label:<34} {values.mean():7.2f} {values.median():7.2f} {values.max():7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=64, help="faces that are the open head itself")
    parser.add_argument("--people", type=int, default=8, help="synthetic people")
    parser.add_argument("--photos", type=int, default=4, help="portraits of each")
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = OpenHead.load()
    estimator = LandmarkFit(head)
    generator = torch.Generator().manual_seed(0)
    report("head", head, estimator, heads(head, options.count, options.size, generator))
    faces, missed = portraits(head, options.people, options.photos, options.size)
    report(f"synthetic ({missed} not found)", head, estimator, faces)


if __name__ == "__main__":
    main()
