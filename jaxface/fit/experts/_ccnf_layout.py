"""How CCNF experts are laid out for response maps of one size.

No patch is ever cut out: rows of an area times a Toeplitz matrix of the neurons' weights give all
positions of a row of the map at once; a covariance per landmark smooths the sum of the neurons.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ...ops import invert_spd
from ._base import SUPPORT

_STRIP = 3  # rows


class Bank(eqx.Module):
    """The experts of one view, laid out for response maps of w x w places."""

    strips: Float[Array, "n j i"]  # j = k r, i = 11 (r + 10), r rows at a time
    sigma: Float[Array, "n s s"] | None  # s = w**2; None where the places are not coupled


def sigma_components(window: int) -> Float[np.ndarray, "3 s s"]:
    """The three matrices whose weighted sum couples the pixels of a response map.

    Returns:
        Graph Laplacians of the 4-neighbours and of the diagonal neighbours, and the signless
        Laplacian of pairs 5 or 6 apart.
    Reference:
        Specification 02, A.5.
    """
    index = np.arange(window * window)
    dr = np.abs(index[:, None] // window - index[None] // window)
    dc = np.abs(index[:, None] % window - index[None] % window)
    near = (dr + dc == 1) * -1.0
    diagonal = ((dr == 1) & (dc == 1)) * -1.0
    far_pairs = [(0, 5), (0, 6), (5, 0), (6, 0), (5, 5), (6, 6)]
    far = sum(((dr == r) & (dc == c)) * 1.0 for r, c in far_pairs)
    return np.stack([m + np.diag(np.abs(m).sum(1)) for m in (near, diagonal, far)])


class Strips(NamedTuple):
    """How a response map is cut into strips of rows that one product computes together.

    A strip of few rows reads the weights of few copies of the neurons: those of a whole map would
    not stay in the processor's cache, and reading them would take longer than the products.
    """

    rows: int  # of the map per strip
    starts: tuple[int, ...]  # first row of each; the last one may overlap

    @property
    def order(self) -> Int[np.ndarray, "g r"]:
        """Row of the map by strip and row of the strip."""
        return np.array(self.starts)[:, None] + np.arange(self.rows)


def cut_strips(window: int) -> Strips:
    """Strips of at most three rows."""
    count = -(-window // _STRIP)
    rows = -(-window // count)
    starts = [*range(0, window - rows, rows), window - rows]
    return Strips(rows, tuple(starts))


def build_banks(
    weights: Float[np.ndarray, "v n k 11 11"],
    alpha: Float[np.ndarray, "v n k"],
    beta: Float[np.ndarray, "v n b"],
    visible: Bool[np.ndarray, "v n"],
    window: int,
    *,
    coupled: bool,
) -> tuple[Bank, ...]:
    """A bank for each view, on the host.

    Args:
        coupled: whether the places of a map of this size depend on one another.
    """
    # NumPy throughout: every small operation of JAX would be compiled.
    total = np.asarray(alpha, np.float64).sum(-1)
    return tuple(
        Bank(
            strips=jax.device_put(_toeplitz(weights[view], window)),
            sigma=jax.device_put(_sigma(visible[view], total[view], beta[view], window))
            if coupled
            else None,
        )
        for view in range(len(visible))
    )


def trace_bank(
    weights: Float[Array, "n k 11 11"],
    alpha: Float[Array, "n k"],
    beta: Float[Array, "n b"],
    visible: Bool[Array, " n"],
    window: int,
    *,
    coupled: bool,
) -> Bank:
    """The bank of one view, computed inside a program so that derivatives reach the weights.

    Equal to `build_banks` up to the rounding of the covariance, which is made in float64 there.
    """
    centred = weights - jnp.mean(weights, axis=(2, 3), keepdims=True)
    count, neurons = weights.shape[:2]
    rows = cut_strips(window).rows
    matrices = jnp.zeros((count, neurons, rows, rows + SUPPORT - 1, SUPPORT), weights.dtype)
    for row in range(rows):
        matrices = matrices.at[:, :, row, row : row + SUPPORT].set(centred)
    strips = matrices.reshape(count, neurons * rows, -1)
    if not coupled:
        return Bank(strips=strips, sigma=None)
    total = jnp.sum(alpha, axis=-1)
    components = jnp.asarray(sigma_components(window), weights.dtype)
    diagonal = jnp.eye(window * window, dtype=weights.dtype)
    precision = jnp.einsum("nb,bst->nst", beta, components, precision=lax.Precision.HIGHEST)
    precision = precision + total[:, None, None] * diagonal[None]
    shown = visible[:, None, None]
    sigma = invert_spd(2 * jnp.where(shown, precision, diagonal[None]))
    return Bank(strips=strips, sigma=jnp.where(shown, sigma, 0))


def _toeplitz(weights: Float[np.ndarray, "n k 11 11"], window: int) -> np.ndarray:
    """Matrices that take the rows of a strip's area to the strip's rows of each neuron's map.

    Patches have no mean, so the weights need none either; without it the mean of the image
    cancels before it is rounded.
    """
    count, neurons = weights.shape[:2]
    rows = cut_strips(window).rows
    centred = weights - weights.mean(axis=(2, 3), keepdims=True, dtype=np.float64)
    matrices = np.zeros((count, neurons, rows, rows + SUPPORT - 1, SUPPORT), np.float32)
    for row in range(rows):
        matrices[:, :, row, row : row + SUPPORT] = centred
    return matrices.reshape(count, neurons * rows, -1)


def _sigma(
    visible: Bool[np.ndarray, " n"],
    alpha: Float[np.ndarray, " n"],
    beta: Float[np.ndarray, "n 3"],
    window: int,
) -> Float[np.ndarray, "n s s"]:
    """Covariances that smooth raw maps, in float64 and rounded once (specification 02, C.4).

    Args:
        alpha: sum over the neurons.
    """
    size = window * window
    precision = alpha[visible, None, None] * np.eye(size)
    precision += np.tensordot(beta[visible], sigma_components(window), 1)
    sigma = np.zeros((len(visible), size, size), np.float32)
    sigma[visible] = np.linalg.inv(2 * precision)
    return sigma
