import os
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from drig.data.photos import save_png
from drig.diffusion.network import Rig
from drig.editing import Editor
from drig.errors import DrigError
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head
from drig.identities import Identities
from drig.tracking import tracking_uri
from drig.training.config import TRAINING_PRESETS, TrainingConfig
from pipelines import personalize as module
from pipelines.identity_training import IdentityResult, Quality
from pipelines.personalize import PRESETS, Job, PersonalizeConfig, find_albums, main, personalize, report
from tests.pipelines.conftest import RIG, heads

TRAINING = TrainingConfig(samples=8, batch=4, learning_rate=1e-3, train_encoder=False, log_every=4, checkpoint_every=4)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Two people, and a folder without a photo."""
    for name in ("ann", "bob"):
        for i, picture in enumerate(heads(2, 192)):
            save_png(tmp_path / "people" / name / f"{i}.png", picture)
    (tmp_path / "people/nobody").mkdir()
    return tmp_path / "people"


@pytest.fixture
def config(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PersonalizeConfig:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    base, head = tmp_path / "base.safetensors", load_head("open")
    Editor(Rig.from_seed(RIG, 0), head, load_estimator("fit", head)).save(base)
    return PersonalizeConfig(
        photos=str(people), base=str(base), storage=str(tmp_path / "run"), runs=tmp_path, training=TRAINING
    )


real, work = module._personalize_one, module.personalize_worker


def fatal_for_bob(job: Job, name: str, device: str) -> IdentityResult:
    """bob's worker dies, always; ann waits for that once, so that she is in work while her own worker is ended too."""
    marks = Path(job.config.storage)
    if name == "bob":
        (marks / "bob died").touch()
        os._exit(1)
    if name == "ann" and not (marks / "ann began").exists():
        (marks / "ann began").touch()
        time.sleep(600)
    return real(job, name, device)


def worker(loop_config: dict[str, Any]) -> None:
    module._personalize_one = fatal_for_bob  # in the worker's process
    work(loop_config)


def test_one_fails_one_kills_its_workers_and_the_others_finish(
    config: PersonalizeConfig, ray_local: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "personalize_worker", worker)
        results = personalize(replace(config, attempts=1))
    assert [result.name for result in results] == ["ann", "bob", "nobody"]
    ann, bob, nobody = results
    assert (ann.version, ann.error) == (1, "")
    assert "died 1 times" in bob.error
    assert "holds no photo" in nobody.error
    with pytest.raises(DrigError, match=r"2 of 3 people failed \(bob, nobody\)"):
        report(results)
    assert "failed: its worker died" in capsys.readouterr().out
    identities = Identities(tracking_uri(config.runs))
    assert [info.name for info in identities.list()] == ["ann"]
    assert identities.album_report("ann")["photos"] == 2
    assert Editor.load(identities.fetch("ann")).mean_shape is not None


def test_what_is_done_is_not_done_again(config: PersonalizeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so no Ray is started where everybody is done."""
    asked: list[str] = []

    def instead(job: Job, todo: list[str]) -> dict[str, IdentityResult]:
        asked.extend(todo)
        done = {name: IdentityResult(name=name, version=1, folder="-") for name in todo if name != "nobody"}
        for name, result in done.items():
            folder = Path(job.config.storage) / name
            folder.mkdir()
            (folder / "result.json").write_bytes(result.to_json())
        return done | {"nobody": IdentityResult(name="nobody", error="no photo")}

    class NoBoard:
        pass

    class NoQueue:
        def remote(self, *given: Any) -> None: ...

    monkeypatch.setattr(module, "_run_workers", instead)
    monkeypatch.setattr(module, "Board", NoBoard)
    monkeypatch.setattr(ray, "remote", lambda **options: lambda kind: NoQueue())
    monkeypatch.setattr(module, "ray_cluster", lambda config: nullcontext())
    assert [result.error for result in personalize(config)] == ["", "", "no photo"]
    personalize(config)
    assert asked == ["ann", "bob", "nobody", "nobody"]


def test_people_are_folders_videos_and_named_albums(config: PersonalizeConfig, people: Path) -> None:
    (people / "cem.mp4").touch()
    (people / "readme.txt").touch()
    found = find_albums(replace(config, albums=(f"dan={people / 'ann'}",)))
    assert list(found) == ["ann", "bob", "cem", "nobody", "dan"]
    assert found["dan"] == found["ann"] == str(people / "ann")


def test_presets() -> None:
    paper = PersonalizeConfig(photos="-", **PRESETS["paper"])
    assert (paper.training.batch, paper.training.samples) == (4, 20_000)
    assert paper.cluster.gpu
    for names in (("tiny-full", "tiny"), ("paper", "paper-delta")):  # the same budget
        whole, delta = (PRESETS[name]["training"] for name in names)
        assert delta.delta_rank == 8
        assert (whole.delta_rank, delta.samples, delta.batch) == (None, whole.samples, whole.batch)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"photos": None}, "no people to personalise"),
        ({"training": TRAINING_PRESETS["tiny-stage1"]}, "train_encoder to false"),
        ({"workers": 0}, "give 1 or more"),
        ({"early_stop": 450}, "give --holdout"),
        ({"early_stop": 8, "holdout": 2}, r"give 80 \(the warm-up\) or more"),
    ],
)
def test_contradictions_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DrigError, match=message):
        PersonalizeConfig(**{"photos": "people", **change})


@pytest.mark.parametrize(
    ("albums", "message"),
    [
        (("ann",), "is not NAME=PATH"),
        (("zoe=/nowhere",), "does not exist"),
        (("base={people}/ann",), "kept for the base rig"),
        (("a b={people}/ann",), "cannot name an identity"),
        (("ann={people}/bob",), "two albums are called 'ann'"),
    ],
)
def test_albums_that_cannot_be(config: PersonalizeConfig, people: Path, albums: tuple[str, ...], message: str) -> None:
    with pytest.raises(DrigError, match=message):
        find_albums(replace(config, albums=tuple(album.format(people=people) for album in albums)))


def test_bad_input_is_exit_code_2_and_leaves_nothing(
    config: PersonalizeConfig, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["--storage", str(tmp_path / "run"), "--runs", str(tmp_path)]
    assert main(["--photos", str(people / "ann"), *run]) == 2
    assert "give --albums NAME=" in capsys.readouterr().err
    assert main(["--photos", str(people), "--base", str(people / "ann/0.png"), *run]) == 2
    assert "not a safetensors file" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_deltas_want_their_base_in_the_registry(config: PersonalizeConfig) -> None:
    """Before anything is trained: nobody could edit with them."""
    assert config.base is not None
    deltas = replace(config, training=replace(TRAINING, delta_rank=2))
    with pytest.raises(DrigError, match="register it: drig identities"):
        personalize(deltas)
    assert not Path(config.storage).exists()
    Identities(tracking_uri(config.runs)).register_base(Path(config.base))
    assert module._name_base(deltas) == config.base


def test_report_says_how_much_closer(capsys: pytest.CaptureFixture[str]) -> None:
    album = {"photos": 9, "warnings": ["only 9"], "rejects": {"x.jpg": "no face found"}}
    before, after = Quality(psnr=15.0, ssim=0.5), Quality(psnr=17.25, ssim=0.625)
    report([IdentityResult(name="ann", version=3, album=album, before=before, after=after, seconds=61.0)])
    told = capsys.readouterr().out
    assert "15.00 > 17.25" in told
    assert "0.500 > 0.625" in told
    assert "rejected x.jpg: no face found" in told
