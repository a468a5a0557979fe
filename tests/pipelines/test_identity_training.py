import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from drig.data.albums import load_album
from drig.data.photos import save_png
from drig.diffusion.network import Rig
from drig.editing import Editor
from drig.errors import DrigError
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head
from drig.faces.portraits import Portrait
from drig.personalization import fit_album
from drig.training.config import TrainingConfig
from pipelines.identity_training import IdentityResult, hold_out, quality, read_result, train_identity
from tests.pipelines.conftest import RIG, heads

TRAINING = TrainingConfig(
    samples=16, batch=4, learning_rate=1e-3, train_encoder=False, log_every=4, checkpoint_every=8, precision="fp32"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base rig that has learnt nothing."""
    path = tmp_path_factory.mktemp("base") / "weights.safetensors"
    head = load_head("open")
    Editor(Rig.from_seed(RIG, 0), head, load_estimator("fit", head)).save(path)
    return path


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("album")
    for i, picture in enumerate(heads(4, 192)):
        save_png(folder / f"{i}.png", picture)
    (folder / "9.jpg").write_text("not a photo")
    return folder


def run(base: Path, album: Path, folder: Path, training: TrainingConfig = TRAINING, **options: Any) -> IdentityResult:
    usual = {"holdout": 1, "aligned": False, "force": True}
    return train_identity("ann", str(album), base, training, folder=folder, **usual | options)


def test_leaves_a_rig_with_the_mean_shape_inside(base: Path, album: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    result = run(base, album, tmp_path, on_progress=lambda samples, _: seen.append(samples))
    assert seen == [4, 8, 12, 16]
    assert (result.album["photos"], result.album["trained_on"], result.album["held_out"]) == (4, 3, ["2.png"])
    assert list(result.album["rejects"]) == ["9.jpg"]
    assert any("add photos" in warning for warning in result.album["warnings"])  # a bad album is named before training
    assert result.before is not None
    assert result.after is not None
    assert result.after != result.before
    own = Editor.load(tmp_path / "weights.safetensors")
    assert own.likeness.mean_shape is not None
    faces = fit_album(own, load_album(str(album), own.detector, 32))
    kept = torch.cat([faces[i].codes.shape for i in (0, 1, 3)])
    torch.testing.assert_close(own.likeness.mean_shape, kept.mean(0, keepdim=True))
    # Stage 2 trains the UNet alone, from the base rig's weights.
    before, after = Editor.load(base).rig.state_dict(), own.rig.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"denoisingUNet"}
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["result.json", "sheet.png", "weights.safetensors"]
    assert read_result(str(tmp_path)) == result
    assert IdentityResult.from_json(result.to_json()) == result
    assert set(result.measures()) == {"before_psnr", "before_ssim", "after_psnr", "after_ssim"}


def test_a_delta_is_the_person_over_the_base(base: Path, album: Path, tmp_path: Path) -> None:
    result = run(base, album, tmp_path, replace(TRAINING, delta_rank=2))
    with pytest.raises(DrigError, match="is a delta"):
        Editor.load(tmp_path / "weights.safetensors")
    own = Editor.load(tmp_path / "weights.safetensors", base=base)
    assert own.likeness.mean_shape is not None
    assert result.after is not None
    assert result.after != result.before
    (held,) = result.album["held_out"]
    album_ = load_album(str(album), own.detector, 32)
    faces = dict(zip(album_.keys, fit_album(own, album_), strict=True))
    again = quality([own.edit(faces[held]).image], [faces[held].portrait])
    assert again is not None
    assert again.psnr == pytest.approx(result.after.psnr, abs=0.05)


@pytest.mark.parametrize("delta_rank", [None, 2])
def test_early_stopping_takes_the_best_of_the_curve(
    base: Path, album: Path, tmp_path: Path, delta_rank: int | None
) -> None:
    training = replace(TRAINING, delta_rank=delta_rank, learning_rate=0.5)  # wrecks the rig: the first is the best
    curves: list[list[float]] = []

    def watch(samples: int, metrics: dict[str, float]) -> None:
        records = [json.loads(file.read_text()) for file in tmp_path.glob("training/*/curve.json")]
        curves.extend([point["value"] for point in record] for record in records)

    result = run(base, album, tmp_path, training, early_stop=4, on_progress=watch)
    assert result.samples < 16
    assert result.after is not None
    assert result.after.psnr == pytest.approx(max(curves[-1]), abs=0.05)
    assert Editor.load(tmp_path / "weights.safetensors", base=base).likeness.mean_shape is not None


class Killed(BaseException):
    pass


def kill_at_12(samples: int, metrics: dict[str, float]) -> None:
    if samples == 12:
        raise Killed


def run_until_12(base: Path, album: Path, folder: Path) -> None:
    with pytest.raises(Killed):
        run(base, album, folder, on_progress=kill_at_12)
    assert [path.name for path in folder.glob("training/*/*")] == ["checkpoint_000000000008"]


def test_interrupted_training_goes_on_to_the_same_rig(base: Path, album: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(base, album, whole)
    run_until_12(base, album, parts)
    run(base, album, parts)
    expected, found = (Editor.load(folder / "weights.safetensors").rig.state_dict() for folder in (whole, parts))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("early_stop", [None, 8])
def test_where_the_machine_is_lost_another_goes_on_from_s3(
    base: Path, album: Path, bucket: str, tmp_path: Path, early_stop: int | None
) -> None:
    seen: list[int] = []

    def watch(samples: int, metrics: dict[str, float]) -> None:
        seen.append(samples)
        kill_at_12(samples, metrics)

    training, options = replace(TRAINING, delta_rank=2), {"early_stop": early_stop, "backup": f"{bucket}/ann"}
    whole = run(base, album, tmp_path / "whole", training, early_stop=early_stop)
    with pytest.raises(Killed):
        run(base, album, tmp_path / "lost", training, on_progress=watch, **options)
    other = run(
        base, album, tmp_path / "other", training, on_progress=lambda samples, _: seen.append(samples), **options
    )
    assert seen[:4] == [4, 8, 12, 12]
    assert (other.samples, other.album) == (whole.samples, whole.album)
    expected, found = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "other"))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_training_is_begun_anew_where_the_album_has_changed(base: Path, album: Path, tmp_path: Path) -> None:
    """Photos of other names, other content or one more: what is half done was learnt from others."""
    changed, folder = tmp_path / "changed", tmp_path / "ann"
    shutil.copytree(album, changed)
    run_until_12(base, changed, folder)
    (folder / "training" / "curve.json").write_text("[]")  # where an earlier drig kept it
    shutil.copyfile(changed / "0.png", changed / "a.png")
    seen: list[int] = []
    result = run(base, changed, folder, on_progress=lambda samples, _: seen.append(samples))
    assert seen == [4, 8, 12, 16]
    assert result.album["photos"] == 5


def test_what_is_done_is_done_again_only_where_the_album_has_changed(
    base: Path, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, folder = tmp_path / "changed", tmp_path / "ann"
    shutil.copytree(album, changed)
    first = run(base, changed, folder)
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.identity_training.train", None)
        assert run(base, changed, folder) == first
    (changed / "0.png").unlink()
    assert run(base, changed, folder).album["photos"] == 3


def test_an_album_with_faults_is_refused_before_its_training(base: Path, album: Path, tmp_path: Path) -> None:
    with pytest.raises(DrigError, match=r"not good enough to train on: only 4 usable photos: .* --force"):
        train_identity("ann", str(album), base, TRAINING, holdout=1, aligned=False, folder=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("early_stop", [None, 16])
def test_when_time_is_up_the_weights_of_then_are_taken(
    base: Path, album: Path, tmp_path: Path, early_stop: int | None
) -> None:
    """At the first report after the warm-up that finds it so."""
    seen: list[int] = []
    result = run(
        base,
        album,
        tmp_path,
        replace(TRAINING, samples=1000, warmup=8),
        minutes=1e-6,
        early_stop=early_stop,
        on_progress=lambda samples, _: seen.append(samples),
    )
    assert seen == [4, 8, 12]
    assert result.samples == 12
    assert result.metrics["loss"] > 0
    assert Editor.load(tmp_path / "weights.safetensors").likeness.mean_shape is not None


def test_mirror_images_are_trained_on_too(base: Path, album: Path, tmp_path: Path) -> None:
    results = [run(base, album, tmp_path / str(mirror), mirror=mirror) for mirror in (False, True)]
    assert results[0].metrics["loss"] != results[1].metrics["loss"]
    assert [Editor.load(tmp_path / f"{mirror}/weights.safetensors").mirrored for mirror in (False, True)] == [0, 1]


@pytest.mark.parametrize(("count", "expected"), [(0, []), (1, [5]), (2, [2, 7]), (9, [2, 7])])
def test_held_out_photos_are_spread_and_a_quarter_at_most(count: int, expected: list[int]) -> None:
    assert hold_out(10, count) == expected


def test_quality_is_of_the_face_and_a_mean_over_photos() -> None:
    square = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]], np.float32)
    black = Portrait(np.zeros((32, 32, 3), np.uint8), square, 1)
    brighter = replace(black, image=black.image + np.uint8(51))
    made = np.full((32, 32, 3), 255, np.uint8)
    made[7:25, 7:25] = 51
    found = quality([made, black.image, made], [black, brighter])
    assert found is not None
    assert found.psnr == pytest.approx(20 * np.log10(5))
    assert quality([made], []) is None
