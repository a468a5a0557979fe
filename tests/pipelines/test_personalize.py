import csv
import json
import os
import shutil
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, cast
from unittest.mock import Mock, patch

import pytest

from drig import storage
from drig.data.photos import save_png
from drig.diffusion.network import Rig
from drig.editing import Editor
from drig.errors import DrigError
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head
from drig.identities import Identities
from drig.tracking import Tracker, tracking_uri
from drig.training.config import TRAINING_PRESETS, TrainingConfig
from pipelines import identity_training
from pipelines import personalize as module
from pipelines.album_list import AlbumPlace, fingerprint
from pipelines.cluster import ClusterConfig
from pipelines.identity_training import Comparison, IdentityResult, Quality, train_identity
from pipelines.personalize import PRESETS, Job, PersonalizeConfig, PersonWorker, main, personalize, report
from pipelines.run_folder import open_run
from tests.pipelines.conftest import RIG, heads

TRAINING = TrainingConfig(samples=8, batch=4, learning_rate=1e-3, train_encoder=False, log_every=4, checkpoint_every=4)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Two people, and a folder without a photo."""
    for name in ("ann", "bob"):
        add_person(tmp_path / "people", name)
    (tmp_path / "people/nobody").mkdir()
    return tmp_path / "people"


def add_person(people: Path, name: str) -> None:
    for i, picture in enumerate(heads(2, 192)):
        save_png(people / name / f"{i}.png", picture)


@pytest.fixture
def config(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PersonalizeConfig:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    base, head = tmp_path / "base.safetensors", load_head("open")
    Editor(Rig.from_seed(RIG, 0), head, load_estimator("fit", head)).save(base)
    return PersonalizeConfig(
        albums=(str(people),),
        base=str(base),
        storage=str(tmp_path / "run"),
        runs=tmp_path,
        training=TRAINING,
        force=True,
    )


class Unlucky(PersonWorker):
    """bob's worker dies once, after a checkpoint; for cem there is a mistake in the code."""

    def work(self, name: str, album: str) -> IdentityResult:
        storage = Path(self._job.config.storage)

        def train(*given: Any, on_progress: Any, **options: Any) -> IdentityResult:
            def watch(samples: int, metrics: dict[str, float]) -> None:
                with (storage / "progress.csv").open("a") as file:
                    file.write(f"{name},{samples}\n")
                if name == "bob" and samples == 8 and not (storage / "bob died").exists():
                    (storage / "bob died").touch()
                    os._exit(1)
                on_progress(samples, metrics)

            if name == "cem":
                raise ZeroDivisionError("a mistake")
            return train_identity(*given, on_progress=watch, **options)

        with patch.object(module, "train_identity", train):  # in the worker's process
            return super().work(name, album)


def test_a_crash_a_mistake_and_a_bad_album_cost_nobody_else_anything(
    config: PersonalizeConfig,
    people: Path,
    ray_local: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The fleet in small: `benchmarks/fleet.py` does it with 40 people, and kills the driver too."""
    for name in ("cem", "dan"):
        add_person(people, name)
    monkeypatch.setattr(module, "PersonWorker", Unlucky)
    results = {result.name: result for result in personalize(config)}
    assert list(results) == ["ann", "bob", "cem", "dan", "nobody"]
    done = {name: result.version for name, result in results.items() if not result.error}
    assert done == dict.fromkeys(("ann", "bob", "dan"), 1)
    assert results["cem"].error == "ZeroDivisionError: a mistake"
    assert "holds no photo" in results["nobody"].error
    with pytest.raises(DrigError, match=r"2 of 5 people failed \(cem, nobody\)"):
        report(list(results.values()))
    assert set(json.loads((Path(config.storage) / "failures.json").read_text())) == {"cem", "nobody"}

    seen = defaultdict(list)
    with (Path(config.storage) / "progress.csv").open() as file:
        for name, samples in csv.reader(file):
            seen[name].append(int(samples))
    # bob went on from a checkpoint, which is written after the report; nobody else did anything twice.
    assert seen == {"ann": [4, 8], "bob": [4, 8, 8], "dan": [4, 8]}

    identities = Identities(tracking_uri(config.runs))
    assert [(info.name, info.version) for info in identities.list()] == [("ann", 1), ("bob", 1), ("dan", 1)]
    assert identities.album_report("ann")["photos"] == 2
    kept = sorted(path.name for path in identities.fetch("ann").parent.iterdir())
    assert kept == ["album.json", "result.json", "sheet.png", "weights.safetensors"]
    assert Editor.load(identities.fetch("ann")).likeness.mean_shape is not None


def test_people_share_a_gpu_where_there_is_one(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Mock()
    monkeypatch.setattr("ray.remote", asked)
    monkeypatch.setattr(module, "board_bar", lambda *given, **options: nullcontext())
    monkeypatch.setattr(module, "run_fleet", lambda *given: iter(()))
    for gpu in (True, False):
        config = replace(job.config, gpus_per_worker=0.25, cluster=ClusterConfig(gpu=gpu))
        module._run_fleet(replace(job, config=config), {"ann": AlbumPlace("-")})
    assert [call.kwargs["num_gpus"] for call in asked.call_args_list] == [0.25, 0]


@pytest.fixture
def job(config: PersonalizeConfig) -> Job:
    """For workers in this process."""

    class NoBoard:
        def put(self, *given: Any) -> None: ...

    tracker = Tracker(tracking_uri(config.runs), "stage2")
    return Job(config, tracker, tracker.run("all"), NoBoard())  # type: ignore[arg-type]


def test_a_killed_driver_s_worker_may_have_finished(job: Job, people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = module.personalize_one(job, "ann", str(people / "ann"), "cpu")
    monkeypatch.setattr(module, "train_identity", None)
    assert module.personalize_one(job, "ann", str(people / "ann"), "cpu") == done


def test_on_s3_the_backup_goes_when_the_person_is_done(job: Job, people: Path, bucket: str) -> None:
    """Also where the worker was killed before it could delete it."""
    job, place = replace(job, config=replace(job.config, storage=bucket)), f"{bucket}/ann"
    done = module.personalize_one(job, "ann", str(people / "ann"), "cpu")
    files = {PurePosixPath(file).name for file in storage.list_files(place)}
    assert files == {"result.json", "sheet.png", "weights.safetensors"}
    storage.write_bytes(f"{place}/training/0/checkpoint_1/rig.safetensors", b"left")
    assert module.personalize_one(job, "ann", str(people / "ann"), "cpu") == done
    assert not storage.exists(f"{place}/training")


def test_what_was_trained_and_not_registered_is_registered_once(
    job: Job, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the version was made, before the result said so."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Identities, "_set_live", killed)
        with pytest.raises(KeyboardInterrupt):
            module.personalize_one(job, "ann", str(people / "ann"), "cpu")
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.identity_training.train", None)  # it is trained
        assert module.personalize_one(job, "ann", str(people / "ann"), "cpu").version == 1
    assert Identities(job.run.uri).get("ann").version == 1


@pytest.mark.parametrize(("own_psnr", "live"), [(19.0, 1), (21.0, 2)])
def test_a_changed_album_is_a_new_version_and_the_better_one_is_live(
    job: Job, people: Path, monkeypatch: pytest.MonkeyPatch, own_psnr: float, live: int
) -> None:
    """Rigs that have learnt so little are good by chance: how good is told here, on which photos is not."""
    compare = identity_training._compare

    def told(*arguments: Any) -> Comparison:
        return replace(cast(Comparison, compare(*arguments)), live_psnr=20.0, own_psnr=own_psnr)

    monkeypatch.setattr(identity_training, "_compare", told)
    album = people / "ann"
    for i, picture in enumerate(heads(8, 192)):
        save_png(album / f"{i}.png", picture)
    job = replace(job, config=replace(job.config, holdout=2))
    first = module.personalize_one(job, "ann", str(album), "cpu")
    assert first.beside_live is None
    for i, picture in enumerate(heads(2, 224)):
        save_png(album / f"new{i}.png", picture)
    second = module.personalize_one(job, "ann", str(album), "cpu")
    assert (first.version, second.version, second.album["photos"]) == (1, 2, 10)
    beside = second.beside_live
    assert beside is not None
    assert (beside.live, Identities(job.run.uri).get("ann").version) == (1, live)
    common = set(first.album["held_out"]) & set(second.album["held_out"])
    assert beside.photos == len(common | {key for key in second.album["held_out"] if key.startswith("new")})


def test_who_is_done_is_not_done_again_unless_the_album_has_changed(
    config: PersonalizeConfig, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so no Ray is started where everybody is done."""
    asked: list[list[str]] = []

    def instead(job: Job, todo: dict[str, AlbumPlace]) -> dict[str, IdentityResult]:
        asked.append(sorted(todo))
        done = {}
        for name, album in todo.items():
            error = "no photo" if name == "nobody" else ""
            done[name] = IdentityResult(
                name=name, version=1, album={"fingerprint": fingerprint(album.place)}, error=error
            )
            if not error:
                storage.write_bytes(Path(job.config.storage) / name / "result.json", done[name].to_json())
        return done

    monkeypatch.setattr(module, "_run_fleet", instead)
    monkeypatch.setattr(module, "Board", lambda: None)
    monkeypatch.setattr(module, "ray_cluster", lambda config: nullcontext())
    (people / "nobody" / "notes.txt").touch()
    assert [result.error for result in personalize(config)] == ["", "", "no photo"]
    personalize(config)
    shutil.copyfile(people / "ann" / "0.png", people / "ann" / "2.png")
    personalize(config)
    assert asked == [["ann", "bob", "nobody"], ["nobody"], ["ann", "nobody"]]
    (people / "list.csv").write_text("name,album\nann,gone\n")
    listed = personalize(replace(config, albums=(str(people / "list.csv"),)))
    assert [result.name for result in listed] == ["ann"]  # what came of an album that is gone stays


def test_a_run_goes_on_with_the_base_it_began_with(config: PersonalizeConfig) -> None:
    assert config.base is not None
    identities = Identities(tracking_uri(config.runs))
    identities.register_base(Path(config.base))
    begun = replace(config, base=None)
    assert module._name_base(begun) == "base:1"
    open_run(begun.storage, replace(begun, base="base:1"), changeable=())
    newer = Path(config.base).with_name("newer.safetensors")
    head = load_head("open")
    Editor(Rig.from_seed(RIG, 1), head, load_estimator("fit", head)).save(newer)
    assert identities.register_base(newer) == 2
    assert module._name_base(begun) == "base:1"
    assert module._name_base(replace(begun, storage=f"{begun.storage}2")) == "base:2"


def test_presets() -> None:
    paper = PersonalizeConfig(albums=("-",), **PRESETS["paper"])
    assert (paper.training.batch, paper.training.samples) == (4, 20_000)
    assert paper.cluster.gpu
    for names in (("tiny-full", "tiny"), ("paper", "paper-delta")):  # the same budget
        whole, delta = (PRESETS[name]["training"] for name in names)
        assert delta.delta_rank == 8
        assert (whole.delta_rank, delta.samples, delta.batch) == (None, whole.samples, whole.batch)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"albums": ()}, "no people to personalise"),
        ({"minutes": 0}, "more than 0 minutes"),
        ({"minutes": 1, "training": replace(TRAINING, cooldown=4)}, "no cool-down"),
        ({"gpus_per_worker": 2}, "a share of one GPU"),
        ({"training": TRAINING_PRESETS["tiny-stage1"]}, "train_encoder to false"),
        ({"workers": 0}, "give 1 or more"),
        ({"early_stop": 450}, "give --holdout"),
        ({"early_stop": 8, "holdout": 2}, r"give 80 \(the warm-up\) or more"),
    ],
)
def test_contradictions_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DrigError, match=message):
        PersonalizeConfig(**{"albums": ("people",), **change})


def test_bad_input_is_exit_code_2_and_leaves_nothing(
    config: PersonalizeConfig, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["--storage", str(tmp_path / "run"), "--runs", str(tmp_path)]
    assert main(["--albums", str(people / "ann"), *run]) == 2
    assert "give --albums NAME=" in capsys.readouterr().err
    assert main(["--albums", str(people), "--base", str(people / "ann/0.png"), *run]) == 2
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
    assert "stays live" not in told
    assert "15.00 > 17.25" in told
    assert "0.500 > 0.625" in told
    assert "rejected x.jpg: no face found" in told


def test_report_says_which_version_stayed_live(capsys: pytest.CaptureFixture[str]) -> None:
    beside = Comparison(photos=2, live=1, live_psnr=24.0, own_psnr=23.5)
    album = {"photos": 9, "warnings": [], "rejects": {}}
    report([IdentityResult(name="ann", version=3, album=album, beside_live=beside)])
    assert "version 1 stays live: 24.00 dB of the face on 2 photos" in capsys.readouterr().out
