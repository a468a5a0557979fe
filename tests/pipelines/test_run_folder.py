import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from drig.errors import DrigError
from pipelines import run_folder
from pipelines.run_folder import absolute, open_run


@dataclass(frozen=True, kw_only=True)
class Part:
    rate: float = 0.1
    samples: int = 10


@dataclass(frozen=True, kw_only=True)
class Whole:
    workers: int = 2
    sizes: tuple[int, ...] = (1, 2)
    part: Part = field(default_factory=Part)


def test_saves_the_config_and_lets_the_same_run_go_on(tmp_path: Path) -> None:
    place = str(tmp_path / "run")
    open_run(place, Whole(), changeable={"workers", "part.samples"})
    open_run(place, Whole(workers=4, part=Part(samples=20)), changeable={"workers", "part.samples"})
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text()) == {
        "workers": 4,
        "sizes": [1, 2],
        "part": {"rate": 0.1, "samples": 20},
    }


def test_names_what_differs(tmp_path: Path) -> None:
    open_run(str(tmp_path), Whole(), changeable=())
    with pytest.raises(DrigError, match=r"part\.rate 0\.1 there, 0\.5 here"):
        open_run(str(tmp_path), Whole(part=Part(rate=0.5)), changeable={"part.samples"})
    assert "0.5" not in (tmp_path / "config.yaml").read_text()


def test_a_run_from_before_a_setting_existed_goes_on(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("workers: 2\npart: {rate: 0.1, samples: 10}\n")
    open_run(str(tmp_path), Whole(), changeable=())
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["sizes"] == [1, 2]


def test_a_whole_component_may_be_changeable(tmp_path: Path) -> None:
    open_run(str(tmp_path), Whole(), changeable=())
    open_run(str(tmp_path), Whole(part=Part(rate=0.5, samples=3)), changeable={"part"})


def test_absolute_leaves_s3_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("s3://bucket/runs") == "s3://bucket/runs"
    assert absolute("runs/a") == str(tmp_path / "runs/a")


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "LOCK_S", 0.1)
    script = "import sys, pathlib, pipelines.run_folder as run\n"
    script += "with run.alone(pathlib.Path(sys.argv[1])): print(flush=True); input()"
    command = [sys.executable, "-c", script, str(tmp_path / "ann")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"\n"
        with pytest.raises(DrigError, match="another process works in"), run_folder.alone(tmp_path / "ann"):
            pass
        with run_folder.alone(tmp_path / "bob"):
            pass
        other.kill()
    with run_folder.alone(tmp_path / "ann"):
        pass
