"""Distance to the training data: by a store's records, and without one by the head's priors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from drig.data.albums.typical import UNUSUAL, load_training
from drig.data.records import Record
from drig.data.store import BufferStoreWriter
from drig.errors import DrigError
from drig.faces.codes import FaceCodes
from drig.faces.fit_light_prior import sample_lights
from drig.faces.head import load_head, neutral_codes

HEAD = load_head("open")


def people(count: int, seed: int) -> FaceCodes:
    generator = torch.Generator().manual_seed(seed)
    codes = neutral_codes(HEAD, count)
    pose = torch.zeros(count, 6)
    pose[:, 1] = 0.2 * torch.randn(count, generator=generator)
    return codes.replace(
        shape=torch.randn(codes.shape.shape, generator=generator),
        tex=torch.randn(codes.tex.shape, generator=generator),
        exp=torch.rand(codes.exp.shape, generator=generator),
        pose=pose,
        light=sample_lights(count, generator),
    )


def fill(folder: Path, codes: FaceCodes, head: str = "open") -> Path:
    blank = np.zeros((3, 8, 8), np.float32)
    with BufferStoreWriter(folder, size=8, head=head, estimator="truth") as store:
        for i in range(len(codes)):
            arrays = {name: value[0].numpy() for name, value in codes[i].as_dict().items()}
            image, alpha = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.bool_)
            points = np.zeros((68, 2), np.float32)
            store.put(
                Record(
                    key=f"{i:03d}",
                    image=image,
                    normal=blank,
                    albedo=blank,
                    alpha=alpha,
                    codes=arrays,
                    landmarks=points,
                )
            )
    return folder


def test_a_store_tells_the_usual_from_the_unusual(tmp_path: Path) -> None:
    training = load_training(fill(tmp_path / "store", people(300, 0)), HEAD)
    assert "300 training photos" in training.name
    album = people(3, 1)
    pose, light = album.pose.clone(), album.light.clone()
    pose[1, 1] = 1.2
    light[2] *= 5
    found = training.percentiles(album.replace(pose=pose, light=light))
    assert set(found) == {"pose", "expression", "light", "shape", "albedo"}
    assert found["pose"][1] >= UNUSUAL > found["pose"][[0, 2]].max()
    assert found["light"][2] >= UNUSUAL > found["light"][:2].max()


def test_the_heads_own_priors_stand_in() -> None:
    training = load_training(None, HEAD)
    many = training.percentiles(people(300, 2))
    assert set(many) == {"light", "shape", "albedo"}
    for kind in ("shape", "albedo"):
        assert 40 < np.median(many[kind]) < 60
    odd = people(1, 3)
    assert training.percentiles(odd.replace(shape=4 * odd.shape))["shape"][0] > UNUSUAL
    assert training.percentiles(odd.replace(light=-odd.light))["light"][0] > UNUSUAL


def test_a_store_of_another_head_or_of_few_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DrigError, match="'flame'"):
        load_training(fill(tmp_path / "flame", people(1, 0), "flame"), HEAD)
    with pytest.raises(DrigError, match="50 or more"):
        load_training(fill(tmp_path / "few", people(3, 0)), HEAD)
