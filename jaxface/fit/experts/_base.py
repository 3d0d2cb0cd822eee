"""The contract of patch experts: what scores the places around each landmark."""

import abc
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

SUPPORT = 11  # px of the reference frame: side of what one place of a response map is scored from


class AbstractPatchExperts(eqx.Module):
    """The experts of all landmarks and views at one scale.

    A subclass is final and holds weights alone. The fit cuts an area of side `w + SUPPORT - 1`
    out around each landmark, turned and scaled to the reference frame, picks the view whose
    centre is nearest to the head's rotation, and asks for `responses`.
    """

    scale: eqx.AbstractVar[float]  # static; px per mm of the reference frame
    centres: eqx.AbstractVar[Float[Array, "v 3"]]  # pitch yaw roll of each view, rad
    visible: eqx.AbstractVar[Bool[Array, "v n"]]  # landmarks that a view has experts for
    # Factor of `landmark_uncertainty`, whose variances go by the inverse height of the maps: it is
    # measured on faces whose truth is known, see bench/uncertainty.py.
    calibration: ClassVar[float] = 1.0

    @abc.abstractmethod
    def prepare(self, windows: frozenset[int]) -> "AbstractPatchExperts":
        """Experts laid out for response maps of these sizes; itself where nothing is to be done.

        Runs on the host, once. What it gives must hold no weights whose edits would have no
        effect; the experts that it was made from are kept and come back with `strip_clnf`.
        """

    @abc.abstractmethod
    def laid_out(self) -> frozenset[int] | None:
        """Sizes of response maps that they are laid out for; None where they serve all sizes."""

    @abc.abstractmethod
    def responses(
        self, areas: Float[Array, "b n s s"], views: Int[Array, " b"]
    ) -> Float[Array, "b n w w"]:
        """Response maps of `b` faces, each in a view of its own; w = s - SUPPORT + 1.

        `[i, row, column]` scores landmark i at (column - (w-1)/2, row - (w-1)/2) from the middle
        of its area; higher is better, none is negative; zeros where it is invisible.

        Args:
            areas: 0 to 255.
            views: rows of `centres`.
        """

    @abc.abstractmethod
    def confidences(self, view: Int[Array, ""]) -> Float[Array, " n"]:
        """How reliable each landmark's expert is in a view; weighs it in the fit."""


def response_maps(
    experts: AbstractPatchExperts, areas: Float[Array, "n s s"], view: Int[Array, ""]
) -> Float[Array, "n w w"]:
    """Response maps of all landmarks of one face.

    Args:
        experts: of one scale.
        areas: see `areas_of_interest`.
        view: see `nearest_view`.
    Returns:
        See `AbstractPatchExperts.responses`. Derivatives by the areas and by the weights are
        those of this function; `view` is chosen, not differentiated.
    Raises:
        ValueError: prepared experts were not prepared for maps of this size.
    Reference:
        Specification 02, C.4 to C.7.
    """
    return experts.responses(areas[None], jnp.asarray(view)[None])[0]
