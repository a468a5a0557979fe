"""Values of a foreign LMDB, read in a process of their own.

LMDB's C library trusts its file: a page number that was damaged, or made up, ends the process that follows it. So a
child does that, and its end is a DrigError here. It only ever sends bytes; whoever asked for them looks at them.
"""

import contextlib
import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

from drig.errors import DrigError

PATIENCE = 60.0  # seconds for one value: a damaged tree may also be walked for ever
_FOUND, _MISSING, _FAILED = b"+", b"-", b"!"


class LmdbReader:
    """A context manager with `get`; the child process ends with it. `size`: the file's bytes."""

    def __init__(self, path: Path) -> None:
        """`path`: LMDB's folder or its one file. Raises DrigError where there is none."""
        self._path = path
        file = path / "data.mdb" if path.is_dir() else path
        if not file.is_file():
            raise DrigError(f"{path} is no LMDB: it has no data.mdb. Give the folder that holds one.")
        self.size = file.stat().st_size
        self._connection, theirs = Pipe()
        # Not multiprocessing.Process: that would start by importing the caller's main module again.
        self._child = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno()), str(path)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()

    def get(self, key: str) -> bytes | None:
        """The value under a key; None where there is none. DrigError where the file is damaged."""
        try:
            self._connection.send_bytes(key.encode())
            if not self._connection.poll(PATIENCE):
                raise self._damaged(f"no answer within {PATIENCE:.0f} s")
            answer = self._connection.recv_bytes(self.size + 1)
        except (OSError, EOFError) as error:
            raise self._damaged("its reader was ended by what it holds") from error
        if answer[:1] == _FAILED:
            raise self._damaged(answer[1:].decode(errors="replace"))
        return answer[1:] if answer[:1] == _FOUND else None

    def close(self) -> None:
        """End the child."""
        self._connection.close()
        self._child.kill()
        self._child.wait()

    def _damaged(self, what: str) -> DrigError:
        return DrigError(f"{self._path} is damaged: {what}. Copy it again.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()


def _serve(connection: Connection, path: str) -> None:
    """The child: answer keys with values until the other side closes."""
    import lmdb  # here, so that the parent never has it open

    try:
        environment = lmdb.open(path, subdir=Path(path).is_dir(), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        connection.recv_bytes()
        connection.send_bytes(_FAILED + str(error).encode())
        return
    with contextlib.suppress(EOFError):
        while True:
            key = connection.recv_bytes()
            try:
                with environment.begin(buffers=True) as transaction:
                    value = transaction.get(key)
                    connection.send_bytes(_MISSING if value is None else _FOUND + value)
            except lmdb.Error as error:
                connection.send_bytes(_FAILED + str(error).encode())


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])), sys.argv[2])
