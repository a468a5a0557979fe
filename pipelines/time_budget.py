"""Minutes that may be spent on one person, counted over interruptions."""

import time
from pathlib import Path

from drig import storage


class TimeBudget:
    """Counts while it exists; what is noted in `file` was spent before. minutes: None = without end."""

    def __init__(self, file: Path, minutes: float | None) -> None:
        self._file = file
        self._minutes = minutes
        self._before = float(file.read_text()) if file.exists() else 0.0
        self._since = time.monotonic()

    @property
    def minutes_spent(self) -> float:
        return self._before + (time.monotonic() - self._since) / 60

    @property
    def is_spent(self) -> bool:
        return self._minutes is not None and self.minutes_spent >= self._minutes

    def note(self) -> None:
        """For whoever goes on after an interruption."""
        if self._minutes is not None:
            storage.write_bytes(self._file, str(self.minutes_spent).encode())
