"""Response maps of any kind of patch expert."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._ccnf import ccnf_responses
from ._cen import cen_responses
from ._experts import CCNFExperts, CENExperts, PatchExperts
from ._svr import svr_responses


def response_maps(
    experts: PatchExperts, areas: Float[Array, "n s s"], view: Int[Array, ""]
) -> Float[Array, "n w w"]:
    """Response maps of all landmarks in one view.

    `responses[i, row, col]` scores landmark i at the offset (col - (w-1)/2, row - (w-1)/2) from
    its current position, in the reference frame.

    Args:
        areas: see `areas_of_interest`.
        view: see `nearest_view`.
    Reference:
        Specification 02, C.4 to C.7.
    """
    if isinstance(experts, CCNFExperts):
        return ccnf_responses(experts, areas, view)
    if isinstance(experts, CENExperts):
        return cen_responses(experts, areas, view)
    return svr_responses(experts, areas, view)


def patch_confidences(experts: PatchExperts, view: Int[Array, ""]) -> Float[Array, " n"]:
    """Reliability of each landmark's expert; SVR sums over its modalities."""
    confidence = experts.confidence[view]
    return confidence if confidence.ndim == 1 else jnp.sum(confidence, axis=-1)
