"""Synthetic people on Ray: files, the sheet, and a command that is given again."""

from pathlib import Path

import pytest

from drig.data.photos import read_photo
from pipelines.synthesize import main


def test_people_and_a_sheet_are_written_once(
    ray_local: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "people"
    words = ["--out", str(out), "--people", "2", "--photos", "2", "--size", "64"]
    assert main(words) == 0
    made = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert made == ["person_0000/00.png", "person_0000/01.png", "person_0001/00.png", "person_0001/01.png"]
    assert read_photo(tmp_path / "people.png").shape[1] > 256
    before = [(out / name).stat().st_mtime_ns for name in made]
    assert main(words) == 0
    assert [(out / name).stat().st_mtime_ns for name in made] == before
    assert main([*words[:-1], "128"]) == 2  # the folder holds portraits of another size
    assert "size 64 instead of 128" in capsys.readouterr().err
