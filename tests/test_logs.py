"""Events as lines: what is in them, and what must not be."""

import json
import logging

import numpy as np
import pytest

from drig import config as configs
from drig import logs
from drig.errors import DrigError
from pipelines.extract_buffers import ExtractConfig


@pytest.fixture(autouse=True)
def own_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger of this test, as a new process has it."""
    logger = logging.Logger("drig")
    logger.addHandler(logging.NullHandler())
    monkeypatch.setattr(logs, "_logger", logger)
    monkeypatch.delenv(logs.VARIABLE, raising=False)


def lines(output: pytest.CaptureFixture[str]) -> list[str]:
    return output.readouterr().err.splitlines()


def test_without_the_variable_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logs.event("run_failed", level=logging.ERROR, reason="the disk is full")
    assert lines(capsys) == []


def test_json_is_an_object_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(logs.VARIABLE, "json")
    logs.configure()
    logs.configure()
    logs.event("identity_failed", level=logging.WARNING, identity="ann", reason='two\n"lines"', photos=3, loss=0.5)
    (line,) = lines(capsys)
    found = json.loads(line)
    assert (found["event"], found["level"], found["identity"]) == ("identity_failed", "warning", "ann")
    assert (found["reason"], found["photos"], found["loss"]) == ('two\n"lines"', 3, 0.5)
    assert found["time"].endswith("+00:00")


def test_text_is_a_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(logs.VARIABLE, "text")
    logs.configure()
    logs.event("checkpoint", samples=16, place="a\nb")
    (line,) = lines(capsys)
    assert line.endswith(r'INFO checkpoint samples=16 place="a\nb"')


def test_no_secret_reaches_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(logs.VARIABLE, "json")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct horse")
    logs.configure()
    signed = "https://lab.s3.amazonaws.com/me.jpg?X-Amz-Credential=AKIA1234&X-Amz-Signature=abcdef0123&x=1"
    server = "postgresql://drig:hunter2@db/mlflow"
    logs.event("run_failed", reason=f"{server} {signed} wJalrXUtnFEMI/K7MDENG correct horse")
    (line,) = lines(capsys)
    for secret in ("hunter2", "AKIA1234", "abcdef0123", "wJalrXUtnFEMI", "correct horse"):
        assert secret not in line
    assert "@db/mlflow" in line
    assert "lab.s3.amazonaws.com/me.jpg" in line


def test_no_photo_reaches_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(logs.VARIABLE, "json")
    logs.configure()
    logs.event("rejected", photo=np.full((4, 4, 3), 7, np.uint8), file=b"\x89PNG", text="x" * 5000)  # type: ignore[arg-type]
    found = json.loads(lines(capsys)[0])
    assert (found["photo"], found["file"]) == ("<ndarray>", "<bytes>")
    assert len(found["text"]) == logs.LONGEST


def test_another_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(logs.VARIABLE, "yaml")
    with pytest.raises(DrigError, match="DRIG_LOG is 'yaml'; set it to json or text"):
        logs.configure()


@pytest.mark.parametrize(
    ("raised", "code", "event"),
    [
        (None, 0, "run_finished"),
        (DrigError("no photos there"), 2, "run_failed"),
        (KeyboardInterrupt(), 130, "run_interrupted"),
        (SystemExit(0), 130, "run_interrupted"),  # how Ray Train answers Ctrl-C
    ],
)
def test_every_command_tells_how_it_ended(
    raised: BaseException | None,
    code: int,
    event: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def program(config: ExtractConfig) -> None:
        if raised is not None:
            raise raised

    monkeypatch.setenv(logs.VARIABLE, "json")
    assert configs.run(ExtractConfig, program, ["--photos=p", "--store=s"], prog="extract", description="") == code
    events = [json.loads(line) for line in lines(capsys) if line.startswith("{")]
    assert [found["event"] for found in events] == ["run_started", event]
    assert events[1]["command"] == "extract"
    assert events[1].get("reason") == ("DrigError: no photos there" if code == 2 else None)
