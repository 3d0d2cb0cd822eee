"""Response maps of any kind of patch expert."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ._base import CCNFExperts, CENExperts, PatchExperts
from ._ccnf import ccnf_responses
from ._cen import cen_responses
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
    return lane_responses(experts, areas[None], jnp.asarray(view)[None])[0]


def lane_responses(
    experts: PatchExperts, areas: Float[Array, "b n s s"], views: Int[Array, " b"]
) -> Float[Array, "b n w w"]:
    """`response_maps` of several faces, each in a view of its own."""
    if isinstance(experts, CCNFExperts):
        return ccnf_responses(experts, areas, views)
    if isinstance(experts, CENExperts):
        # One face after the other: the networks are too large to gather for all at once.
        return lax.map(lambda face: cen_responses(experts, *face), (areas, views))
    return jax.vmap(lambda area, view: svr_responses(experts, area, view))(areas, views)


def patch_confidences(experts: PatchExperts, view: Int[Array, ""]) -> Float[Array, " n"]:
    """Reliability of each landmark's expert; SVR sums over its modalities."""
    confidence = experts.confidence[view]
    return confidence if confidence.ndim == 1 else jnp.sum(confidence, axis=-1)
