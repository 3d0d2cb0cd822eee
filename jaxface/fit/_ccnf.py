"""Response maps of CCNF patch experts, for many faces at once.

A map is a correlation of normalised patches with a few neurons, their sum, and a smoothing. No
patch is ever cut out: rows of an area times a Toeplitz matrix of the neurons' weights give all
positions of a row of the map at once, and the patches' means and norms are sliding sums.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ._experts import SUPPORT, Bank, CCNFExperts

_HIGHEST = lax.Precision.HIGHEST
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
            rows=jax.device_put(_toeplitz(weights[view], window)),
            sigma=jax.device_put(_sigma(*inputs, window)) if coupled else None,
        )
        for view, inputs in enumerate(zip(visible, alpha, beta, strict=True))
    )


def _toeplitz(weights: Float[np.ndarray, "n k 11 11"], window: int) -> np.ndarray:
    """Matrices that take 11 rows of an area to one row of each neuron's map.

    Patches have no mean, so the weights need none either; without it the mean of the image
    cancels before it is rounded.
    """
    count, neurons = weights.shape[:2]
    side = window + SUPPORT - 1
    centred = weights - weights.mean(axis=(2, 3), keepdims=True, dtype=np.float64)
    rows = np.zeros((count, SUPPORT, side, neurons, window), np.float32)
    for column in range(window):
        rows[:, :, column : column + SUPPORT, :, column] = centred.transpose(0, 2, 3, 1)
    return rows.reshape(count, SUPPORT * side, neurons * window)


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
    landmarks_first = areas.transpose(1, 0, 2, 3)
    centred = landmarks_first - jnp.mean(landmarks_first, axis=(2, 3), keepdims=True)
    lines = _stack_lines(centred, window)
    products = _by_view(banks, views, lines, lambda bank, x: _product(x, bank.rows))
    products = products.reshape(*centred.shape[:2], window, -1, window)  # n b row neuron column
    inverse, flat = _inverse_norms(centred)
    products = jnp.where(flat[:, :, :, None], 0, products * inverse[:, :, :, None])
    alpha, bias = (table[views].swapaxes(0, 1) for table in (experts.alpha, experts.bias))
    neurons = 2 * jnp.where(alpha > _MIN_ALPHA, alpha, 0)
    fired = jax.nn.sigmoid(products + bias[:, :, None, :, None])
    raw = jnp.sum(neurons[:, :, None, :, None] * fired, axis=3)
    raw = raw.reshape(*centred.shape[:2], -1)
    if banks[0].sigma is None:
        total = jnp.sum(alpha, axis=-1)
        smooth = raw / (2 * jnp.where(total == 0, 1, total))[..., None]
    else:
        smooth = _by_view(banks, views, raw, _smooth)
    smooth = smooth - jnp.minimum(jnp.min(smooth, axis=-1, keepdims=True), 0)
    smooth = jnp.where(experts.visible[views].T[..., None], smooth, 0)
    return smooth.reshape(*centred.shape[:2], window, window).swapaxes(0, 1)


def _stack_lines(areas: Float[Array, "n b s s"], window: int) -> Float[Array, "n b w r"]:
    """For each row of the map the 11 rows of the area that it is made from, one after another."""
    side = areas.shape[-1]
    flat = areas.reshape(*areas.shape[:2], side * side)
    bands = [flat[..., row * side : (row + SUPPORT) * side] for row in range(window)]
    return jnp.stack(bands, axis=2)


def _product(x: Float[Array, "n *m i"], matrices: Float[Array, "n i j"]) -> Float[Array, "n *m j"]:
    """Each landmark's rows times its own matrix."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    product = jnp.einsum("nmi,nij->nmj", flat, matrices, precision=_HIGHEST)
    return product.reshape(*x.shape[:-1], -1)


def _smooth(bank: Bank, maps: Float[Array, "n b p"]) -> Float[Array, "n b p"]:
    assert bank.sigma is not None  # all views of a window are alike
    return _product(maps, bank.sigma)


def _by_view(
    banks: tuple[Bank, ...],
    views: Int[Array, " b"],
    x: Float[Array, "n b *m"],
    apply: Callable[[Bank, Array], Array],
) -> Array:
    """Applies each face's bank; one that no face needs costs nothing."""
    if len(banks) == 1:
        return apply(banks[0], x)
    shape = jax.eval_shape(lambda x: apply(banks[0], x), x)
    result = jnp.zeros(shape.shape, shape.dtype)
    for view, bank in enumerate(banks):
        here = (views == view).reshape(1, -1, *[1] * (result.ndim - 2))

        def fill(result, here=here, bank=bank):
            return jnp.where(here, apply(bank, x), result)

        result = lax.cond(jnp.any(here), fill, lambda r: r, result)
    return result


def _inverse_norms(
    areas: Float[Array, "n b s s"],
) -> tuple[Float[Array, "n b w w"], Bool[Array, "n b w w"]]:
    """One over the length of each 11x11 patch without its mean, and which patches are flat."""
    side = areas.shape[-1]
    offset = np.arange(side)[:, None] - np.arange(side - SUPPORT + 1)
    band = ((offset >= 0) & (offset < SUPPORT)).astype(np.float32)
    both = jnp.stack([areas, areas * areas])
    across = jnp.einsum("cnbyx,xq->cnbyq", both, band, precision=_HIGHEST)
    total, square = jnp.einsum("cnbyq,yp->cnbpq", across, band, precision=_HIGHEST)
    energy = square - total * total / SUPPORT**2
    flat = energy <= _FLAT * square
    return lax.rsqrt(jnp.where(flat, 1, energy)), flat
