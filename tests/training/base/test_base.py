"""The recipe of the released bases, at the smallest size of everything."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from drig.data.records import decode
from drig.data.store import BufferStore
from drig.data.synthetic import sample_person
from drig.diffusion.network import Rig
from drig.diffusion.weights import load_weights
from drig.editing import Editor
from drig.errors import DrigError
from drig.faces.open_head import OpenHead
from drig.randomness import numpy_generator
from drig.training.base import people, training
from drig.training.base.detection import NEIGHBOURS, DetectorErrors
from drig.training.base.people import KNOWLEDGE, PHOTOS, render, render_person, store_of


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the processes that render have, since sums over more of them end in other bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people, in stores of both sizes."""
    folder = tmp_path_factory.mktemp("base")
    render(folder, range(2), workers=1)
    return folder


def test_a_detector_is_wrong_as_it_was_on_a_like_pose() -> None:
    bank = DetectorErrors.load()
    truth, rotation = np.zeros((68, 2), np.float32), torch.tensor([0.0, 0.4, 0.0])
    found = [bank.detect(truth, rotation, numpy_generator(0, "detection", i)) for i in range(40)]
    used = {int(np.abs(bank.errors - errors).sum((1, 2)).argmin()) for errors in found}
    assert 2 < len(used) <= NEIGHBOURS
    assert np.abs(bank.rotations[list(used)] - rotation.numpy()).max() < 0.25
    assert np.array_equal(found[3], bank.detect(truth, rotation, numpy_generator(0, "detection", 3)))
    # The median error of a dlib landmark on synthetic portraits is 1% of the portrait's side, and 4% of it is rare.
    distances = np.linalg.norm(bank.errors, axis=2) / 2
    assert 0.005 < np.median(distances) < 0.02
    assert (distances > 0.04).mean() < 0.1


def test_people_are_written_at_both_sizes_and_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = {size: BufferStore(store_of(folder, size)) for size in people.SIZES}
    for size, store in stores.items():
        assert store.size == size
        assert store.keys() == [
            f"person_{i:06d}/{k:02d}/{known}" for i in range(2) for k in range(PHOTOS) for known in sorted(KNOWLEDGE)
        ]
    large, small = (store.read(5) for store in stores.values())
    assert large.landmarks is not None
    assert small.landmarks is not None
    assert np.array_equal(large.landmarks, small.landmarks)
    coarse = large.image.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(coarse - small.image).mean() < 6
    skin = small.alpha & (small.albedo.max(0) > 0)
    explained = np.abs(small.rendered.transpose(1, 2, 0) - small.image / 255)[skin]
    assert explained.mean() < 0.12
    monkeypatch.setattr(
        people, "_in_order", lambda pool, todo, sizes: pytest.fail(f"{todo} again") if todo else iter([])
    )
    render(folder, range(2), workers=1)
    render(folder, range(2), workers=1, sizes=[64])


def test_a_photo_is_read_again_by_what_an_album_shows(folder: Path) -> None:
    store = BufferStore(store_of(folder, 64))
    for photo in range(PHOTOS):
        unknown, one, others = (store.read(f"person_000000/{photo:02d}/{known}").codes for known in KNOWLEDGE)
        assert np.array_equal(unknown["pose"], one["pose"])
        assert 0 < np.abs(others["pose"] - unknown["pose"]).max() < 0.1
        assert np.abs(others["exp"] - unknown["exp"]).max() > 0.01


def test_the_more_is_known_of_a_person_the_nearer_are_the_buffers(folder: Path) -> None:
    store = BufferStore(store_of(folder, 128))
    off = {}
    for knowledge in KNOWLEDGE:
        records = [store.read(f"person_{i:06d}/{k:02d}/{knowledge}") for i in range(2) for k in range(PHOTOS)]
        off[knowledge] = np.mean(
            [np.abs(each.rendered.transpose(1, 2, 0) - each.image / 255)[each.alpha].mean() for each in records]
        )
        skins = len({each.codes["tex"].tobytes() for each in records})
        assert skins == {"unknown": 2 * PHOTOS, "one": 2 * PHOTOS, "others": 2}[knowledge]
    assert off["others"] < 0.95 * off["one"] < 0.9 * off["unknown"]


def test_a_person_depends_on_their_number_alone(folder: Path) -> None:
    records = {(size, key): record for size, key, record in render_person(1, people.SIZES)}
    for size in people.SIZES:
        stored = BufferStore(store_of(folder, size)).read("person_000001/02/others")
        again = decode(records[size, "person_000001/02/others"])
        assert np.array_equal(stored.image, again.image)
        np.testing.assert_allclose(stored.codes["pose"], again.codes["pose"], atol=1e-4)
    looks = [sample_person(OpenHead.load(), people.SEED, i).looks for i in range(2)]
    assert looks[0] != looks[1]


def test_a_part_of_the_training_leaves_a_base_and_its_losses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(training.TRAINING["cpu"], batch=4, log_every=4)
    monkeypatch.setattr(training, "TRAINING", {"cpu": small})
    config = training.settings(8, 4, fresh=True, compiled=False, seed=0, device="cpu")
    assert (config.samples, config.warmup, config.cooldown) == (8, 4, 4)
    first = training.train_part(folder / "first", store_of(folder, 64), 1, 64, config, None, "cpu")
    loaded = load_weights(first)
    assert (loaded.metadata["head"], loaded.metadata["estimator"], loaded.metadata["people"]) == ("open", "fit", 1)
    editor = Editor.load(first)
    assert editor.follows_skin
    assert editor.mirrored
    assert len((folder / "first" / training.CURVE).read_text().splitlines()) == 2
    later = training.settings(8, None, fresh=False, compiled=False, seed=1, device="cpu")
    second = training.train_part(folder / "second", store_of(folder, 64), 2, 64, later, first, "cpu")
    before, after = (load_weights(file).rig.state_dict() for file in (first, second))
    changed = sum(not torch.equal(before[name], after[name]) for name in before)
    assert changed > 0.5 * len(before)
    with pytest.raises(DrigError, match="holds 2 people, 3 are asked for"):
        training.train_part(folder / "third", store_of(folder, 64), 3, 64, later, first, "cpu")
    with pytest.raises(DrigError, match="is a rig of 64 px, and --size is 128"):
        training.train_part(folder / "third", store_of(folder, 128), 2, 128, later, first, "cpu")


def test_the_rig_of_128_px_fits_the_file_that_is_released() -> None:
    assert 2 * sum(tensor.numel() for tensor in Rig(training.RIGS[128]).state_dict().values()) < 25e6
