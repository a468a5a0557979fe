"""The API keeps what its OpenAPI document says, whatever it is sent: schemathesis makes requests of every operation."""

from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from deployments.catalogue import Catalogue
from drig.forgetting import Forgotten
from drig.identities import UnknownIdentity
from tests.deployments.api.conftest import FakeBackend, app_of

EXAMPLES = 8
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def nobody_is_known(name: str) -> Forgotten:
    raise UnknownIdentity(f"no identity is called {name!r}")


def test_the_document_is_kept(catalogue: Catalogue, subtests: pytest.Subtests) -> None:
    contract = schemathesis.openapi.from_asgi("/openapi.json", app_of(FakeBackend(), catalogue, forget=nobody_is_known))
    operations: list[Any] = [cast(Any, result).ok() for result in contract.get_all_operations()]
    assert len(operations) >= 15
    for operation in operations:
        with subtests.test(operation.label):

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy())
            def keeps_it(case: Any) -> None:
                case.call_and_validate(checks=CHECKS)

            keeps_it()
