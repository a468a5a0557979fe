import ast
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from drig import config
from drig.diffusion.network import RIG_PRESETS, RigConfig
from drig.errors import DrigError
from drig.training.config import TRAINING_PRESETS, TrainingConfig

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run made up for these tests."""

    photos: Path
    """Folder of photos."""
    rig: RigConfig = RIG_PRESETS["rig64"]
    """The network."""
    training: TrainingConfig = TRAINING_PRESETS["tiny-stage1"]
    """The training."""
    modes: tuple[str, ...] = ("light",)
    """What to edit."""
    kind: Literal["plain", "fancy"] = "plain"
    """Which kind."""
    fast: bool = False
    """Smallest sizes."""

    def __post_init__(self) -> None:
        if self.fast and self.kind == "fancy":
            raise DrigError("fast and kind fancy contradict each other: leave one out")


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"rig": RIG_PRESETS["rig256"], "training": TRAINING_PRESETS["paper-stage1"]},
    "fancy": {"kind": "fancy"},
}


def parse(*argv: str) -> Run:
    return parse_all(*argv)[0]


def parse_all(*argv: str) -> tuple[Run, bool]:
    return config.parse(Run, argv, prog="drig try", description="Try.", presets=PRESETS, positional=("photos",))


def test_defaults() -> None:
    assert parse_all("album") == (Run(photos=Path("album")), False)


def test_precedence_does_not_depend_on_the_order_of_the_words(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("training:\n  batch: 64\n  samples: 640\n")
    run = parse("--training.samples", "1000", "--config", str(file), "--preset", "paper", "album")
    assert run.rig == RIG_PRESETS["rig256"]
    assert run.training.checkpoint_every == TRAINING_PRESETS["paper-stage1"].checkpoint_every
    assert (run.training.batch, run.training.samples) == (64, 1000)


def test_a_positional_tuple_takes_the_words_that_are_left() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Build:
        """A run."""

        sources: tuple[str, ...]
        """Any files."""
        out: Path
        """A folder."""

    argv = ("a, b.jpg", "[c].png", "--out", "x", "007")
    found, _ = config.parse(Build, argv, prog="drig try", description="Try.", positional=("sources",))
    assert found == Build(sources=("a, b.jpg", "[c].png", "007"), out=Path("x"))


def test_a_program_may_name_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def run(code: int | None) -> int:
        return config.run(Run, lambda _: code, ["album"], prog="drig try", description="Try.", positional=("photos",))

    assert [run(None), run(0), run(1)] == [0, 0, 1]


def test_bare_flags_and_comma_separated_lists() -> None:
    run = parse("album", "--fast", "--modes", "exp,pose", "--rig.channel_mult=1,2,2")
    assert (run.fast, run.modes, run.rig.channel_mult) == (True, ("exp", "pose"), (1, 2, 2))
    assert parse("--fast", "false", "album").fast is False


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "required: photos"),
        (("album", "more"), "unexpected argument 'more'"),
        (("album", "--training.sampels", "3"), "unknown option --training.sampels: did you mean training.samples"),
        (("album", "--samples", "3"), "did you mean training.samples"),
        (("album", "--training.samples", "many"), "training.samples"),
        (("album", "--training.samples"), "needs a value"),
        (("album", "--kind", "odd"), "Literal['plain', 'fancy']"),
        (("album", "--preset", "papre"), "did you mean paper"),
        (("album", "--training.batch", "0"), "training batch is 0: it must be positive"),
        (("album", "--preset", "fancy", "--fast"), "contradict"),
        (("album", "--config", "missing.yaml"), "missing.yaml: No such file"),
    ],
)
def test_errors_say_what_to_do(argv: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    def program(run: Run) -> None:
        pytest.fail("ran with a bad config")

    code = config.run(Run, program, argv, prog="drig try", description="", presets=PRESETS, positional=("photos",))
    output = capsys.readouterr()
    assert code == 2
    assert message in output.err
    assert "Traceback" not in output.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training:\n  sampels: 3\n", "unknown option training.sampels: did you mean training.samples"),
        ("just words", "expected lines of 'name: value'"),
        ("a: [", "not YAML"),
    ],
)
def test_a_bad_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(DrigError, match=r"run\.yaml") as caught:
        parse("album", "--config", str(file))
    assert message in str(caught.value)


def test_the_resolved_config_is_saved_and_read_back(tmp_path: Path) -> None:
    run = parse("album", "--preset", "paper", "--modes", "exp", "--training.learning_rate", "3e-5")
    file = config.save(run, tmp_path / "new folder")
    assert parse("--config", str(file)) == run


def test_flat_values_for_experiment_trackers() -> None:
    flat = config.flatten(parse("album"))
    assert flat["photos"] == "album"
    assert flat["rig.channel_mult"] == [1, 2, 3, 4]
    assert flat["training.train_encoder"] is True
    assert not any(isinstance(value, dict) for value in flat.values())


def test_run_prints_the_config_and_calls_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    runs: list[Run] = []
    arguments: dict[str, Any] = {"prog": "drig try", "description": "", "positional": ("photos",)}
    assert config.run(Run, runs.append, ["album"], **arguments) == 0
    assert runs == [Run(photos=Path("album"))]
    assert capsys.readouterr().out == config.to_yaml(runs[0])
    assert config.run(Run, runs.append, ["album", "--dry-run"], **arguments) == 0
    assert len(runs) == 1


def test_a_program_that_cannot_go_on_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    def program(run: Run) -> None:
        raise DrigError("no photo in album. Put some there.")

    assert config.run(Run, program, ["--photos", "album"], prog="drig try", description="") == 2
    assert capsys.readouterr().err == "drig try: error: no photo in album. Put some there.\n"


def test_a_full_disk_is_a_message_too(capsys: pytest.CaptureFixture[str]) -> None:
    def program(run: Run) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/weights")

    assert config.run(Run, program, ["--photos", "album"], prog="drig try", description="") == 2
    assert "drig try: error: runs/weights: No space left on device. Make room" in capsys.readouterr().err


def test_help_shows_the_docstring_of_each_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Folder of photos." in text
    assert "Total budget, samples seen" in text
    assert "paper, fancy" in text


def test_something_reads_every_config_field() -> None:
    """STYLE: no option that does nothing. A field must be read somewhere other than in its own checks."""
    trees = [ast.parse(path.read_text()) for folder in ("drig", "pipelines", "deployments") for path in sources(folder)]
    reads = {name for tree in trees for name in attributes_read(tree)}
    fields = {(cls, name) for tree in trees for cls, name in config_fields(tree)}
    assert ("TrainingConfig", "samples") in fields
    assert sorted(f"{cls}.{name}" for cls, name in fields if name not in reads) == []


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def attributes_read(tree: ast.AST) -> Iterator[str]:
    """Names read as `something.name`, not counting `__post_init__`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "__post_init__":
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr
        yield from attributes_read(node)


def config_fields(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(class, field) of the dataclasses that are called some `Config`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config"):
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    yield node.name, line.target.id
