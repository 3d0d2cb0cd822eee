"""Response maps of CCNF patch experts, for many faces at once.

A map is a correlation of normalised patches with a few neurons, their sum, and a smoothing. No
patch is ever cut out: rows of an area times a Toeplitz matrix of the neurons' weights give all
positions of a row of the map at once, and the patches' means and norms are sliding sums.
"""

import functools
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ._base import SUPPORT, Bank, CCNFExperts

_HIGHEST = lax.Precision.HIGHEST
_STRIP = 3  # rows
_MIN_ALPHA = np.float32(1e-4)  # weaker neurons are skipped
# Sliding sums give a flat patch this share of its square sum at most; it then counts as flat.
_FLAT = np.float32(2e-6)


def normalise_patches(patches: Float[Array, "n 121 w w"]) -> Float[Array, "n 121 w w"]:
    """Zero mean and unit length of each patch; flat patches stay zero (specification 02, C.4)."""
    # Relative to one of their own pixels, flat patches are exactly zero before the mean is taken.
    shifted = patches - patches[:, :1]
    centred = shifted - jnp.mean(shifted, axis=1, keepdims=True)
    square = jnp.sum(centred * centred, axis=1, keepdims=True)
    return centred * lax.rsqrt(jnp.where(square == 0, 1, square))


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


def build_banks(experts: CCNFExperts, window: int) -> tuple[Bank, ...]:
    """Lays out the experts of each view for response maps of one size; runs on the host."""
    # NumPy throughout: every small operation of JAX would be compiled.
    weights, visible = np.asarray(experts.weights), np.asarray(experts.visible)
    alpha = np.asarray(experts.alpha, np.float64).sum(-1)
    beta = np.asarray(experts.beta, np.float64)
    coupled = window in experts.component_windows
    return tuple(
        Bank(
            strips=jax.device_put(_toeplitz(weights[view], window)),
            sigma=jax.device_put(_sigma(*inputs, window)) if coupled else None,
        )
        for view, inputs in enumerate(zip(visible, alpha, beta, strict=True))
    )


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


def ccnf_responses(
    experts: CCNFExperts, areas: Float[Array, "b n s s"], views: Int[Array, " b"]
) -> Float[Array, "b n w w"]:
    """Response maps of several faces; zeros where a landmark is invisible.

    The experts of a view are applied to all faces in one product, and only if one needs them.

    Args:
        areas: areas of interest, 0 to 255.
        views: view of each face.
    Raises:
        ValueError: the model was not prepared for this window.
    Reference:
        Baltrusaitis et al. 2014; specification 02, C.4.
    """
    window = areas.shape[-1] - SUPPORT + 1
    if window not in experts.banks:
        raise ValueError(
            f"patch experts at scale {experts.scale} are not prepared for window {window}, "
            f"only for {sorted(experts.banks)}: call jaxface.prepare_model(model, config) with "
            "the configuration that you fit with"
        )
    banks = experts.banks[window]
    strips = cut_strips(window)
    landmarks_first = areas.transpose(1, 0, 2, 3)
    centred = landmarks_first - jnp.mean(landmarks_first, axis=(2, 3), keepdims=True)
    columns = _stack_windows(centred, strips)
    products = _by_view(banks, views, columns, lambda bank, x: _product(bank.strips, x))
    raw = _join_strips(
        _add_neurons(experts, views, products, _inverse_norms(centred, strips)), strips
    )
    if banks[0].sigma is None:
        total = jnp.sum(experts.alpha[views].swapaxes(0, 1), axis=-1)
        smooth = raw / (2 * jnp.where(total == 0, 1, total))[:, None]
    else:
        smooth = _by_view(banks, views, raw, _smooth)
    smooth = smooth - jnp.minimum(jnp.min(smooth, axis=1, keepdims=True), 0)
    smooth = jnp.where(experts.visible[views].T[:, None], smooth, 0)
    return smooth.reshape(-1, window, window, len(views)).transpose(3, 0, 1, 2)


def _stack_windows(areas: Float[Array, "n b s s"], strips: Strips) -> Float[Array, "n r b g c"]:
    """For each strip and column of the map the pixels that its rows are made from.

    Returns:
        r: row and column of the support; g: strip; c: column of the map.
    """
    height, window = strips.rows + SUPPORT - 1, areas.shape[-1] - SUPPORT + 1
    cut = jnp.stack([areas[:, :, start : start + height] for start in strips.starts], axis=2)
    cut = cut.transpose(0, 3, 1, 2, 4)  # n y b g s
    shifted = jnp.stack([cut[..., j : j + window] for j in range(SUPPORT)], axis=2)
    return shifted.reshape(areas.shape[0], -1, *shifted.shape[3:])


def _product(matrices: Float[Array, "n j i"], x: Float[Array, "n i *m"]) -> Float[Array, "n j *m"]:
    """Each landmark's own matrix times its columns."""
    flat = x.reshape(*x.shape[:2], -1)
    product = jnp.einsum("nji,nim->njm", matrices, flat, precision=_HIGHEST)
    return product.reshape(*product.shape[:2], *x.shape[2:])


def _add_neurons(
    experts: CCNFExperts,
    views: Int[Array, " b"],
    products: Float[Array, "n j b g c"],
    norms: tuple[Float[Array, "n r b g c"], Bool[Array, "n r b g c"]],
) -> Float[Array, "n r b g c"]:
    """Sums of the neurons' outputs, written out: XLA makes them one loop over vectors."""
    inverse, flat = norms
    alpha, bias = (table[views].transpose(1, 2, 0) for table in (experts.alpha, experts.bias))
    by_neuron = products.reshape(*alpha.shape[:2], *inverse.shape[1:])
    weights = 2 * jnp.where(alpha > _MIN_ALPHA, alpha, 0)
    fired = []
    for neuron in range(alpha.shape[1]):
        weight, offset = (t[:, neuron, None, :, None, None] for t in (weights, bias))
        matched = jnp.where(flat, 0, by_neuron[:, neuron] * inverse)
        fired.append(weight * jax.nn.sigmoid(matched + offset))
    return functools.reduce(operator.add, fired)


def _join_strips(raw: Float[Array, "n r b g c"], strips: Strips) -> Float[Array, "n p b"]:
    """Whole maps, p = (row, column)."""
    rows = raw.transpose(0, 3, 1, 4, 2).reshape(raw.shape[0], -1, raw.shape[4], raw.shape[2])
    first = np.unique(strips.order, return_index=True)[1]
    return rows[:, first].reshape(rows.shape[0], -1, rows.shape[3])


def _smooth(bank: Bank, maps: Float[Array, "n p b"]) -> Float[Array, "n p b"]:
    assert bank.sigma is not None  # all views of a window are alike
    return _product(bank.sigma, maps)


def _by_view(
    banks: tuple[Bank, ...],
    views: Int[Array, " b"],
    x: Float[Array, "n i b *m"],
    apply: Callable[[Bank, Array], Array],
) -> Float[Array, "n j b *m"]:
    """Applies each face's bank; one that no face needs costs nothing."""
    if len(banks) == 1:
        return apply(banks[0], x)
    shape = jax.eval_shape(lambda x: apply(banks[0], x), x)
    result = jnp.zeros(shape.shape, shape.dtype)
    for view, bank in enumerate(banks):
        here = (views == view).reshape(1, 1, -1, *[1] * (x.ndim - 3))

        def fill(result, here=here, bank=bank):
            return jnp.where(here, apply(bank, x), result)

        result = lax.cond(jnp.any(here), fill, lambda r: r, result)
    return result


def _inverse_norms(
    areas: Float[Array, "n b s s"], strips: Strips
) -> tuple[Float[Array, "n r b g c"], Bool[Array, "n r b g c"]]:
    """One over the length of each 11x11 patch without its mean, and which patches are flat."""
    side = areas.shape[-1]
    offset = np.arange(side)[:, None] - np.arange(side - SUPPORT + 1)
    band = ((offset >= 0) & (offset < SUPPORT)).astype(np.float32)
    both = jnp.stack([areas, areas * areas])
    across = jnp.einsum("cnbyx,xq->cnbyq", both, band, precision=_HIGHEST)
    down = band[:, strips.order.T]  # y r g
    total, square = jnp.einsum("cnbyq,yrg->cnrbgq", across, down, precision=_HIGHEST)
    energy = square - total * total / SUPPORT**2
    flat = energy <= _FLAT * square
    return lax.rsqrt(jnp.where(flat, 1, energy)), flat
