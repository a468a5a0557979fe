"""Waiting for storage that does not answer: S3 that throttles or resets connections, a network folder that is gone."""

import time
from collections.abc import Callable
from typing import TypeVar

from drig.errors import DrigError, MissingFile, PhotoRejected

Result = TypeVar("Result")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0


def patiently(action: Callable[[], Result], patience_s: float) -> Result:
    """What `action` returns. While it raises what may be over in a minute it is tried again, with pauses that double.

    After `patience_s` seconds of pauses the error is the caller's. What waiting cannot mend is so at once: a file that
    is not there, a photo that cannot be used.
    """
    waited, pause = 0.0, FIRST_PAUSE_S
    while True:
        try:
            return action()
        except (MissingFile, PhotoRejected):
            raise
        except DrigError:
            if waited >= patience_s:
                raise
        pause = min(pause, patience_s - waited)
        time.sleep(pause)
        waited, pause = waited + pause, min(2 * pause, LONGEST_PAUSE_S)
