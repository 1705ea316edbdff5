"""Errors that are the user's to mend; `cli` prints them as one line and exits with code 2."""


class InputError(ValueError):
    """A wrong path, file, setting or combination: found, expected, and what to do, in one line."""


class MissingExtraError(InputError):
    """An optional dependency is not installed; the message holds the command that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {package}, which is not installed. "
            f'Install it: pip install "prefixcap[{extra}]"'
        )
