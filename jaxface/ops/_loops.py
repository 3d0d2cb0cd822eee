"""Loops of bounded length that stop early and still differentiate in reverse."""

from collections.abc import Callable
from typing import TypeVar

import jax
from jax import lax
from jaxtyping import Array, Bool

Carry = TypeVar("Carry")


def bounded_loop(
    running: Callable[[Carry], Bool[Array, ""]],
    body: Callable[[Carry], Carry],
    start: Carry,
    *,
    length: int,
) -> Carry:
    """Applies `body` while `running`, at most `length` times.

    Iterations after the end cost nothing for a single lane; under vmap finished lanes are frozen.

    Args:
        running: whether one more step is to be taken.
        body: the step.
        start: first carry.
        length: static bound on the number of steps.
    Returns:
        The last carry.
    """

    def step(carry, _):
        return lax.cond(running(carry), body, lambda x: x, carry), None

    return lax.scan(step, start, None, length=length)[0]


def select(condition: Bool[Array, ""], if_true: Carry, if_false: Carry) -> Carry:
    """Chooses between two pytrees of the same structure, leaf by leaf."""
    return jax.tree.map(lambda a, b: lax.select_n(condition, b, a), if_true, if_false)
