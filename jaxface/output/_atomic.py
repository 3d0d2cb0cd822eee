"""The package's atomic files, with errors that tell the user what to do about a result."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .._files import AtomicFile, replace_file
from ..errors import OutputError


@contextlib.contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turns an operating system error into an `OutputError` that names `path`."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error


def make_folder(path: Path) -> None:
    """Creates a folder and its parents.

    Args:
        path: the folder; may exist.
    Raises:
        OutputError: it cannot be created, or a file has its name.
    """
    with output_errors(path):
        path.mkdir(parents=True, exist_ok=True)


class OutputFile:
    """A result file that appears under its name only at `commit`."""

    def __init__(self, path: Path):
        """Creates a temporary file beside it, and the folder if need be.

        Args:
            path: final name.
        Raises:
            OutputError: the folder or file cannot be created.
        """
        make_folder(path.parent)
        with output_errors(path):
            self._file = AtomicFile(path)

    @property
    def stream(self) -> IO[bytes]:
        """For what writes to files itself, within `output_errors`."""
        return self._file.stream

    def write(self, data: bytes) -> None:
        """Appends bytes. Raises `OutputError`, for example when the disk is full."""
        with output_errors(self._file.path):
            self._file.stream.write(data)

    def commit(self) -> Path:
        """Gives the file its final name, replacing an older one.

        Returns:
            The final path.
        Raises:
            OutputError: the last bytes or the name cannot be written; the old file stays.
        """
        with output_errors(self._file.path):
            return self._file.commit()

    def discard(self) -> None:
        """Removes the temporary file, if it is still there. Never raises."""
        self._file.discard()


def write_file(path: Path, data: bytes) -> Path:
    """Writes a whole file at once.

    Args:
        path: final name.
        data: contents.
    Returns:
        The path.
    Raises:
        OutputError: it cannot be written; what was there before is untouched.
    """
    make_folder(path.parent)
    with output_errors(path):
        return replace_file(path, data)
