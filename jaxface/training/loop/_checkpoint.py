"""Checkpoints of training runs: the leaves of a state and its loss curve in one file."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

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


def save_state(path: Path, state: object, curve: list[np.ndarray]) -> None:
    """Stores a state, a tree of arrays, and the losses of its epochs."""
    leaves = {f"leaf{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    write_arrays(path, {**leaves, "curve": np.array(curve)})


def load_state(path: Path, like: T) -> tuple[T, list[np.ndarray]]:
    """The state that an earlier run has left, or `like` and no losses."""
    if not path.is_file():
        return like, []
    leaves, tree = jax.tree.flatten(like)
    with np.load(path) as file:
        found = [jnp.asarray(file[f"leaf{i}"]) for i in range(len(leaves))]
        return jax.tree.unflatten(tree, found), list(file["curve"])


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes whole files only, so that an interrupted run leaves none that is cut short."""
    with AtomicFile(path) as file:
        np.savez(file.stream, **arrays)
        file.commit()
