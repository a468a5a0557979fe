"""The errors that users see. A message says what was given, what is allowed and what to do."""


class DrigError(ValueError):
    """Something the user can fix. The command line prints it without a traceback and exits with code 2."""


class MissingFile(DrigError):
    """A file or object that is not where it was said to be. Any other error of reading may be gone in a minute."""


class PhotoRejected(DrigError):
    """A photo that cannot be used. Batch jobs count it as a reject with its reason and go on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __reduce__(self) -> tuple[type["PhotoRejected"], tuple[str]]:
        return PhotoRejected, (self.reason,)
