"""A quick start: programs are read while Python still loads modules, and the model after them."""

import contextlib
import gc
import hashlib
import json
import os
from pathlib import Path

from .._files import (
    EXECUTABLES,
    SOURCE_DIGEST,
    ahead_of_use,
    executable_size,
    executables_used,
    machine,
    replace_file,
)
from ._cache import enable_compile_cache
from ._memory import keep_small

# Tracing makes millions of objects, hardly any of them garbage; usually a fourth of its time is
# spent in search of some.
_SELDOM = (100_000, 50, 50)
_FOLDER = "jaxface-starts"  # in that of JAX's compilation cache


class Startup:
    """The start of a process that analyses something."""

    def __init__(self, purpose: object, *, cache: bool):
        """Begins, before NumPy and JAX are imported.

        Args:
            purpose: what the process is going to do; processes whose purpose has the same `repr`
                need the same programs. None: read none ahead.
            cache: keep compiled programs on disk.
        """
        self._purpose = purpose
        # Everything that is imported stays; to look it through for garbage takes 0.1 s.
        self._collects = gc.isenabled()
        gc.disable()
        # Nothing here multiplies large matrices in NumPy, whose threads would wait in circles.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        keep_small()  # before JAX starts its threads
        if cache:
            enable_compile_cache()
        with contextlib.suppress(Exception):  # of JAX, which then says the same where it is used
            self._read_ahead()

    def finish(self) -> None:
        """All modules are loaded."""
        if self._collects:
            gc.enable()
            gc.set_threshold(*_SELDOM)

    def remember(self) -> None:
        """Notes the programs that were used so far, for the next process of this purpose."""
        path = self._path()
        files = executables_used()
        # The largest takes longer to load than all others together, and is to begin first.
        largest = max(files, key=executable_size, default=None)
        used = [file.name for file in sorted(files, key=lambda file: file != largest)]
        if path is None or not used or used == _names(path):
            return
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, json.dumps(used).encode())

    def _read_ahead(self) -> None:
        path = self._path()
        if path is not None:
            folder = path.parents[1] / EXECUTABLES
            ahead_of_use(folder / name for name in _names(path))

    def _path(self) -> Path | None:
        """Where the programs of this purpose, as these sources need them, are noted."""
        import jax

        folder = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
        if self._purpose is None or not folder or "://" in folder:
            return None
        known = repr((SOURCE_DIGEST, machine(), self._purpose))
        return Path(folder) / _FOLDER / hashlib.sha256(known.encode()).hexdigest()[:32]


def _names(path: Path) -> list[str]:
    """What `remember` noted; nothing where there is no such file, or a damaged one."""
    try:
        names = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    usable = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return [Path(name).name for name in names] if usable else []
