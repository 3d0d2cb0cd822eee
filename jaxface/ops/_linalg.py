"""Small symmetric positive definite solves in plain lax operations."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

# The smallest pivot that OpenCV's float32 Cholesky accepts.
_MIN_PIVOT = np.float32(1.1920929e-07)


def _eliminate(a: Float[Array, "k k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
    size = a.shape[0]
    index = np.arange(size)

    def step(k, carry):
        table, smallest = carry
        row = lax.dynamic_index_in_dim(table, k, 0, keepdims=False)
        column = lax.dynamic_index_in_dim(table, k, 1, keepdims=False)
        pivot = row[k]
        safe = jnp.where(pivot < _MIN_PIVOT, jnp.ones_like(pivot), pivot)
        row = row / safe
        reduced = table - column[:, None] * row
        return jnp.where((index == k)[:, None], row, reduced), jnp.minimum(smallest, pivot)

    start = jnp.concatenate([a, b[:, None]], axis=1)
    table, smallest = lax.fori_loop(0, size, step, (start, jnp.asarray(np.inf, a.dtype)))
    return jnp.where(smallest < _MIN_PIVOT, jnp.zeros_like(b), table[:, -1])


def solve_spd(a: Float[Array, "k k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
    """Solves `a @ x = b` for a symmetric positive definite `a`.

    Gauss-Jordan elimination without pivoting, which needs no library call (Metal has none) and
    runs in one small loop. Differentiable by the implicit function theorem.

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
