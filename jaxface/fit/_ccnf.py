"""Response maps of CCNF patch experts."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ..ops import extract_patches
from ._experts import SUPPORT, CCNFExperts

_HIGHEST = lax.Precision.HIGHEST
_MIN_ALPHA = np.float32(1e-4)  # weaker neurons are skipped


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


def compute_sigmas(experts: CCNFExperts, window: int) -> Float[np.ndarray, "v n s s"]:
    """Covariance that smooths a raw response map, in float64 and rounded once.

    Args:
        window: side of the response map, one of `experts.component_windows`.
    Reference:
        Specification 02, C.4.
    """
    alpha = np.asarray(experts.alpha, np.float64).sum(-1)
    beta = np.asarray(experts.beta, np.float64)
    size = window * window
    eye, components = np.eye(size), sigma_components(window)
    sigmas = np.zeros((*alpha.shape, size, size), np.float32)
    for view, point in np.argwhere(np.asarray(experts.visible)):
        precision = alpha[view, point] * eye + np.tensordot(beta[view, point], components, 1)
        sigmas[view, point] = np.linalg.inv(2 * precision)
    return sigmas


def ccnf_responses(
    experts: CCNFExperts, areas: Float[Array, "n s s"], view: Int[Array, ""]
) -> Float[Array, "n w w"]:
    """Response maps of all landmarks in one view; zeros where a landmark is invisible.

    Args:
        areas: areas of interest, 0 to 255.
        view: index of the view.
    Raises:
        ValueError: the model was not prepared for this window.
    Reference:
        Baltrusaitis et al. 2014; specification 02, C.4.
    """
    count, window = areas.shape[0], areas.shape[-1] - SUPPORT + 1
    weights = experts.weights[view].transpose(0, 1, 3, 2).reshape(count, -1, SUPPORT**2)
    alpha, bias = experts.alpha[view], experts.bias[view]
    patches = normalise_patches(extract_patches(areas, SUPPORT)).reshape(count, SUPPORT**2, -1)
    activations = jnp.einsum("nkd,ndp->nkp", weights, patches, precision=_HIGHEST)
    neurons = 2 * jnp.where(alpha > _MIN_ALPHA, alpha, 0)
    fired = jax.nn.sigmoid(activations + bias[..., None])
    raw = jnp.sum(neurons[..., None] * fired, axis=1)
    smooth = _apply_sigma(experts, raw, view, window)
    smooth = smooth - jnp.minimum(jnp.min(smooth, axis=-1, keepdims=True), 0)
    return jnp.where(experts.visible[view][:, None], smooth, 0).reshape(count, window, window)


def _apply_sigma(
    experts: CCNFExperts, raw: Float[Array, "n p"], view: Int[Array, ""], window: int
) -> Float[Array, "n p"]:
    if window not in experts.component_windows:
        total = jnp.sum(experts.alpha[view], axis=-1, keepdims=True)
        return raw / (2 * jnp.where(total == 0, 1, total))
    if window not in experts.sigmas:
        raise ValueError(
            f"patch experts at scale {experts.scale} have no Sigma matrices for window {window}, "
            f"only for {sorted(experts.sigmas)}: call jaxface.prepare_model(model, config) with "
            "the configuration that you fit with"
        )
    sigma = experts.sigmas[window][view]
    return jnp.einsum("npq,nq->np", sigma, raw, precision=_HIGHEST)
