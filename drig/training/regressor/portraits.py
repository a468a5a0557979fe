"""The portraits that the regressor learns from: synthetic people with their true codes, in files of a few people each.

Everything is a function of the seed and the person, so rendering goes on where it stopped, in any number of processes.
"""

import io
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from drig import storage
from drig.data.synthetic import Person, Shot, render_portrait, sample_person, sample_shot
from drig.errors import PhotoRejected
from drig.faces.codes import FaceCodes
from drig.faces.landmarks import LandmarkDetector
from drig.faces.open_head import OpenHead
from drig.faces.portraits import find_portrait
from drig.randomness import numpy_generator

SIZE = 160
"""Side of the portraits in pixels: the regressor looks at 128 of them."""
PHOTOS = 4
"""Of each person."""
PEOPLE_PER_FILE = 20
TURNED_AWAY = 0.3
"""Share of portraits that look further away than `drig synth` makes them, as far as both eyes are seen."""


@dataclass(frozen=True, eq=False)
class Portraits:
    """N portraits with the truth about them."""

    images: Tensor
    """(N, 3, S, S) uint8 RGB, or floats where a function says so."""
    landmarks: Tensor
    """(N, 68, 2) image NDC, as the detector sees them; NaN where it does not."""
    codes: FaceCodes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, some: slice | Tensor) -> Self:
        return type(self)(self.images[some], self.landmarks[some], self.codes[some])


def render(folder: Path, people: int, seed: int, workers: int) -> list[Path]:
    """Renders whatever is not there yet of `people` people; returns the files."""
    starts = range(0, people, PEOPLE_PER_FILE)
    jobs = [(folder / f"{start:06d}.npz", range(start, min(start + PEOPLE_PER_FILE, people)), seed) for start in starts]
    missing = [job for job in jobs if not job[0].exists()]
    with ProcessPoolExecutor(workers) as pool:
        for _ in tqdm(
            pool.map(_render_file, *zip(*missing, strict=True)) if missing else [], total=len(missing), unit="file"
        ):
            pass
    return [path for path, _, _ in jobs]


def load(paths: list[Path]) -> Portraits:
    """All portraits of the files, in memory: 77 KB each."""
    images, landmarks, codes = [], [], []
    for path in paths:
        with np.load(path) as archive:
            arrays = {name: torch.from_numpy(archive[name]) for name in archive.files}
        images.append(arrays.pop("images").permute(0, 3, 1, 2).contiguous())
        landmarks.append(arrays.pop("landmarks"))
        codes.append(FaceCodes.from_dict(arrays))
    return Portraits(torch.cat(images), torch.cat(landmarks), FaceCodes.cat(codes))


def sample_portrait(person: Person, index: int) -> Shot:
    """Photo `index` of a person, some of them turned further away than `sample_shot` does."""
    shot, rng = sample_shot(person, index), numpy_generator(person.seed, "turned away", person.index, index)
    if rng.random() > TURNED_AWAY:
        return shot
    yaw, pitch = rng.uniform(-60, 60), np.clip(rng.normal(0, 14), -30, 30)
    return replace(shot, pose=(float(yaw), float(pitch), shot.pose[2]))


def _render_file(path: Path, people: range, seed: int) -> None:
    torch.set_num_threads(1)
    head, detector = OpenHead.load(), LandmarkDetector()
    images, codes = [], []
    for index in people:
        person = sample_person(head, seed, index)
        for photo in range(PHOTOS):
            portrait = render_portrait(head, person, sample_portrait(person, photo), SIZE)
            images.append(portrait.image)
            codes.append(portrait.codes)
    arrays = {name: value.numpy() for name, value in FaceCodes.cat(codes).as_dict().items()}
    landmarks = np.stack([_detect(detector, image) for image in images])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=np.stack(images), landmarks=landmarks, **arrays)  # type: ignore[arg-type]
    storage.write_bytes(path, buffer.getvalue())


def _detect(detector: LandmarkDetector, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(68, 2), NaN where no face is found."""
    large = Image.fromarray(image).resize((2 * SIZE, 2 * SIZE), Image.Resampling.BICUBIC)
    try:
        return find_portrait(np.asarray(large), detector, SIZE, aligned=True).landmarks
    except PhotoRejected:
        return np.full((68, 2), np.nan, np.float32)
