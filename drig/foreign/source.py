"""A foreign file as the bytes that are really there: nothing is read, and so nothing allocated, beyond its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from drig.errors import DrigError


class Source:
    """What remains of a binary file. Reading past the end is an EOFError, however long the file says that it is."""

    def __init__(self, file: BinaryIO, name: str, size: int) -> None:
        """`name`: what messages call it. `size`: its bytes from the file's position on."""
        self.name = name
        self.size = size
        self.remaining = size
        self._file = file

    def read(self, count: int) -> bytes:
        """Exactly so many bytes."""
        self._take(count)
        content = self._file.read(count)
        if len(content) != count:
            raise EOFError("the file ends early")
        return content

    def readinto(self, buffer: memoryview) -> None:
        """Fills a buffer of bytes."""
        self._take(len(buffer))
        filled = 0
        while filled < len(buffer):
            count = self._file.readinto(buffer[filled:])  # type: ignore[attr-defined]
            if not count:
                raise EOFError("the file ends early")
            filled += count

    def readline(self) -> bytes:
        """Up to and with the next line break."""
        line = self._file.readline(self.remaining)
        self.remaining -= len(line)
        if not line.endswith(b"\n"):
            raise EOFError("the file ends early")
        return line

    def _take(self, count: int) -> None:
        if count > self.remaining:
            raise EOFError(f"the file ends early: {count} bytes are announced, {self.remaining} are left")
        self.remaining -= count


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """The file at a path. Raises DrigError where there is none; whatever trips over its content is one as well."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise DrigError(f"cannot read {path}: {error.strerror}. Check the path.") from error
    with file, intact(str(path)):
        yield Source(file, str(path), path.stat().st_size)


@contextmanager
def intact(name: str) -> Iterator[None]:
    """Whatever trips over damaged or hostile content becomes one error that says so."""
    try:
        yield
    except DrigError:
        raise
    except Exception as error:  # the parsers below raise anything, RecursionError and MemoryError included
        reason = str(error) or type(error).__name__
        raise DrigError(f"{name} is damaged, or not what its name says: {reason[:300]}. Get the file again.") from error
