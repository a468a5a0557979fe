from pathlib import Path

import pytest

from tests.foreign.crafted import Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of that name and content."""

    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write
