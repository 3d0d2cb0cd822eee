"""Files that appear under their name only when they are complete: every file of the package."""

import contextlib
import os
import platform
import re
import secrets
import threading
import zlib
from pathlib import Path
from typing import IO

_LONGEST = 200  # characters of the name that are kept, so that the temporary one is allowed too
# Of a temporary file: the name, the computer, the process and what tells its files apart.
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp")

_lock = threading.Lock()
_swept: set[Path] = set()  # folders that were looked through


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
        _sweep(path.parent)
        made_by = f"{_computer()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._temporary = path.with_name(f".{path.name[:_LONGEST]}.{made_by}.tmp")
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


def _computer() -> str:
    """Tells computers apart that write into one folder: each has processes of its own."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _sweep(folder: Path) -> None:
    """Removes, once in a process, what processes that were killed have left in a folder."""
    with _lock:
        if folder in _swept:
            return
        _swept.add(folder)
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            found = _TEMPORARY.fullmatch(name)
            if found and found[1] == _computer() and not _lives(int(found[2])):
                with contextlib.suppress(OSError):
                    (folder / name).unlink()


def _lives(process: int) -> bool:
    if os.name != "posix":  # elsewhere the question would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is somebody else's
        return True
    return True


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
