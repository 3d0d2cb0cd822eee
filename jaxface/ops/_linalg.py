"""Small symmetric positive definite solves in plain lax operations."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

# The smallest pivot that OpenCV's float32 Cholesky accepts.
_MIN_PIVOT = np.float32(1.1920929e-07)
_BLOCK = 10  # unknowns eliminated before the rest is updated, in one product


def _reduce(
    table: Float[Array, "c t"], smallest: Float[Array, ""]
) -> tuple[Float[Array, "c t"], Float[Array, ""]]:
    """Gauss-Jordan elimination that turns the first c columns into the identity.

    Args:
        smallest: of the pivots so far.
    Returns:
        The table, and the smallest pivot.
    """
    index = np.arange(table.shape[0])

    def step(k, carry):
        table, smallest = carry
        row = lax.dynamic_index_in_dim(table, k, 0, keepdims=False)
        column = lax.dynamic_index_in_dim(table, k, 1, keepdims=False)
        pivot = row[k]
        row = row / jnp.where(pivot < _MIN_PIVOT, jnp.ones_like(pivot), pivot)
        reduced = table - column[:, None] * row
        return jnp.where((index == k)[:, None], row, reduced), jnp.minimum(smallest, pivot)

    return lax.fori_loop(0, len(index), step, (table, smallest))


def _eliminate(a: Float[Array, "k k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
    table = jnp.concatenate([a, b[:, None]], axis=1)
    smallest = jnp.asarray(np.inf, a.dtype)
    heads: list[Array] = []
    while table.shape[0]:
        size = min(_BLOCK, table.shape[0])
        reduced, smallest = _reduce(table[:size], smallest)
        heads.append(reduced[:, size:])
        update = jnp.dot(table[size:, :size], heads[-1], precision=lax.Precision.HIGHEST)
        table = table[size:, size:] - update
    x = heads.pop()[:, -1]
    for head in reversed(heads):
        known = jnp.dot(head[:, :-1], x, precision=lax.Precision.HIGHEST)
        x = jnp.concatenate([head[:, -1] - known, x])
    return jnp.where(smallest < _MIN_PIVOT, jnp.zeros_like(b), x)


def solve_spd(a: Float[Array, "k k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
    """Solves `a @ x = b` for a symmetric positive definite `a`.

    Elimination by blocks without pivoting, which needs no library call (Metal has none).
    Differentiable by the implicit function theorem.

    Args:
        a: symmetric positive definite matrix.
        b: right-hand side.
    Returns:
        x, or zeros where `a` is not positive definite to float32 precision.
    Reference:
        Specification 02, B.7: a failed Cholesky decomposition gives a zero update.
    """

    def solve(_, rhs):
        return _eliminate(a, rhs)

    def matvec(x):
        return jnp.dot(a, x, precision=lax.Precision.HIGHEST)

    return lax.custom_linear_solve(matvec, b, solve, symmetric=True)
