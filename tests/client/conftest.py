"""A server for the client, once for all of its tests."""

from collections.abc import Iterator

import pytest

from tests.deployments.conftest import company, photo, server
from tests.deployments.rehearsal import Rehearsal, rehearsing

__all__ = ["company", "photo", "server", "url"]


@pytest.fixture
def url(server: Rehearsal) -> Iterator[str]:
    """The address of a running server."""
    with rehearsing(server) as url:
        yield url
