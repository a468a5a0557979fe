"""What is told by content, through the command line."""

from pathlib import Path

import pytest

from drig.cli import main
from drig.data.store import BufferStoreWriter
from drig.diffusion.network import Rig, RigConfig
from drig.diffusion.weights import load_weights, save_weights
from tests.data.test_records import ball


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with BufferStoreWriter(tmp_path / "store", size=32, head="flame", estimator="deca") as writer:
        writer.put(ball(32))
    return tmp_path / "store"


def test_a_store_there_and_back(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    released = tmp_path / "released"
    assert main(["export", str(store), "--out", str(released)]) == 0
    assert "buffer store, 1 faces of 32 px" in capsys.readouterr().out
    assert main(["import", str(released), "--out", str(tmp_path / "again")]) == 0
    printed = capsys.readouterr().out
    assert "released data set, 1 faces of 32 px" in printed
    assert f"1 faces in {tmp_path / 'again'}, 0 rejected" in printed


def test_a_rig_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = RigConfig(size=32, base_channels=32, channel_mult=(1, 1), blocks_per_level=1, encoder_width=8)
    save_weights(tmp_path / "ours.safetensors", Rig.from_seed(config, 0), metadata={"head": "flame"})
    assert main(["export", str(tmp_path / "ours.safetensors"), "--out", str(tmp_path / "model.pt")]) == 0
    assert main(["import", str(tmp_path / "model.pt"), "--out", str(tmp_path / "again.safetensors")]) == 0
    assert "released model, 32 px, of no preset" in capsys.readouterr().out
    assert load_weights(tmp_path / "again.safetensors").rig.config.channel_mult == (1, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import", "nothing.pt", "--out", "x"], "there is nothing at nothing.pt"),
        (["import", "store", "--out", "x"], "needs no import"),
        (["import", "letter.txt", "--out", "x"], "letter.txt is damaged, or not what its name says"),
        (["import", "released", "--out", "x", "--size", "64"], "leave them out"),
        (["import", "released", "--out", "store/../letter.txt"], "letter.txt"),
        (["export", "letter.txt", "--out", "x"], "not a safetensors file"),
        (["export", "empty", "--out", "x"], "not a buffer store"),
        (["export", "store", "--out", "released"], "is there already"),
    ],
)
def test_mistakes_are_one_message(
    words: list[str],
    message: str,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "letter.txt").write_text("Dear Sir\n")
    assert main(["export", "store", "--out", "released"]) == 0
    capsys.readouterr()
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "x").exists()
