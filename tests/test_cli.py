"""The command line: exit codes and messages for what people mistype, and verbs that need no training."""

import json
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from drig.cli import VERBS, main
from drig.commands.editing import EditConfig
from drig.data.photos import read_photo, steady_frames
from drig.data.video_writing import write_mp4
from drig.diffusion.samplers import SAMPLERS
from drig.provenance import read_mark


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name in VERBS:
        assert f"  {name} " in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["paint"], "choose from quickstart, inspect"),
        (["edit", "no.jpg", "--controls.yaw", "20"], "no.jpg"),
        (["edit", "me.jpg"], "nothing to edit"),
        (["edit", "me.jpg", "--controls.yaw", "200"], "-90 to 90"),
        (["edit", "me.jpg", "--controls.yaw", "20", "--sampler", "euler"], "euler"),
        (["edit", "me.jpg", "--sede", "1"], "did you mean seed"),
        (["synth", "--out", "x", "--people", "0"], "give 1 or more"),
        (["inspect", "no_such_folder"], "no_such_folder"),
        (["identities", "--register", "ann"], "belong together"),
        (["album", "destroy"], "choose from build, check"),
        (["album", "build", "--out", "x"], "sources"),
        (["album", "build", "me", "--out", "x"], "me does not exist"),
        (["album", "build", "me", "--out", "x", "--least", "30"], "least <= most"),
        (["album", "check", "no_such_folder"], "no_such_folder"),
        (["album", "check", "s3://bucket/me"], "give --out FOLDER"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not list(tmp_path.iterdir())


def test_edit_offers_every_sampler() -> None:
    assert get_args(get_type_hints(EditConfig)["sampler"]) == tuple(SAMPLERS)


def test_the_shipped_base_edits_where_nothing_was_trained(
    synthetic_people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, runs, out = str(synthetic_people / "person_0000" / "00.png"), str(tmp_path / "runs"), tmp_path / "edit.png"
    assert main(["edit", photo, "--controls.yaw", "20", "--steps", "2", "--runs", runs, "--out", str(out)]) == 0
    assert read_photo(out).shape == (64, 64, 3)
    mark = read_mark(out.read_bytes(), "image/png")
    assert mark is not None
    assert (mark.intact, mark.edit) == (True, {"changed": ["yaw"]})
    whole = tmp_path / "whole.png"
    options = ["--controls.yaw", "20", "--steps", "2", "--paste_back", "true", "--runs", runs, "--out", str(whole)]
    assert main(["edit", photo, *options]) == 0
    pasted = read_photo(whole)
    assert pasted.shape == read_photo(photo).shape
    assert (pasted != read_photo(photo)).any()
    assert "edited photo" in capsys.readouterr().out
    sheet = tmp_path / "showcase.png"
    assert main(["showcase", photo, "--steps", "1", "--runs", runs, "--out", str(sheet)]) == 0
    assert read_photo(sheet).shape[1] > 900
    assert main(["edit", photo, "--controls.yaw", "20", "--identity", "ann", "--runs", runs]) == 2
    assert "no identity is called 'ann'" in capsys.readouterr().err


def test_a_video_drives_a_photo(synthetic_people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = sorted((synthetic_people / "person_0001").glob("*.png"))
    clip, out = tmp_path / "clip.mp4", tmp_path / "driven.mp4"
    clip.write_bytes(write_mp4([read_photo(photo) for photo in photos], fps=2))
    photo, runs = str(synthetic_people / "person_0000" / "00.png"), str(tmp_path / "runs")
    options = ["--steps", "2", "--seconds", "1", "--runs", runs, "--out", str(out), "--mark", "false"]
    assert main(["drive", photo, str(clip), *options]) == 0
    assert len(list(steady_frames(out, 2.0))) == 2
    assert read_mark(out.read_bytes(), "video/mp4") is None
    assert main(["drive", photo, str(tmp_path / "no.mp4"), "--runs", runs]) == 2
    assert "no.mp4 does not exist" in capsys.readouterr().err


def test_inspect_prints_a_line_a_photo_and_draws_the_faces(
    synthetic_people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "face.png").write_bytes((synthetic_people / "person_0000" / "00.png").read_bytes())
    (folder / "letter.jpg").write_text("Dear Sir")
    assert main(["inspect", str(folder), "--out", str(tmp_path / "sheet.png"), "--size", "64"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("letter.jpg" in line and "rejected" in line for line in lines)
    assert any("face.png" in line and "rejected" not in line for line in lines)
    assert read_photo(tmp_path / "sheet.png").shape[0] > 200


def test_an_album_is_built_and_checked(
    synthetic_people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [str(synthetic_people / "person_0000"), str(synthetic_people / "person_0001" / "00.png")]
    out = tmp_path / "people" / "ann"
    assert main(["album", "build", *sources, "--out", str(out), "--least", "2"]) == 0
    printed = capsys.readouterr().out
    assert "3 portraits in" in printed
    assert "1 other person was left out" in printed
    assert f"drig personalize --albums {out.parent} --aligned" in printed
    assert sorted(path.name for path in out.iterdir()) == ["00.png", "01.png", "02.png", "album.json", "sheet.png"]

    assert main(["album", "check", str(out)]) == 1  # of three photos
    printed = capsys.readouterr().out
    assert "Do not train on this album" in printed
    assert "only 3 usable photos" in printed
    assert json.loads((out / "check.json").read_text())["passes"] is False
    assert "only 3 usable photos" in (out / "report.html").read_text()
    assert main(["album"]) == 2
    assert "check" in capsys.readouterr().out
