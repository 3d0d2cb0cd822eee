"""Exceptions and warnings, shared by input, output, analysis and the command line."""

import os
import sys
from pathlib import Path


class InputError(ValueError):
    """A file or folder that cannot be analysed."""

    def __init__(self, path: str | Path, expected: str, got: str, action: str):
        """Names the file, what was expected, what was found and what to do.

        Args:
            path: the file or folder.
            expected: what should have been there.
            got: what was found instead.
            action: what the reader of the message can do.
        """
        # All four go to the base class, so that the exception survives pickling.
        super().__init__(path, expected, got, action)
        self.path = Path(path)

    def __str__(self) -> str:
        path, expected, got, action = self.args
        return f"{path}: expected {expected}, got {got}; {action}"


class OutputError(OSError):
    """A result that cannot be written. Whatever was there before is untouched."""

    def __init__(self, path: str | Path, reason: str):
        """Names the file and why it could not be written.

        Args:
            path: the file or folder that was to be written.
            reason: the operating system's words, or ours.
        """
        super().__init__(path, reason)
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: cannot be written ({self.reason}); choose another output folder"


class InputWarning(UserWarning):
    """A file of which only the beginning could be read."""


class ForkError(RuntimeError):
    """A process was forked after JAX had been used: without JAX's threads it would wait forever."""


_forked = False  # after the parent used JAX


def refuse_fork(function: str) -> None:
    """Refuses to compute in a forked process that JAX's threads were lost on.

    A process that was forked before anything used JAX computes as any other.

    Args:
        function: that was called.
    Raises:
        ForkError: JAX was in use when this process was forked.
    """
    if _forked:
        raise ForkError(
            f"{function}: this process was forked after JAX had been used in its parent; JAX's "
            "threads stayed there, and this process would wait for them forever. Start it by "
            "spawn or forkserver (multiprocessing.get_context('spawn'), or "
            "multiprocessing_context='spawn' of a DataLoader), or import and use jaxface in the "
            "child process only"
        )


def _note_fork() -> None:
    """In the child: whether JAX had a backend, whose threads are the parent's."""
    global _forked
    bridge = sys.modules.get("jax._src.xla_bridge")  # without loading it
    in_use = getattr(bridge, "backends_are_initialized", None)
    _forked = _forked or (in_use is not None and in_use())


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_note_fork)
