from pathlib import Path

import pytest

from drig.faces.flame import FlameHead
from tests.flame_files import write_flame_folder


@pytest.fixture(scope="session")
def flame_folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user of FLAME has it, around the fixtures' synthetic head."""
    return write_flame_folder(shared, tmp_path_factory.mktemp("flame"))


@pytest.fixture(scope="session")
def flame(flame_folder: Path) -> FlameHead:
    return FlameHead.load(flame_folder)
