"""The contract of a solver: what moves a PDM's parameters up the response maps of one scale."""

import dataclasses
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from ...ops import small_product
from ...types import PDMParameters
from .._pdm import PDM, shape_2d

_HIGHEST = lax.Precision.HIGHEST


class ResponseFrame(eqx.Module):
    """Response maps with the geometry that they were computed in."""

    responses: Float[Array, "n w w"]
    landmarks: Float[Array, "n 2"]  # px; centres of the maps
    to_reference: Float[Array, "2 2"]
    to_image: Float[Array, "2 2"]
    visible: Bool[Array, " n"]
    confidence: Float[Array, " n"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaleConfig:
    """Settings of a solver at one scale."""

    window: int  # side of the response maps
    sigma: float  # of the mean-shift kernel, px of the reference frame
    regularisation: float  # weight of the prior on the shape
    weight_factor: float  # 0: all landmarks weigh the same
    iterations: int
    smooth: bool = False  # nothing is rounded: see `FitConfig.smooth`


class Solution(eqx.Module):
    """What a solver may give in place of bare parameters."""

    parameters: PDMParameters
    likelihood: Float[Array, ""]  # mean log likelihood of the visible landmarks; ranks starts
    pose_scale: Float[Array, ""]  # px per mm after the pose alone was moved


@runtime_checkable
class Solver(Protocol):
    """Moves parameters up the response maps of one scale.

    Any pure function of this signature is a solver: name it in `FitConfig(solver=...)`. It is
    called once per scale, for the main model and for its parts, inside jit, vmap and `lax.cond`;
    it must be hashable (a function is) and take a fixed number of steps.

    Args:
        pdm: whose parameters are sought.
        frame: response maps around the start, of one face. `frame.responses[i, row, column]`
            scores landmark i at `frame.landmarks[i] + to_image @ (column - (w-1)/2, row - (w-1)/2)`
            px; higher is better. `map_positions` is the inverse.
        parameters: start.
        settings: of this scale.
    Returns:
        The new parameters, finite; or a `Solution`, where the solver knows a likelihood that
        differs from `mean_log_likelihood` at its result.
    """

    def __call__(
        self, pdm: PDM, frame: ResponseFrame, parameters: PDMParameters, settings: ScaleConfig, /
    ) -> PDMParameters | Solution: ...


def map_positions(frame: ResponseFrame, landmarks: Float[Array, "n 2"]) -> Float[Array, "n 2"]:
    """Places in the response maps, (column, row), of landmarks in px."""
    return positions_of_rows(frame, (landmarks - frame.landmarks).T).T


def positions_of_rows(frame: ResponseFrame, offsets: Float[Array, "2 n"]) -> Float[Array, "2 n"]:
    """Places in the response maps, (column, row), of offsets from their centres in px."""
    half = np.asarray((frame.responses.shape[-1] - 1) // 2, offsets.dtype)
    return small_product(frame.to_reference, offsets) + half


def landmark_likelihoods(
    responses: Float[Array, "n w w"], positions: Float[Array, "n 2"], sigma: float
) -> Float[Array, " n"]:
    """Response maps under a Gaussian at each position (specification 02, D.3)."""
    cells = np.arange(responses.shape[-1], dtype=responses.dtype)
    factor = np.asarray(-0.5 / sigma**2, responses.dtype)
    kernels = jnp.exp(factor * (positions[..., None] - cells[None, None]) ** 2)
    return jnp.einsum("nyx,nx,ny->n", responses, kernels[:, 0], kernels[:, 1], precision=_HIGHEST)


def mean_log_likelihood(
    frame: ResponseFrame, positions: Float[Array, "n 2"], sigma: float
) -> Float[Array, ""]:
    """Mean over the visible landmarks of the logarithms of `landmark_likelihoods`."""
    each = landmark_likelihoods(frame.responses, positions, sigma)
    smallest = np.asarray(1e-8, each.dtype)
    logs = jnp.where(frame.visible, jnp.log(each + smallest), 0)
    count = jnp.sum(frame.visible).astype(logs.dtype)
    return jnp.sum(logs) / jnp.maximum(count, 1)


def solve_scale(
    solver: Solver,
    pdm: PDM,
    frame: ResponseFrame,
    parameters: PDMParameters,
    settings: ScaleConfig,
) -> Solution:
    """Runs a solver; fills in what it does not tell."""
    found = solver(pdm, frame, parameters, settings)
    if isinstance(found, Solution):
        return found
    if not isinstance(found, PDMParameters):
        raise TypeError(
            f"solver {solver!r}: expected PDMParameters or a Solution as its result, "
            f"got {type(found).__name__}"
        )
    positions = map_positions(frame, shape_2d(pdm, found))
    return Solution(
        parameters=found,
        likelihood=mean_log_likelihood(frame, positions, settings.sigma),
        pose_scale=found.scale,
    )
