"""Products of matrices with their sums in the order of OpenFace's libraries.

A fit is discontinuous, so the last bit of a box or a shape can decide about tenths of a pixel.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_RUNNING = 16  # sums that OpenBLAS keeps, each in sequence
_COLUMNS = 64  # with as many, XLA's own product adds in sequence
_MOST = 384  # terms that OpenBLAS adds before it goes back to memory


def interleaved_product(
    weights: Float[Array, " n"], terms: Float[Array, "n ..."]
) -> Float[Array, "..."]:
    """weights @ terms as OpenBLAS has it for one row.

    Terms i, i + 16, i + 32.. are added in sequence, then those sums in pairs.
    """
    fill = -weights.shape[0] % _RUNNING
    shape = terms.shape[1:]
    weights = jnp.pad(weights, (0, fill)).reshape(-1, _RUNNING, *(1,) * len(shape))
    terms = jnp.pad(terms, ((0, fill),) + ((0, 0),) * len(shape)).reshape(-1, _RUNNING, *shape)
    # A loop: what XLA makes of a sum has another order, or takes four times as long.
    zeros = jnp.zeros(terms.shape[1:], terms.dtype)
    sums = lax.fori_loop(0, weights.shape[0], lambda i, sums: sums + weights[i] * terms[i], zeros)
    while sums.shape[0] > 1:
        sums = sums[::2] + sums[1::2]
    return sums[0]


def sequential_product(a: Float[Array, "m k"], b: Float[Array, "k n"]) -> Float[Array, "m n"]:
    """a @ b as OpenBLAS has it for several rows: in sequence, more than 384 terms in two halves.

    How XLA adds depends on the shape and is not promised; on CPUs these shapes have that order.
    """
    columns = b.shape[1]
    b = jnp.pad(b, ((0, 0), (0, -columns % _COLUMNS)))
    ends = [b.shape[0]]
    if b.shape[0] > _MOST:
        ends.insert(0, -(-(b.shape[0] // 2) // 8) * 8)
    blocks = []
    for column in range(0, b.shape[1], _COLUMNS):
        sums, start = None, 0
        for end in ends:
            block = jnp.dot(
                a[:, start:end],
                b[start:end, column : column + _COLUMNS],
                precision=lax.Precision.HIGHEST,
            )
            sums, start = block if sums is None else sums + block, end
        blocks.append(sums)
    return jnp.concatenate(blocks, axis=1)[:, :columns]
