"""Choice between pytrees."""

from typing import TypeVar

import jax
from jax import lax
from jaxtyping import Array, Bool

Tree = TypeVar("Tree")


def select(condition: Bool[Array, ""], if_true: Tree, if_false: Tree) -> Tree:
    """Chooses between two pytrees of the same structure, leaf by leaf."""
    return jax.tree.map(lambda a, b: lax.select_n(condition, b, a), if_true, if_false)
