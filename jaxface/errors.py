"""Exceptions and warnings about files, shared by input, output and the command line."""

from pathlib import Path


class InputError(ValueError):
    """A file or folder that cannot be analysed."""

    def __init__(self, path: str | Path, expected: str, got: str, action: str):
        """Names the file, what was expected, what was found and what to do.

        Args:
            path: the file or folder.
            expected: what should have been there.
            got: what was found instead.
            action: what the reader of the message can do.
        """
        # All four go to the base class, so that the exception survives pickling.
        super().__init__(path, expected, got, action)
        self.path = Path(path)

    def __str__(self) -> str:
        path, expected, got, action = self.args
        return f"{path}: expected {expected}, got {got}; {action}"


class OutputError(OSError):
    """A result that cannot be written. Whatever was there before is untouched."""

    def __init__(self, path: str | Path, reason: str):
        """Names the file and why it could not be written.

        Args:
            path: the file or folder that was to be written.
            reason: the operating system's words, or ours.
        """
        super().__init__(path, reason)
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: cannot be written ({self.reason}); choose another output folder"


class InputWarning(UserWarning):
    """A file of which only the beginning could be read."""
