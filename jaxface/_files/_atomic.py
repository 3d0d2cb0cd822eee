"""Files that appear under their name only when they are complete: every file of the package."""

import contextlib
import os
import secrets
from pathlib import Path
from typing import IO

_LONGEST = 200  # characters of the name that are kept, so that the temporary one is allowed too


class AtomicFile:
    """A temporary file beside `path` that takes its place on `commit`.

    As a context manager it discards what was not committed.
    """

    def __init__(self, path: Path):
        """Creates the temporary file.

        Args:
            path: final name, in a folder that exists.
        Raises:
            OSError: the temporary file cannot be created.
        """
        self.path = path
        self._temporary = path.with_name(f".{path.name[:_LONGEST]}.{secrets.token_hex(4)}.tmp")
        # Not tempfile: its files are private to the user, which os.replace would keep.
        self.stream: IO[bytes] = open(self._temporary, "xb")

    def __enter__(self) -> "AtomicFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self.discard()

    def commit(self) -> Path:
        """Gives the file its final name, replacing an older one.

        Returns:
            The final path.
        Raises:
            OSError: the last bytes or the name cannot be written; the old file stays.
        """
        try:
            self.stream.close()
            os.replace(self._temporary, self.path)
        except OSError:
            self.discard()
            raise
        return self.path

    def discard(self) -> None:
        """Removes the temporary file, if it is still there. Never raises."""
        with contextlib.suppress(OSError):
            self.stream.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)


def replace_file(path: Path, data: bytes) -> Path:
    """Writes a file under its name only once it is complete; an older one stays until then.

    Returns:
        The path.
    Raises:
        OSError: the folder is missing, or the file cannot be written; nothing is left over.
    """
    with AtomicFile(path) as file:
        file.stream.write(data)
        return file.commit()
