"""JAX's compilation cache on disk. Only the command line turns it on, never the library."""

import os
import sys
import warnings
from pathlib import Path

SWITCH = "JAXFACE_COMPILE_CACHE"  # 0 turns the cache off
_MIN_SECONDS = 0.5  # programs that compile faster than this are not worth a file


def enable_compile_cache() -> Path | None:
    """Keeps compiled programs beside the installed models, in the user's cache folder.

    Returns:
        The folder; None where the environment turns the cache off, has configured JAX's own
        cache already, or the folder can neither be read nor made, which is said.
    """
    if os.environ.get(SWITCH, "1") == "0" or os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return None
    import jax

    from .._files import cache_dir

    folder = cache_dir() / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        _warn(folder, error.strerror or str(error))
        return None
    if not writable:  # what is in it can be used all the same
        _warn(folder, "no permission to write there")
        warnings.filterwarnings("ignore", message="Error writing persistent compilation cache")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_SECONDS)
    return folder


def _warn(folder: Path, reason: str) -> None:
    hint = "set JAXFACE_CACHE_DIR to a folder of yours"
    message = f"{folder}: cannot be written ({reason}), so that each run compiles anew; {hint}"
    print(f"jaxface: warning: {message}", file=sys.stderr)
