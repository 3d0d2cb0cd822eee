"""Response maps of CCNF patch experts, for many faces at once.

A map is a correlation of normalised patches with a few neurons, their sum, and a smoothing. No
patch is ever cut out: rows of an area times a Toeplitz matrix of the neurons' weights give all
positions of a row of the map at once, and the patches' means and norms are sliding sums.
"""

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
    coupled = window in experts.component_windows
    return tuple(
        Bank(
            rows=jnp.asarray(_toeplitz(np.asarray(weights), window)),
            sigma=jnp.asarray(_sigma(experts, view, window)) if coupled else None,
        )
        for view, weights in enumerate(experts.weights)
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


def _sigma(experts: CCNFExperts, view: int, window: int) -> Float[np.ndarray, "n s s"]:
    """Covariances that smooth raw maps, in float64 and rounded once (specification 02, C.4)."""
    size = window * window
    visible = np.asarray(experts.visible[view])
    alpha = np.asarray(experts.alpha[view], np.float64).sum(-1)[visible]
    beta = np.asarray(experts.beta[view], np.float64)[visible]
    coupling = np.tensordot(beta, sigma_components(window), 1)
    sigma = np.zeros((len(visible), size, size), np.float32)
    sigma[visible] = np.linalg.inv(2 * (alpha[:, None, None] * np.eye(size) + coupling))
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
    landmarks_first = areas.transpose(1, 0, 2, 3)
    centred = landmarks_first - jnp.mean(landmarks_first, axis=(2, 3), keepdims=True)
    inverse, flat = _inverse_norms(centred)
    maps = jnp.zeros((*centred.shape[:2], window, window), areas.dtype)
    for view, bank in enumerate(experts.banks[window]):
        here = views == view

        def respond(maps, view=view, bank=bank, here=here):
            found = _view_responses(experts, view, bank, centred, inverse, flat)
            return jnp.where(here[:, None, None], found, maps)

        alone = len(experts.banks[window]) == 1
        maps = respond(maps) if alone else lax.cond(jnp.any(here), respond, lambda m: m, maps)
    return maps.transpose(1, 0, 2, 3)


def _view_responses(
    experts: CCNFExperts,
    view: int,
    bank: Bank,
    areas: Float[Array, "n b s s"],
    inverse: Float[Array, "n b w w"],
    flat: Bool[Array, "n b w w"],
) -> Float[Array, "n b w w"]:
    """Response maps of all faces as if they were in one view."""
    count, faces, side = areas.shape[:3]
    window = side - SUPPORT + 1
    lines = areas.reshape(count, faces, side * side)
    bands = [lines[..., r * side : (r + SUPPORT) * side] for r in range(window)]
    stacked = jnp.stack(bands, axis=2).reshape(count, faces * window, SUPPORT * side)
    products = jnp.einsum("nmr,nrj->nmj", stacked, bank.rows, precision=_HIGHEST)
    products = products.reshape(count, faces, window, -1, window)  # n b row neuron column
    products = jnp.where(flat[:, :, :, None], 0, products * inverse[:, :, :, None])
    alpha, bias = experts.alpha[view], experts.bias[view]
    neurons = 2 * jnp.where(alpha > _MIN_ALPHA, alpha, 0)
    fired = jax.nn.sigmoid(products + bias[:, None, None, :, None])
    raw = jnp.sum(neurons[:, None, None, :, None] * fired, axis=3)
    smooth = _smooth(bank, raw.reshape(count, faces, -1), jnp.sum(alpha, axis=-1))
    smooth = smooth - jnp.minimum(jnp.min(smooth, axis=-1, keepdims=True), 0)
    smooth = jnp.where(experts.visible[view][:, None, None], smooth, 0)
    return smooth.reshape(count, faces, window, window)


def _smooth(
    bank: Bank, raw: Float[Array, "n b p"], total_alpha: Float[Array, " n"]
) -> Float[Array, "n b p"]:
    if bank.sigma is None:
        return raw / (2 * jnp.where(total_alpha == 0, 1, total_alpha))[:, None, None]
    return jnp.einsum("nbq,npq->nbp", raw, bank.sigma, precision=_HIGHEST)


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
