"""docs/client.ipynb does what it says: its cells run one after the other against a server."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.deployments.rehearsal import Rehearsal
from tests.deployments.test_app import photo_of_a_head

NOTEBOOK = Path(__file__).parents[2] / "docs" / "client.ipynb"
URL = 'URL = "http://127.0.0.1:8000"'


def cells() -> list[str]:
    """The code of the notebook."""
    found = json.loads(NOTEBOOK.read_text())["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


def test_its_cells_run(
    url: str,
    server: Rehearsal,
    photo: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("people/me").mkdir(parents=True)
    for i, name in enumerate(("me.jpg", "sunset.jpg", "people/me/0.jpg", "people/me/1.jpg")):
        Path(name).write_bytes(photo_of_a_head(i % 2))
    assert sum(URL in cell for cell in cells()) == 1
    names: dict[str, object] = {}
    for cell in cells():
        exec(cell.replace(URL, f"URL = {url!r}"), names)
    assert Path("edited.png").read_bytes() == server.pictures[0]
    assert isinstance(names["sheet"], Image.Image)
    assert names["gone"].remains == ()  # type: ignore[attr-defined]
    printed = capsys.readouterr().out
    assert "10 of 10" in printed
    assert "add some taken elsewhere" in printed


def test_nothing_is_left_from_a_run() -> None:
    content = json.loads(NOTEBOOK.read_text())
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in content["cells"])
    assert not re.search(r"(?<![\w.])/(?:home|work|Users|tmp)/", NOTEBOOK.read_text())
