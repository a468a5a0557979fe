"""Waiting for storage that does not answer: S3 that throttles or resets connections, a network folder that is gone."""

import time
from collections.abc import Callable
from typing import TypeVar

from drig.errors import DrigError, MissingFile, PhotoRejected

Result = TypeVar("Result")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0


def patiently(action: Callable[[], Result], patience_s: float) -> Result:
    """What `action` returns. While it raises what may be over in a minute it is tried again, with pauses that double.

    Once it has failed for `patience_s` seconds the error is the caller's. Where waiting mends nothing it is so at once:
    a file that is not there, a photo that cannot be used.
    """
    deadline, pause = time.monotonic() + patience_s, FIRST_PAUSE_S
    while True:
        try:
            return action()
        except (MissingFile, PhotoRejected):
            raise
        except DrigError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
