"""Small symmetric positive definite solves in plain lax operations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ._platform import choose_by_platform

# The smallest pivot that OpenCV's float32 Cholesky accepts.
_MIN_PIVOT = 2.0**-23
_CORNER = 1e30  # larger than any square that it stands for, and finite in float32
_BLOCK = 20  # unknowns eliminated before the rest is updated, in one product


def _reduce(
    table: Float[Array, "c t"], smallest: Float[Array, ""]
) -> tuple[Float[Array, "c t"], Float[Array, ""]]:
    """Gauss-Jordan elimination that turns the first c columns into the identity.

    Args:
        smallest: of the pivots so far.
    Returns:
        The table, and the smallest pivot.
    """
    index = np.arange(table.shape[0], dtype=np.int32)

    def step(k, carry):
        table, smallest = carry
        row = lax.dynamic_index_in_dim(table, k, 0, keepdims=False)
        column = lax.dynamic_index_in_dim(table, k, 1, keepdims=False)
        pivot = row[k]
        row = row / jnp.where(pivot < _MIN_PIVOT, jnp.ones_like(pivot), pivot)
        reduced = table - column[:, None] * row[None]
        return jnp.where((index == k)[:, None], row[None], reduced), jnp.minimum(smallest, pivot)

    return lax.fori_loop(0, len(index), step, (table, smallest))


def _solve_by_elimination(a: Float[Array, "k k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
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


def _solve_by_library(a: Float[Array, "k k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
    corner = jnp.zeros((1, 1), a.dtype)
    top = jnp.concatenate([a, b[:, None]], axis=1)
    return _solve_table_by_library(
        jnp.concatenate([top, jnp.concatenate([b[None], corner], axis=1)])
    )


def solve_bordered(table: Float[Array, "k1 k1"]) -> Float[Array, " k"]:
    """`solve_spd` of a matrix and a right-hand side in one table.

    On NVIDIA GPUs in one decomposition and one triangular solve.

    Args:
        table: [[a, b], [b', c]]; its upper triangle and `c` do not count.
    Returns:
        x, or zeros where `a` is not positive definite to float32 precision.
    """
    return choose_by_platform(_solve_table_by_library, _solve_table_by_elimination, table)


def _solve_table_by_elimination(table: Float[Array, "k1 k1"]) -> Float[Array, " k"]:
    lower = jnp.tril(table)[:-1, :-1]
    a = lower + jnp.tril(lower, -1).T
    return _solve_by_elimination(a, table[-1, :-1])


def _solve_table_by_library(table: Float[Array, "k1 k1"]) -> Float[Array, " k"]:
    """The last row of the table's decomposition is what a triangular solve of `b` would give."""
    size = table.shape[0] - 1
    index = np.arange(size + 1)
    corner = (index[:, None] == size) & (index == size)
    large = jnp.asarray(_CORNER, table.dtype)
    lower = lax.linalg.cholesky(jnp.where(corner, large, table), symmetrize_input=False)
    # The corner's unknown is 0: to solve for it too takes no slice of the triangle.
    half = jnp.where(index == size, 0, lower[size])
    x = lax.linalg.triangular_solve(
        lower, half[:, None], left_side=True, lower=True, transpose_a=True
    )[:size, 0]
    # Written out, as a reduction is another operation or two. The diagonal of a decomposition that
    # failed is not a number.
    usable = [lower[i, i] * lower[i, i] >= _MIN_PIVOT for i in range(size)]
    return jnp.where(functools.reduce(jnp.logical_and, usable), x, jnp.zeros_like(x))


def solve_spd(a: Float[Array, "k k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
    """Solves `a @ x = b` for a symmetric positive definite `a`.

    On NVIDIA GPUs by a Cholesky decomposition of XLA's library, in two calls; elsewhere, and with
    JAX 0.5 and older, by elimination in blocks without pivoting, which needs no library call (Metal
    has none) but k rounds of small operations, each of them a kernel on a GPU.
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
        return choose_by_platform(_solve_by_library, _solve_by_elimination, a, rhs)

    def matvec(x):
        return jnp.dot(a, x, precision=lax.Precision.HIGHEST)

    return lax.custom_linear_solve(matvec, b, solve, symmetric=True)


@jax.custom_jvp
def invert_spd(a: Float[Array, "n k k"]) -> Float[Array, "n k k"]:
    """Inverses of symmetric positive definite matrices.

    By Cholesky decompositions of XLA's library on CPUs and NVIDIA GPUs, by elimination elsewhere.
    Its derivative is exact: that of the inverse, not of the decomposition.

    Args:
        a: symmetric positive definite matrices.
    """
    return lax.platform_dependent(
        a, cpu=_invert_by_library, cuda=_invert_by_library, default=_invert_by_elimination
    )


@invert_spd.defjvp
def _invert_spd_jvp(primals, tangents):
    inverse = invert_spd(*primals)
    turned = jnp.matmul(inverse, tangents[0], precision=lax.Precision.HIGHEST)
    return inverse, -jnp.matmul(turned, inverse, precision=lax.Precision.HIGHEST)


def _invert_by_library(a: Float[Array, "n k k"]) -> Float[Array, "n k k"]:
    lower = lax.linalg.cholesky(a)
    identity = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
    half = lax.linalg.triangular_solve(lower, identity, left_side=True, lower=True)
    return jnp.matmul(half.swapaxes(1, 2), half, precision=lax.Precision.HIGHEST)


def _invert_by_elimination(a: Float[Array, "n k k"]) -> Float[Array, "n k k"]:
    size = a.shape[-1]

    def invert(matrix: Float[Array, "k k"]) -> Float[Array, "k k"]:
        table = jnp.concatenate([matrix, jnp.eye(size, dtype=matrix.dtype)], axis=1)
        return _reduce(table, jnp.asarray(np.inf, matrix.dtype))[0][:, size:]

    return jax.vmap(invert)(a)
