"""The Dockerfile as far as it can be checked where no image can be built: what it copies, installs and runs as."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deployments/Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Name and arguments of each, continued lines joined."""
    text = re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def copied() -> list[str]:
    return [word for name, given in instructions() if name == "COPY" for word in shlex.split(given)[:-1]]


def test_everything_that_is_copied_exists_and_reaches_the_builder() -> None:
    ignored = Path(f"{FILE}.dockerignore").read_text().splitlines()
    assert "*" in ignored
    for name in copied():
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored, name


def test_the_whole_package_is_copied() -> None:
    packages = re.findall(
        r'^include = \["(\w+)\*", "(\w+)\*", "(\w+)\*"\]$', (ROOT / "pyproject.toml").read_text(), re.M
    )
    assert set(packages[0]) <= set(copied())
    readme_and_licences = {"pyproject.toml", "README.md", "LICENSE", "NOTICE"}  # setuptools reads these
    assert readme_and_licences <= set(copied())


def test_packages_are_those_of_the_lock_and_their_hashes_are_checked() -> None:
    installs = [part for name, given in instructions() if name == "RUN" for part in given.split("&&") if " -r " in part]
    assert [re.findall(r"-r (\S+)", part) for part in installs] == [["requirements-uv.lock"], ["requirements.lock"]]
    assert all("--require-hashes" in part for part in installs)


def test_it_does_not_run_as_root() -> None:
    users = [given for name, given in instructions() if name == "USER"]
    assert users
    assert users[-1] not in ("root", "0")
