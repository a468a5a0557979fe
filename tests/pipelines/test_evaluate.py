import json
from pathlib import Path

import pandas as pd
import pytest

from drig.diffusion.network import Rig
from drig.editing import Editor
from drig.faces.estimators import load_estimator
from drig.faces.head import load_head
from pipelines.evaluate import EvaluateConfig, main
from tests.pipelines.conftest import RIG

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "weights.safetensors"
    head = load_head("open")
    Editor(Rig.from_seed(RIG, 0), head, load_estimator("fit", head)).save(path)
    return path


@pytest.fixture(scope="module")
def arguments(base: Path, synthetic_people: Path) -> list[str]:
    """One synthetic person, and three photos of another as a real one's."""
    training = ["--training.samples=8", "--training.batch=4", "--training.checkpoint_every=8", "--training.warmup=0"]
    sizes = ["--people=1", "--album=2", "--unseen=2", "--steps=2"]
    methods = "truth,copy,buffers,base,personalised"
    photos = synthetic_people / "person_0001"
    return [f"--base={base}", f"--photos={photos}", "--aligned", f"--methods={methods}", *sizes, *training]


@pytest.fixture(scope="module")
def finished(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation")
    assert main([*arguments, f"--out={out}"]) == 0
    return out


def test_leaves_numbers_and_a_page(finished: Path) -> None:
    rows = pd.read_csv(finished / "rows.csv")
    assert set(rows["subject"]) == {"person_0000", "00.png", "01.png", "02.png"}
    assert len(rows) == 5 * 16 + 3 + 3 * (5 + 3)
    result = json.loads((finished / "result.json").read_text())
    assert result["config"]["people"] == 1
    methods = ["truth", "copy", "buffers", "base", "personalised"]
    assert list(result["summary"]) == list(result["real"]) == methods
    assert result["real"]["truth"]["edits"]["light"]["mean"] < result["real"]["copy"]["edits"]["light"]["mean"]
    page = (finished / "report.html").read_text()
    assert "The worst edits" in page
    assert "A real person" in page


def test_the_same_command_goes_on_with_who_is_left(
    finished: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = finished / "photo_0001" / "pictures.npz"
    times = [path.stat().st_mtime_ns for path in finished.glob("*/pictures.npz") if path != pictures]
    (finished / "photo_0001" / "rows.csv").unlink()
    before = (finished / "rows.csv").read_bytes(), pictures.stat().st_mtime_ns
    assert main([*arguments, f"--out={finished}"]) == 0
    assert "4 people and photos to evaluate on, 3 of them done before" in capsys.readouterr().out
    assert (finished / "rows.csv").read_bytes() == before[0]
    assert pictures.stat().st_mtime_ns != before[1]
    assert [path.stat().st_mtime_ns for path in finished.glob("*/pictures.npz") if path != pictures] == times


def test_fails_where_a_measure_is_worse_than_in_an_earlier_result(
    finished: Path, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = finished / "result.json"
    assert main([*arguments, f"--out={finished}", f"--against={result}"]) == 0
    better = json.loads(result.read_text())
    better["summary"]["base"]["edits"]["psnr"] = {"mean": 40.0, "low": 39.0, "high": 41.0}
    tmp_path.joinpath("better.json").write_text(json.dumps(better))
    assert main([*arguments, f"--out={finished}", f"--against={tmp_path / 'better.json'}"]) == 1
    assert "WORSE: base, edits, psnr" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--people=0"], "nobody to evaluate on"),
        (["--methods=magic"], "methods magic; choose from truth, copy"),
        (["--unseen=1"], "unseen is 1"),
        (["--against=nowhere.json"], "nowhere.json does not exist"),
    ],
)
def test_bad_options_are_told(
    base: Path, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--base={base}", f"--out={tmp_path}", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_no_result_is_told_before_anybody_is_evaluated(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_text("[]")
    assert main([f"--base={base}", f"--out={tmp_path / 'out'}", f"--against={other}"]) == 2
    assert "other.json is no result of drig evaluate" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_all_methods_have_one_name(base: Path) -> None:
    assert EvaluateConfig(base=base, methods=("all",)).chosen[-1] == "whole_rig"
