"""JAX's compilation cache on disk. Only the command line turns it on, never the library."""

import os
from pathlib import Path

SWITCH = "JAXFACE_COMPILE_CACHE"  # 0 turns the cache off
_MIN_SECONDS = 0.5  # programs that compile faster than this are not worth a file


def enable_compile_cache() -> Path | None:
    """Keeps compiled programs beside the installed models, in the user's cache folder.

    Returns:
        The folder; None where the environment turns the cache off, or has configured JAX's
        own cache already.
    """
    if os.environ.get(SWITCH, "1") == "0" or os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return None
    import jax

    from .._files import cache_dir

    folder = cache_dir() / "xla"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_SECONDS)
    return folder
