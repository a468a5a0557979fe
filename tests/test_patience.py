from types import SimpleNamespace

import pytest

from drig import patience
from drig.errors import DrigError, MissingFile, PhotoRejected
from drig.patience import patiently


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were slept, on a clock that does nothing else."""
    slept: list[float] = []
    monkeypatch.setattr(patience, "time", SimpleNamespace(sleep=slept.append, monotonic=lambda: sum(slept)))
    return slept


class Flaky:
    """Raises the errors, one a call, and then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "here"


def test_an_outage_is_waited_for_with_pauses_that_double(pauses: list[float]) -> None:
    assert patiently(Flaky(*[DrigError("SlowDown")] * 3), 60) == "here"
    assert pauses == [0.5, 1.0, 2.0]


def test_after_the_patience_the_error_is_the_callers(pauses: list[float]) -> None:
    with pytest.raises(DrigError, match="SlowDown"):
        patiently(Flaky(*[DrigError("SlowDown")] * 99), 100)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    with pytest.raises(DrigError, match="SlowDown"):
        patiently(Flaky(DrigError("SlowDown")), 0)
    assert len(pauses) == 9


@pytest.mark.parametrize("error", [MissingFile("there is no such object"), PhotoRejected("the file is empty")])
def test_what_waiting_cannot_mend_is_told_at_once(pauses: list[float], error: DrigError) -> None:
    with pytest.raises(type(error)):
        patiently(Flaky(error), 60)
    assert pauses == []
