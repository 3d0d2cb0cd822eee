"""Files of training runs: states with their loss curves, and arrays that are kept."""

import contextlib
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree

from ..._files import AtomicFile

T = TypeVar("T")


def fingerprint(*settings: object) -> str:
    """Short name of settings, so that a run never resumes one with other settings."""
    return f"{zlib.crc32(repr(settings).encode()):08x}"


def digest(tree: object) -> str:
    """Short name of the arrays of a tree: data without which a run must not be resumed."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(leaf)
        total = zlib.crc32(f"{array.dtype} {array.shape}".encode(), total)
        total = zlib.crc32(array.data, total)
    return f"{total:08x}"


def save_state(path: Path, state: PyTree[Array], curve: list[np.ndarray]) -> None:
    """Stores a state and the losses of its epochs or steps."""
    with replacing(path) as file:
        np.save(file, np.array(curve))
        eqx.tree_serialise_leaves(file, state)


def load_state(path: Path, like: T) -> tuple[T, list[np.ndarray]]:
    """The state that an earlier run has left, or `like` and no losses.

    Raises:
        RuntimeError: the file holds a state with other shapes or types than `like`.
    """
    if not path.is_file():
        return like, []
    with open(path, "rb") as file:
        curve = np.load(file)
        return eqx.tree_deserialise_leaves(file, like), list(curve)


def write_arrays(path: Path, arrays: Mapping[str, Any], *, compressed: bool = False) -> None:
    """Writes an `.npz` file, whole or not at all."""
    with replacing(path) as file:
        (np.savez_compressed if compressed else np.savez)(file, **arrays)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to be written that takes its name once it is complete.

    An interrupted run leaves no file that is cut short, and two runs that write the same file do
    not mix.
    """
    with AtomicFile(path) as file:
        yield file.stream
        file.commit()
