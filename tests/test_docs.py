"""README.md and docs/*.md against the programs: commands are parsed, Python runs, links and quotes lead somewhere.

A `drig` or pipeline command in a block ```sh is given to the real command line with --dry-run; one within a sentence is
often cut short, so only its verb and its options have to exist. A benchmark's options are given to its own parser, a
target to make, and what curl would send to the API. Everything else has to be in ELSEWHERE, which names what covers it.
"""

import argparse
import ast
import importlib
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from drig import cli
from drig.data.photos import encode_png
from drig.diffusion.deltas import Delta
from drig.editing import Editor
from drig.faces.likeness import Likeness
from drig.identities import Identities
from drig.shipped_base import SHIPPED_BASE
from drig.tracking import URI_VARIABLE
from drig.training.config import TRAINING_PRESETS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "MODEL_CARD.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE: Mapping[str, tuple[str, str]] = {
    # command, or its beginning with a blank at the end -> what covers it, and what that has to hold
    "drig VERB --help": ("tests/test_cli.py", "def test_help_lists_every_verb"),
    "ray job submit --working-dir . -- ": ("tests/pipelines/test_job_submit.py", '"--working-dir=."'),
    "ray up cluster.yaml": ("tests/pipelines/test_cluster_yaml.py", "cluster.yaml"),
    "serve deploy deployments/serve.yaml": ("tests/deployments/test_app.py", "def test_serve_yaml_is_what_serve"),
    "aws cloudformation deploy --stack-name drig --template-file deployments/aws.yaml --capabilities "
    "CAPABILITY_NAMED_IAM --parameter-overrides Bucket=BUCKET": (
        "tests/pipelines/test_cluster_yaml.py",
        "deployments/aws.yaml",
    ),
    "ray job stop": ("tests/pipelines/test_job_submit.py", "def test_a_person_goes_on_after_ray_job_stop"),
    "ray job logs": ("tests/pipelines/test_job_submit.py", "get_job_logs"),
    "docker build -f deployments/Dockerfile -t IMAGE .": ("tests/deployments/test_dockerfile.py", "FILE.read_text()"),
    "kubectl create secret generic drig-mlflow --from-literal=MLFLOW_BACKEND_STORE_URI="
    "postgresql://USER:PASSWORD@HOST/DATABASE": (
        "deployments/kuberay/mlflow.yaml",
        "secretRef: { name: drig-mlflow }",
    ),
    "kubectl apply -f deployments/kuberay/mlflow.yaml -f deployments/kuberay/cluster.yaml": (
        "tests/deployments/test_kuberay.py",
        "def test_mlflows_pod_matches",
    ),
    "kubectl apply -f deployments/kuberay/stage1.yaml": ("tests/deployments/test_kuberay.py", "stage1.yaml"),
    "bash deployments/mlflow.sh s3://BUCKET": ("tests/deployments/test_mlflow_server.py", "deployments/mlflow.sh"),
    "mlflow ui --backend-store-uri sqlite:///runs/mlflow.db": ("drig/tracking.py", "mlflow ui --backend-store-uri"),
    "ray get-auth-token --generate": ("cluster.yaml", "ray get-auth-token --generate"),
    "export RAY_AUTH_MODE=token": ("tests/pipelines/test_cluster_yaml.py", "RAY_AUTH_MODE=token"),
    "export DRIG_FACE_FILES=/data/flame": ("tests/test_users_files.py", "setenv(FOLDER_VARIABLE"),
    "unset RAY_ADDRESS": ("tests/pipelines/test_cluster.py", "RAY_ADDRESS"),
    "mlflow gc": ("drig/tracking.py", "from mlflow.cli import gc"),
    "source .venv/bin/activate": ("Makefile", "-m venv .venv"),
}
PHOTO = encode_png(np.zeros((4, 4, 3), np.uint8))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MENTION = re.compile(r"`((?:drig|python|make|ray|serve|mlflow) [^`]+)`")
FILE = re.compile(r"`((?:drig|pipelines|deployments|tests|benchmarks|docs)/[^` ]*)`")
LINK = re.compile(r"\]\(([^)#:]*)(?:#([^)]*))?\)")


@dataclass(frozen=True)
class Block:
    """What stands between two fences of a page."""

    page: Path
    line: int
    """Of its first line."""
    kind: str
    text: str


@dataclass(frozen=True)
class Command:
    """One command of a page, without its comment."""

    place: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place}: {shlex.join(self.words)}"


def blocks(page: Path, kind: str | None = None) -> list[Block]:
    text = page.read_text()
    found = [Block(page, text.count("\n", 0, m.start(2)) + 1, m[1], m[2]) for m in BLOCK.finditer(text)]
    return [block for block in found if kind in (None, block.kind)]


def prose(page: Path) -> str:
    """The page without its blocks, its lines where they were."""
    return BLOCK.sub(lambda match: "\n" * match[0].count("\n"), page.read_text())


def commands(block: Block) -> Iterator[Command]:
    """Its lines, those that end in a backslash joined with the next."""
    begun, start = "", block.line
    for number, line in enumerate(block.text.splitlines(), block.line):
        start = start if begun else number
        if line.endswith("\\"):
            begun += line[:-1]
            continue
        words, begun = shlex.split(begun + line, comments=True), ""
        if words:
            yield Command(f"{block.page.name}:{start}", tuple(words))


def mentions(page: Path) -> Iterator[Command]:
    text = prose(page)
    for match in MENTION.finditer(text):
        yield Command(f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}", tuple(shlex.split(match[1])))


COMMANDS = [command for page in PAGES for block in blocks(page, "sh") for command in commands(block)]
MENTIONS = [mention for page in PAGES for mention in mentions(page)]


class Checker:
    """Says of commands whether they would be understood, in an empty folder."""

    def __init__(self, patch: pytest.MonkeyPatch, output: pytest.CaptureFixture[str]) -> None:
        self.patch = patch
        self.output = output

    def check(self, words: Sequence[str], *, whole: bool = True) -> None:
        """Fails for a command that is wrong, or that nothing covers. whole: it is not cut short."""
        if (key := _elsewhere(words)) is not None:
            _require_cover(key)
            if key.endswith(" "):
                self.check(words[len(shlex.split(key)) :], whole=whole)
            return
        match words:
            case ["drig", *rest]:
                self._dry_run(cli.main, rest, whole)
            case ["python", script, *rest] if script.startswith("pipelines/") and (ROOT / script).exists():
                module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
                self._dry_run(module.main, rest, whole)
            case ["python", script, *rest] if script.startswith("benchmarks/") and (ROOT / script).exists():
                self._parse(ROOT / script, rest)
            case ["python", "-m", module, *rest] if (main := ROOT / module.replace(".", "/") / "__main__.py").exists():
                self._parse(main, rest)
            case ["make", *targets]:
                self._plan(targets)
            case ["curl", url, *options] if url.startswith("http://127.0.0.1:8000/"):
                _request(url, options)
            case _:
                pytest.fail(
                    f"nothing checks `{shlex.join(words)}`: correct it, or add it to ELSEWHERE in "
                    f"{Path(__file__).name} with the test or the file that covers it"
                )

    def _dry_run(self, program: Callable[[Sequence[str]], int], words: Sequence[str], whole: bool) -> None:
        make_inputs(words)
        before = set(Path().rglob("*"))
        code = program([*words, "--dry-run"])
        said = self.output.readouterr().err
        if code and (whole or re.search(r"unknown (option|verb)", said)):
            pytest.fail(f"{shlex.join(words)}: {said}")
        assert set(Path().rglob("*")) == before, "a dry run made something"

    def _parse(self, script: Path, options: Sequence[str]) -> None:
        """Run the script up to the end of its parsing."""

        class Parsed(Exception):
            pass

        parse_args = argparse.ArgumentParser.parse_args

        def parse_and_stop(parser: argparse.ArgumentParser) -> None:
            parse_args(parser)
            raise Parsed

        with self.patch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
            patch.setattr(sys, "argv", [str(script), *options])
            patch.syspath_prepend(str(script.parent))  # they import each other
            patch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))  # one sets it
            try:
                runpy.run_path(str(script), run_name="__main__")
            except Parsed:
                return
            except SystemExit:
                pytest.fail(f"{script.name}: {self.output.readouterr().err}")
        pytest.fail(f"{script.name} parses no options")

    def _plan(self, targets: Sequence[str]) -> None:
        """What make would run, without the set-up; the drig commands in it are checked too."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "ARGS"))}
        plan = subprocess.run(["make", "-n", *targets], cwd=ROOT, env=ours, capture_output=True, text=True)
        assert plan.returncode == 0, plan.stderr
        for line in plan.stdout.replace("\\\n", " ").splitlines():
            if line.startswith(".venv/bin/drig "):
                self.check(["drig", *shlex.split(line)[1:]])


def _request(url: str, options: Sequence[str]) -> None:
    """Send what curl would to the API, which knows the source TOKEN and finds a face in every file."""
    from fastapi.testclient import TestClient  # here, for those who come for other commands

    from deployments.messages import Source
    from tests.deployments.api.conftest import FACE, FakeBackend, app_of

    class Everybody:
        largest = 64

        def list(self) -> list[Any]:
            return []

        async def get(self, name: str) -> Any:
            return SimpleNamespace(name=name, version=1, size=64)

    rest, body, fields, files = list(options), None, dict[str, str](), dict[str, bytes]()
    while rest:
        match rest.pop(0):
            case "-o":
                rest.pop(0)
            case "--json":
                body = json.loads(rest.pop(0))
            case "-F":
                name, _, value = rest.pop(0).partition("=")
                if value.startswith("@"):
                    files[name] = PHOTO
                else:
                    fields[name] = value
            case option:
                pytest.fail(f"curl's option {option} is not known here")
    catalogue: Any = Everybody()
    app = app_of(FakeBackend(sources={"TOKEN": Source(FACE, b"")}), catalogue)
    with TestClient(app) as client:
        path = url.removeprefix("http://127.0.0.1:8000")
        sends = body is not None or fields or files
        response = client.post(path, data=fields, files=files, json=body) if sends else client.get(path)
    assert response.is_success, response.text


def make_inputs(words: Sequence[str]) -> None:
    """The files and folders below this folder that words could name. No dry run looks into any but YAML and JSON."""
    for word in words:
        path = Path(word)
        if word.startswith("-") or path.is_absolute() or "://" in word or "..." in word:
            continue
        if word.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        elif path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}\n")


def _elsewhere(words: Sequence[str]) -> str | None:
    """The entry of ELSEWHERE that a command has."""
    line = " ".join(words)
    return next((key for key in ELSEWHERE if line == key or (key[-1] == " " and line.startswith(key))), None)


def _require_cover(key: str) -> None:
    file, content = ELSEWHERE[key]
    assert (ROOT / file).is_file(), f"{file}, which ELSEWHERE says covers `{key}`, is gone"
    assert content in (ROOT / file).read_text(), f"{file} covers `{key}` no more: it has no {content}"


@pytest.fixture
def checker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Checker:
    monkeypatch.chdir(tmp_path)
    return Checker(monkeypatch, capsys)


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_commands_are_understood(command: Command, checker: Checker) -> None:
    checker.check(command.words)


@pytest.mark.parametrize("command", MENTIONS, ids=str)
def test_commands_within_sentences_have_verbs_and_options_that_exist(command: Command, checker: Checker) -> None:
    checker.check(command.words, whole=False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("drig paint me.jpg", "unknown verb"),
        ("drig edit me.jpg --controls.jaw 20", "unknown option"),
        ("drig edit me.jpg", "nothing to edit"),
        ("drig stage1 --preset ffhq257 --dataset x", "ffhq257"),
        ("python pipelines/stage1.py --datset x", "unknown option"),
        ("python pipelines/stage2.py", "nothing checks"),
        ("ray job submit --working-dir . -- python pipelines/stage1.py", "dataset"),
        ("ray job submit -- python pipelines/stage1.py --dataset x", "nothing checks"),
        ("python benchmarks/deltas.py --popel 3", "unrecognized arguments"),
        ("make quikstart", "quikstart"),
        ('make quickstart ARGS="--fats"', "unknown option"),
        ("curl http://127.0.0.1:8000", "ELSEWHERE"),
    ],
)
def test_wrong_commands_are_told(line: str, message: str, checker: Checker) -> None:
    with pytest.raises((pytest.fail.Exception, AssertionError), match=message):
        checker.check(shlex.split(line))


def test_lines_are_joined_and_comments_left_out() -> None:
    block = Block(Path("page.md"), 7, "sh", "# first\ndrig edit \\\n  me.jpg  # now\n\ndrig serve\n")
    assert [str(command) for command in commands(block)] == ["page.md:8: drig edit me.jpg", "page.md:11: drig serve"]


def test_what_is_covered_elsewhere_is_on_a_page() -> None:
    lines = [" ".join(command.words) for command in (*COMMANDS, *MENTIONS)]
    for key in ELSEWHERE:
        assert any(line.startswith(key) for line in lines), f"no page has `{key}` any more: take it out of ELSEWHERE"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_of_kinds_that_are_checked(page: Path) -> None:
    wrong = [f"line {b.line}: {b.kind}" for b in blocks(page) if b.kind not in ("sh", "python", "yaml", "mermaid", "")]
    assert not wrong, "write commands as ```sh and Python as ```python, so that they are tested"
    assert prose(page).count("```") == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_files_are_there(page: Path) -> None:
    missing = [path for path in FILE.findall(prose(page)) if not (ROOT / path).exists()]
    for target, anchor in LINK.findall(prose(page)):
        there = page.parent / target if target else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            missing.append(f"{target}#{anchor}")
    assert not missing


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_questions_quote_what_is_really_said() -> None:
    source = "".join(path.read_text() for room in ("drig", "pipelines") for path in (ROOT / room).rglob("*.py"))
    quotes = re.findall(r'"([^"]+)"', " ".join(prose(ROOT / "docs" / "faq.md").split()))
    assert len(quotes) > 10
    assert [quote for quote in quotes if quote not in source] == []


@pytest.fixture(scope="module")
def workplace(synthetic_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the quickstart leaves, of a person that has learnt nothing, and with a user's photos."""
    folder = tmp_path_factory.mktemp("workplace")
    photos = synthetic_people / "person_0000"
    shutil.copytree(photos, folder / "people" / "me")
    for name, photo in (("me.jpg", "00.png"), ("sunset.jpg", "01.png"), ("edited.png", "02.png")):
        shutil.copyfile(photos / photo, folder / name)
    base = Editor.load(SHIPPED_BASE)
    own, shipped, person = (
        folder / path
        for path in (
            "runs/stage1/weights.safetensors",
            SHIPPED_BASE.relative_to(ROOT),
            "runs/people/person_0000/weights.safetensors",
        )
    )
    for path in (own, shipped, person):
        path.parent.mkdir(parents=True)
    for path in (own, shipped):
        shutil.copyfile(SHIPPED_BASE, path)
    delta = Delta.start(base.rig, 2, torch.Generator().manual_seed(0))
    known = Likeness(mean_shape=torch.zeros(1, base.head.shape_size))
    Editor(base.rig, base.head, base.estimator, likeness=known, delta=delta).save(person)
    Identities(f"sqlite:///{folder}/runs/mlflow.db").ensure_base()
    return folder


@pytest.fixture
def at_work(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In that folder, with budgets of training that last a second."""
    monkeypatch.chdir(workplace)
    monkeypatch.delenv(URI_VARIABLE, raising=False)
    small = {name: replace(preset, samples=16, warmup=0, cooldown=0) for name, preset in TRAINING_PRESETS.items()}
    monkeypatch.setattr("drig.training.config.TRAINING_PRESETS", small)


@pytest.mark.usefixtures("at_work")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_runs_and_gives_what_the_page_says(page: Path) -> None:
    namespace: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page, "python"):
        run_block(block, namespace)


def run_block(block: Block, namespace: dict[str, Any]) -> None:
    """Statement by statement; a comment behind an expression has to be its value."""
    tree = ast.parse(block.text)
    lines = block.text.splitlines()
    comments = [lines[(node.end_lineno or 0) - 1][node.end_col_offset or 0 :].strip() for node in tree.body]
    for node, comment in zip(ast.increment_lineno(tree, block.line - 1).body, comments, strict=True):
        if isinstance(node, ast.Expr) and comment:
            value = eval(compile(ast.Expression(node.value), block.page, "eval"), namespace)
            assert comment == f"# {worth(value)}", f"{block.page.name}:{node.lineno}"
        else:
            exec(compile(ast.Module([node], []), block.page, "exec"), namespace)


def worth(value: object) -> str:
    """A value as the pages write it."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return repr(value)


def test_a_value_that_the_page_has_wrong_is_told() -> None:
    run_block(Block(Path("page.md"), 1, "python", "a = 1  # one\na  # 1\n"), {})
    with pytest.raises(AssertionError, match=r"page\.md:12"):
        run_block(Block(Path("page.md"), 11, "python", "a = 1\na  # 2\n"), {})
