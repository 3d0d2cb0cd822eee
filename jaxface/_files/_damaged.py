"""What of the caches is damaged is removed, so that it is made again, and noted to be told."""

import contextlib
import importlib
import shutil
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

_ZSTD = b"\x28\xb5\x2f\xfd"  # how JAX's entries begin where it finds that package
_ABSENT = (FileNotFoundError, NotADirectoryError)

_lock = threading.Lock()
_removed: list[Path] = []


class DamagedError(ValueError):
    """A file of a cache is not what was written."""


def read_cached(path: Path) -> bytes | None:
    """Reads a file of a cache. Something that cannot be read is removed.

    Returns:
        None where there is none.
    """
    try:
        return path.read_bytes()
    except _ABSENT:
        return None
    except OSError:  # a folder, or a file that is not ours to read
        discard_damaged(path)
        return None


def discard_damaged(path: Path) -> None:
    """Removes a damaged file of a cache, or whatever lies in its place. Never raises."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError:  # as in a cache that is not ours; or another process was faster
        return
    with _lock:
        _removed.append(path)


def damaged_files() -> list[Path]:
    """What this process has removed since it was asked last."""
    with _lock:
        found = list(_removed)
        _removed.clear()
    return found


def check_entries(folder: Path, pattern: str, since: float) -> int:
    """Removes damaged entries of JAX's own cache, which would neither use nor replace them.

    JAX writes them in place: a process that is killed, or a full disk, leaves a part of one.

    Args:
        folder: of JAX's compilation cache.
        pattern: of their names.
        since: time of a file in seconds since 1970; older entries have been checked.
    Returns:
        How many were damaged.
    """
    damaged = 0
    with contextlib.suppress(OSError):
        for path in folder.glob(pattern):
            if path.stat().st_mtime >= since and not _is_whole(path):
                discard_damaged(path)
                damaged += 1
    return damaged


def _is_whole(path: Path) -> bool:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        return len(_decompressor(data)(data)) > 4  # of which the first four tell a time
    except Exception:  # each package has its own
        return False


def _decompressor(data: bytes) -> Callable[[bytes], bytes]:
    """As JAX chooses it."""
    if not data.startswith(_ZSTD):
        return zlib.decompress
    for name in ("compression.zstd", "zstandard"):
        with contextlib.suppress(ImportError):
            module: ModuleType = importlib.import_module(name)
            return module.decompress
    return bytes  # JAX will read it as it is, and say so
