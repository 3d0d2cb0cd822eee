"""Files that appear under their name only when they are complete."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

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


class AtomicFile:
    """A temporary file beside `path` that takes its place on `commit`."""

    def __init__(self, path: Path):
        """Creates the temporary file, and the folder if need be.

        Args:
            path: final name.
        Raises:
            OutputError: the folder or file cannot be created.
        """
        self.path = path
        make_folder(path.parent)
        self._temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.tmp")
        with output_errors(path):
            # Not tempfile: its files are private to the user, which os.replace would keep.
            self._file: IO[bytes] = open(self._temporary, "xb")

    def write(self, data: bytes) -> None:
        """Appends bytes. Raises `OutputError`, for example when the disk is full."""
        with output_errors(self.path):
            self._file.write(data)

    def commit(self) -> Path:
        """Gives the file its final name, replacing an older one.

        Returns:
            The final path.
        Raises:
            OutputError: the last bytes or the name cannot be written; the old file stays.
        """
        try:
            with output_errors(self.path):
                self._file.close()
                os.replace(self._temporary, self.path)
        except OutputError:
            self.discard()
            raise
        return self.path

    def discard(self) -> None:
        """Removes the temporary file, if it is still there. Never raises."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)


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
    file = AtomicFile(path)
    try:
        file.write(data)
        return file.commit()
    except BaseException:
        file.discard()
        raise
