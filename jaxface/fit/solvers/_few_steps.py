"""Steps of NU-RLMS in few operations, for NVIDIA GPUs: see `ops.few_on_cuda`.

Equal up to rounding to the functions of the same names that the fit has for CPUs. There the
Jacobian is never computed, as that takes five times the arithmetic. Here it is, with the residual
as one more column: one product then holds all of the normal equations.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ...ops import euler_to_matrix, solve_bordered
from ...types import PDMParameters

_HIGHEST = lax.Precision.HIGHEST
_POSE = 6


def shift_rows(
    maps: tuple[Float[Array, "w n"], ...],
    centre: Float[Array, "2 n"],
    limited: Float[Array, "2 n"],
    sigma: float,
) -> Float[Array, "2 n"]:
    """Mean shift, in two sums over whole maps.

    Args:
        maps: rows of all maps.
        centre: of the kernels, (column, row) in the maps.
        limited: what the shift is counted from.
    """
    cells = np.arange(len(maps), dtype=centre.dtype)
    kernels = jnp.exp(-0.5 / sigma**2 * (centre[None] - cells[:, None, None]) ** 2)
    factors = np.stack([np.ones_like(cells), cells])
    both = kernels[None] * factors[:, :, None, None]  # 2 w 2 n: by the number of the cell, too
    columns = jnp.stack(maps, axis=1)  # column, row, n
    by_row = jnp.sum(columns[None] * both[:, None, :, 1], axis=2)  # 2 w n
    sums = jnp.sum(by_row[:, None] * both[None, :, :, 0], axis=2)  # by row, by column, n
    total = sums[0, 0]
    means = jnp.stack([sums[0, 1], sums[1, 0]]) / jnp.where(total > 0, total, 1)[None]
    return jnp.where(total[None] > 0, means - limited, 0)


def gram(
    by_mode: Float[Array, "m c"] | None,
    weights: Float[Array, " n"],
    shape: Float[Array, "3 n"],
    parameters: PDMParameters,
    residual: Float[Array, "2 n"],
) -> Float[Array, "k1 k1"]:
    """J'WJ, bordered by J'Wr: products of the columns of J and of r.

    Args:
        by_mode: see `Modes`; without it J is that of the pose.
        weights: of the landmarks, none below 0.
    """
    rows = euler_to_matrix(parameters.rotation)[:2]
    a, b, c = (rows[:, d, None] for d in range(3))  # 2 1: for x and for y
    x, y, z = (row[None] for row in shape)
    turns = (c * y - b * z, a * z - c * x, b * x - a * y)
    ones, sides = jnp.ones_like(residual), np.eye(2, dtype=shape.dtype)[:, :, None]
    turned = [a * x + b * y + c * z, *(parameters.scale * turn for turn in turns)]
    columns = [jnp.stack([*turned, *(ones * side for side in sides)]), residual[None]]
    if by_mode is not None:
        modes = by_mode.reshape(by_mode.shape[0], 3, 1, -1)
        moved = sum(r[None] * modes[:, d] for d, r in enumerate((a, b, c)))
        columns.insert(1, parameters.scale * moved)
    table = jnp.concatenate(columns) * jnp.sqrt(weights)[None, None]  # k1 2 n
    table = table.reshape(table.shape[0], -1)
    return lax.dot_general(table, table, (((1,), (1,)), ((), ())), precision=_HIGHEST)


def pose_step(
    weights: Float[Array, " n"],
    shape: Float[Array, "3 n"],
    parameters: PDMParameters,
    residual: Float[Array, "2 n"],
) -> Float[Array, "6"]:
    return solve_bordered(gram(None, weights, shape, parameters, residual))


def full_step(
    by_mode: Float[Array, "m c"],
    weights: Float[Array, " n"],
    shape: Float[Array, "3 n"],
    parameters: PDMParameters,
    residual: Float[Array, "2 n"],
    prior: Float[Array, " m"],
) -> Float[Array, " k"]:
    table = gram(by_mode, weights, shape, parameters, residual)
    size = table.shape[0]
    none = jnp.zeros(_POSE, prior.dtype)
    diagonal = jnp.concatenate([none, prior, none[:1]])
    last = jnp.concatenate([none, prior * parameters.local, none[:1]])
    index = np.arange(size)
    table = table + jnp.where(index[:, None] == index, diagonal[None], 0)
    return solve_bordered(table - jnp.where(index[:, None] == size - 1, last[None], 0))
