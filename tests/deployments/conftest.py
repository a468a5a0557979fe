"""What tests through the whole application share: replicas in this process, and a browser."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.deployments.rehearsal import Company, Rehearsal
from tests.deployments.test_app import photo_of_a_head, random_editor

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    """A registry with a small random base rig, and replicas that have loaded it."""
    folder = tmp_path_factory.mktemp("company")
    base, person = folder / "base.safetensors", folder / "person.safetensors"
    random_editor(0).save(base)
    random_editor(1).save(person)
    return Company(folder, base, person)


@pytest.fixture
def server(company: Company) -> Rehearsal:
    """The application over them, nobody but the base known."""
    company.forget_everybody()
    return Rehearsal(company)


@pytest.fixture(scope="session")
def photo() -> bytes:
    """A PNG file of somebody."""
    return photo_of_a_head(0)


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Chromium; not for the whole session, since Playwright keeps an event loop running in this thread."""
    from tests.deployments.browser import chromium  # here, because most tests need no browser

    with chromium() as browser:
        yield browser
