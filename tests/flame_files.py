"""The synthetic head of the parity fixtures under the names that FLAME's files have, with a texture of our own."""

import shutil
import zlib
from pathlib import Path

import numpy as np

PARITY_NAMES = {
    "generic_model.pkl": "flame_generic_model.pkl",
    "head_template.obj": "flame_template.obj",
    "landmark_embedding.npy": "flame_landmark_embedding.npy",
}


def write_flame_folder(shared: Path, folder: Path, model: str = "flame_generic_model.pkl") -> Path:
    """The three fixture files and a texture; `model` names the fixture that becomes generic_model.pkl."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, fixture in (PARITY_NAMES | {"generic_model.pkl": model}).items():
        shutil.copyfile(shared / "parity" / fixture, folder / name)
    mean, basis = texels()
    np.savez(folder / "FLAME_texture.npz", mean=mean, tex_dir=basis)
    return folder


def texels() -> tuple[np.ndarray, np.ndarray]:
    """Mean (512, 512, 3) and components (512, 512, 3, 60) of a texture in FLAME's units: 0..255, BGR."""
    rng = np.random.default_rng(zlib.crc32(b"texture"))
    mean = rng.integers(60, 190, (512, 512, 3), np.uint8)
    return mean, rng.integers(-20, 20, (512, 512, 3, 60), np.int8)
