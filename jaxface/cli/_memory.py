"""Keeps the process small. Only the command line does this, never the library."""

import ctypes

_M_ARENA_MAX = -8  # of glibc's mallopt
_LONG = 0.2  # s; what compiles or loads for longer leaves memory behind


def keep_small() -> None:
    """Makes all threads share one heap, and gives back what compiling leaves behind.

    Otherwise each of XLA's threads keeps a heap of its own, and what compilation frees in one is
    not used again by another. Does nothing where the C library is not glibc.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_ARENA_MAX, 1)
        trim = libc.malloc_trim
    except (OSError, AttributeError):  # another C library; nothing depends on this
        return
    from jax import monitoring

    monitoring.register_event_duration_secs_listener(
        lambda event, duration_secs, **kwargs: trim(0) if duration_secs > _LONG else None
    )
