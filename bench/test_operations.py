"""Operations are counted as often as they run."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from bench.operations import count_operations

_ROUNDS = 7


@pytest.mark.skipif(not hasattr(jax.profiler, "ProfileData"), reason="JAX of before 2025")
def test_rounds_of_loops_and_branches_that_are_taken_count():
    def step(number, x):
        with jax.named_scope("parts"):
            return jnp.cumsum(x * x) + number

    def loop(x, wanted):
        looped = lax.fori_loop(0, _ROUNDS, step, x)
        return lax.cond(wanted, jnp.sort, lambda y: y, looped)

    x = jnp.arange(64.0)
    program = jax.jit(loop).lower(x, True).compile()
    taken, left = (count_operations(program, x, wanted) for wanted in (True, False))
    assert taken["parts"] == left["parts"] and taken["parts"] % _ROUNDS == 0 and taken["parts"] > 0
    assert taken.total() > left.total()
