"""How fast faces become buffers: the rasteriser against PyTorch3D's on the CPU, and every step of a photo's way.

    python benchmarks/faces.py [--count 32] [--size 256]

One thread, so all speeds are those of one core. The photos are synthetic people, as FFHQ crops and as the face in a
larger photo. Steps: decode (PNG or JPEG to pixels), find (detector and landmarks), align (the crop), guess (the
network), geometry (landmarks), colours (light and albedo), render (buffers), encode (the store's record).
"""

import argparse
import io
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from drig.data.photos import encode_png, read_photo
from drig.data.records import encode, records_of
from drig.data.synthetic import render_portrait, sample_person, sample_shot
from drig.errors import PhotoRejected
from drig.faces.buffers import render_buffers
from drig.faces.camera import project
from drig.faces.fit import Fit
from drig.faces.head import neutral_codes
from drig.faces.landmarks import LandmarkDetector
from drig.faces.open_head import OpenHead
from drig.faces.portraits import Portrait, find_portrait, trusted_portrait
from drig.faces.rasterizer import rasterize_numba, rasterize_pytorch3d
from drig.faces.regressor import Regressor

BATCH = 8
"""Faces fitted and rendered at once, as `drig extract` does."""
PHOTO = (768, 1024)
"""Height and width of a photo that is no FFHQ crop yet, pixels."""


class Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start

    @contextmanager
    def rest(self, name: str, inner: str) -> Iterator[None]:
        """As `step`, without what the step `inner` takes meanwhile."""
        start, before = time.perf_counter(), self.seconds[inner]
        yield
        self.seconds[name] += time.perf_counter() - start - (self.seconds[inner] - before)

    def watch(self, owner: object, method: str, name: str) -> None:
        """Counts every call of a method as that step."""
        call = getattr(owner, method)

        def timed(*args: object, **kwargs: object) -> object:
            with self.step(name):
                return call(*args, **kwargs)

        setattr(owner, method, timed)

    def report(self, title: str, count: int) -> None:
        whole = sum(self.seconds.values())
        shares = "  ".join(f"{name} {seconds / whole:.0%}" for name, seconds in self.seconds.items())
        print(f"{title:<34} {count / whole:7.1f} photos/s   {shares}")


def compare_rasterizers(head: OpenHead, size: int) -> None:
    """One mean head."""
    codes = neutral_codes(head)
    points = project(head.vertices(codes), codes)
    ours = _best(lambda: rasterize_numba(points, head.faces, size), 20)
    theirs = _best(lambda: rasterize_pytorch3d(points, head.faces, size), 2)
    print(
        f"rasteriser, {len(head.faces):,} faces at {size} px: numba {1000 * ours:.1f} ms, PyTorch3D's CPU path", end=""
    )
    print(f" {theirs:.2f} s: {theirs / ours:,.0f}x")


def _best(call: Callable[[], object], times: int) -> float:
    call()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def portraits(head: OpenHead, count: int, size: int) -> list[NDArray[np.uint8]]:
    """Synthetic FFHQ crops, one of each person."""
    people = tqdm(range(count), unit="portrait", desc="render", leave=False)
    made = ((sample_person(head, 3, index), index) for index in people)
    return [render_portrait(head, person, sample_shot(person, 0), size).image for person, _ in made]


def in_a_photo(portrait: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The portrait, twice as large, in the middle of a photo."""
    height, width = PHOTO
    photo = np.full((height, width, 3), 110, np.uint8)
    side = 2 * len(portrait)
    large = np.asarray(Image.fromarray(portrait).resize((side, side), Image.Resampling.BICUBIC))
    top, left = (height - side) // 2, (width - side) // 2
    photo[top : top + side, left : left + side] = large
    return photo


def as_jpeg(photo: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


class Way:
    """A photo's whole way, each step timed."""

    def __init__(self, head: OpenHead, size: int, *, aligned: bool, detect: bool = True) -> None:
        self.head, self.size, self.aligned = head, size, aligned
        self.detector = LandmarkDetector() if detect else None
        self.estimator = Fit(head, Regressor.load())
        self.clock = Clock()
        self.clock.watch(self.estimator.regressor, "guess", "guess")
        self.clock.watch(self.estimator.geometry, "fit", "geometry")
        self.clock.watch(self.estimator.light, "fit", "colours")
        if self.detector is not None:
            self.clock.watch(self.detector, "detect", "find")

    def go(self, files: list[bytes]) -> None:
        """Photos in, encoded records out."""
        with self.clock.step("decode"):
            photos = [read_photo(file) for file in files]
        with self.clock.rest("align", "find"):
            found = [self._portrait(photo) for photo in photos]
        images = np.stack([portrait.image for portrait in found])
        landmarks = None if self.detector is None else np.stack([portrait.landmarks for portrait in found])
        portraits = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        codes = self.estimator.fit(portraits, None if landmarks is None else torch.from_numpy(landmarks))
        with self.clock.step("render"):
            buffers = render_buffers(self.head, codes, self.size)
        with self.clock.step("encode"):
            for record in records_of(["face"] * len(files), images, landmarks, codes, buffers):
                encode(record)

    def _portrait(self, photo: NDArray[np.uint8]) -> Portrait:
        if self.detector is None:
            return trusted_portrait(photo, self.size)
        return find_portrait(photo, self.detector, self.size, aligned=self.aligned)


def found(files: list[bytes], size: int) -> list[bytes]:
    """Those whose face the detector finds."""
    detector, kept = LandmarkDetector(), []
    for file in files:
        with suppress(PhotoRejected):
            find_portrait(read_photo(file), detector, size)
            kept.append(file)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=32, help="photos")
    parser.add_argument("--size", type=int, default=256, help="side of portraits and buffers, pixels")
    options = parser.parse_args()
    torch.set_num_threads(1)
    head, size = OpenHead.load(), options.size
    compare_rasterizers(head, size)
    crops = portraits(head, options.count, size)
    aligned = found([encode_png(crop) for crop in crops], size)
    whole = found([as_jpeg(in_a_photo(crop)) for crop in crops], size)
    ways = {
        "photo of 1024 x 768": (Way(head, size, aligned=False), whole),
        "FFHQ crop": (Way(head, size, aligned=True), aligned),
        "FFHQ crop, taken at its word": (Way(head, size, aligned=True, detect=False), aligned),
    }
    for title, (way, files) in ways.items():
        way.go(files[:BATCH])  # compiles and warms up
        way.clock.seconds.clear()
        for start in range(0, len(files), BATCH):
            way.go(files[start : start + BATCH])
        way.clock.report(title, len(files))


if __name__ == "__main__":
    main()
