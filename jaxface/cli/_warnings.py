"""Warnings about inputs, on their way to the user."""

import glob
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_UNREADABLE = re.compile(r"Error reading persistent compilation cache entry for '([^']+)'")


@contextmanager
def warnings_to(show: Callable[[str], None]) -> Iterator[None]:
    """Sends warnings about inputs, and only those, to `show` while it lasts.

    What JAX warns of a damaged entry of its cache is mended instead.
    """
    from ..errors import InputWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)
        usual = warnings.showwarning

        def showwarning(message, category, *rest):  # signature set by the warnings module
            if issubclass(category, InputWarning):
                show(str(message))
            elif not _mend(str(message)):
                usual(message, category, *rest)

        warnings.showwarning = showwarning
        yield


def _mend(message: str) -> bool:
    """Removes the entry that JAX could not read, in time for JAX to write it anew.

    The programs of `run` are looked after there; this is for what JAX compiles besides.

    Args:
        message: of a warning; it names the program, not the entry.
    Returns:
        Whether there was something to remove.
    """
    found = _UNREADABLE.match(message)
    if found is None:
        return False
    import jax

    from .._files import check_entries, discard_damaged

    folder = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if not folder or "://" in folder:
        return False
    pattern = f"{glob.escape(found[1])}-*-cache"
    if check_entries(Path(folder), pattern, 0.0):
        return True
    entries = list(Path(folder).glob(pattern))  # whole by their sums, but no programs
    for path in entries:
        discard_damaged(path)
    return bool(entries)
