"""Half-finished work on disk, so that a training run can be interrupted and go on."""

import json
import os
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

T = TypeVar("T")


def save_checkpoint(path: Path, tree: Any, facts: dict[str, Any]) -> None:
    """Writes the arrays of a tree and some facts; replaces an older file in one step.

    Args:
        path: ends in `.npz`.
        tree: any pytree of arrays.
        facts: what JSON can hold.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    arrays: dict[str, Any] = {"facts": np.array(json.dumps(facts))}
    arrays |= {f"leaf{i}": leaf for i, leaf in enumerate(leaves)}
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp.npz")
    try:
        np.savez(temporary, **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, like: T) -> tuple[T, dict[str, Any]] | None:
    """Reads a checkpoint.

    Args:
        path: of the file.
        like: a tree of the same structure and shapes.
    Returns:
        The tree and the facts; None if there is no file.
    Raises:
        ValueError: the file holds another tree.
    """
    if not path.is_file():
        return None
    leaves, structure = jax.tree.flatten(like)
    with np.load(path) as stored:
        found = [stored[f"leaf{i}"] for i in range(len(stored.files) - 1)]
        facts = json.loads(str(stored["facts"]))
    shapes = [leaf.shape for leaf in found]
    if shapes != [np.shape(leaf) for leaf in leaves]:
        raise ValueError(f"{path}: holds another network; delete it to start anew")
    return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in found]), facts
