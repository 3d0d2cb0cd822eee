"""Non-uniform regularised landmark mean shift (NU-RLMS; Baltrusaitis 2013)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from .._types import Landmarks, PDMParameters
from ..ops import select, small_product, solve_spd
from ._config import ScaleConfig
from ._pdm import (
    PDM,
    clamp_local,
    full_jacobian,
    project,
    shape_3d,
    update_parameters,
)

_HIGHEST = lax.Precision.HIGHEST
_GRID = np.float32(0.1)  # the kernel's centre is rounded to this, in response pixels
_STILL = np.float32(0.01)  # px over all landmarks: no further step


class ResponseFrame(eqx.Module):
    """Response maps with the geometry that they were computed in."""

    responses: Float[Array, "n w w"]
    landmarks: Float[Array, "n 2"]  # px; centres of the maps
    to_reference: Float[Array, "2 2"]
    to_image: Float[Array, "2 2"]
    visible: Bool[Array, " n"]
    confidence: Float[Array, " n"]


def mean_shift(
    responses: Float[Array, "n w w"], positions: Float[Array, "n 2"], sigma: float
) -> Float[Array, "n 2"]:
    """Step from each position to the kernel-weighted mean of its response map.

    The kernel is centred on a grid of 0.1, the position that is subtracted is not.

    Args:
        responses: non-negative maps.
        positions: (column, row) in the map.
        sigma: standard deviation of the kernel, map pixels.
    Reference:
        Specification 02, D.4.
    """
    window = responses.shape[-1]
    cells = np.arange(window, dtype=np.float32)
    limited = jnp.clip(positions, 0, np.float32(window - 0.1))
    centre = _GRID * jnp.floor(limited / _GRID + np.float32(0.5))
    kernels = jnp.exp(np.float32(-0.5 / sigma**2) * (centre[..., None] - cells) ** 2)
    weighted = responses * kernels[:, 1, :, None] * kernels[:, 0, None, :]
    along_x, along_y = jnp.sum(weighted, axis=1), jnp.sum(weighted, axis=2)
    total = jnp.sum(along_x, axis=-1)
    means = jnp.stack([jnp.sum(along_x * cells, -1), jnp.sum(along_y * cells, -1)], axis=-1)
    shift = means / jnp.where(total > 0, total, 1)[:, None] - limited
    return jnp.where((total > 0)[:, None], shift, 0)


def landmark_likelihoods(
    responses: Float[Array, "n w w"], positions: Float[Array, "n 2"], sigma: float
) -> Float[Array, " n"]:
    """Response maps under a Gaussian at each position (specification 02, D.3)."""
    cells = np.arange(responses.shape[-1], dtype=np.float32)
    kernels = jnp.exp(np.float32(-0.5 / sigma**2) * (positions[..., None] - cells) ** 2)
    return jnp.einsum("nyx,nx,ny->n", responses, kernels[:, 0], kernels[:, 1], precision=_HIGHEST)


def _positions(frame: ResponseFrame, landmarks: Landmarks) -> Float[Array, "n 2"]:
    offsets = small_product(landmarks - frame.landmarks, frame.to_reference.T)
    return offsets + np.float32((frame.responses.shape[-1] - 1) // 2)


def _step(
    pdm: PDM,
    frame: ResponseFrame,
    parameters: PDMParameters,
    shift: Float[Array, "n 2"],
    config: ScaleConfig,
    rigid: Bool[Array, ""],
) -> PDMParameters:
    """One Gauss-Newton step towards the mean-shifted landmarks.

    A rigid step solves the same system with the shape's part replaced by the identity.
    """
    shape = shape_3d(pdm, parameters.local)
    jacobian = full_jacobian(pdm, shape, parameters)
    is_mode = np.arange(jacobian.shape[-1]) >= 6
    used = frame.visible[:, None, None] & ~(rigid & is_mode)
    jacobian = jnp.where(used, jacobian, 0)
    weighted = jacobian
    if config.weight_factor > 0:
        weights = np.float32(config.weight_factor) * frame.confidence
        weighted = jacobian * weights[:, None, None]
    gradient = jnp.einsum("nak,na->k", weighted, shift, precision=_HIGHEST)
    size = gradient.shape[0]
    flat, flat_weighted = jacobian.reshape(-1, size), weighted.reshape(-1, size)
    hessian = jnp.dot(flat_weighted.T, flat, precision=_HIGHEST)
    prior = np.float32(config.regularisation) / pdm.eigenvalues
    pull = jnp.where(rigid, 0, prior * parameters.local)
    gradient = gradient - jnp.concatenate([jnp.zeros(6, pull.dtype), pull])
    diagonal = jnp.where(rigid, 1, prior)
    hessian = hessian + jnp.diag(jnp.concatenate([jnp.zeros(6, prior.dtype), diagonal]))
    return clamp_local(pdm, update_parameters(parameters, solve_spd(hessian, gradient)))


def nu_rlms(
    pdm: PDM,
    frame: ResponseFrame,
    parameters: PDMParameters,
    *,
    config: ScaleConfig,
    rigid: bool,
) -> tuple[PDMParameters, Float[Array, ""]]:
    """Moves the pose (and the shape, unless `rigid`) up the response maps.

    Takes `config.iterations` steps; a fit whose landmarks stand still is frozen.

    Args:
        frame: response maps around the start.
        parameters: start.
    Returns:
        Parameters, and the mean log likelihood of the visible landmarks where the last step
        started.
    Reference:
        Baltrusaitis et al. 2013; specification 02, D.3.
    """
    passes, likelihood = run_passes(pdm, frame, parameters, config=config, rigid=(rigid,))
    return jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[1:]), passes), likelihood


def run_passes(
    pdm: PDM,
    frame: ResponseFrame,
    parameters: PDMParameters,
    *,
    config: ScaleConfig,
    rigid: tuple[bool, ...],
) -> tuple[PDMParameters, Float[Array, ""]]:
    """Several runs of `nu_rlms`, one from the other's result, in one loop that compiles once.

    Args:
        rigid: for each run whether only the pose moves.
    Returns:
        Parameters after each run, and the likelihood of the last.
    """
    steps = config.iterations
    flags = np.repeat(np.asarray(rigid), steps)
    firsts = np.tile(np.arange(steps) == 0, len(rigid))

    def step(carry, inputs):
        parameters, previous, last, done = carry
        flag, first = inputs
        landmarks = project(shape_3d(pdm, parameters.local), parameters)
        moved = jnp.sum((landmarks - previous) ** 2)
        done = ~first & (done | (moved < _STILL**2))
        positions = _positions(frame, landmarks)
        shift = mean_shift(frame.responses, positions, config.sigma)
        shift = small_product(shift, frame.to_image.T)
        shift = jnp.where(frame.visible[:, None], shift, 0)
        after = _step(pdm, frame, parameters, shift, config, flag)
        after, landmarks, positions = select(
            done, (parameters, previous, last), (after, landmarks, positions)
        )
        return (after, landmarks, positions, done), after

    start = (parameters, frame.landmarks, frame.landmarks, jnp.zeros((), bool))
    carry, trail = lax.scan(step, start, (flags, firsts))
    each = landmark_likelihoods(frame.responses, carry[2], config.sigma)
    logs = jnp.where(frame.visible, jnp.log(each + np.float32(1e-8)), 0)
    count = jnp.sum(frame.visible).astype(logs.dtype)
    reached = jax.tree.map(lambda leaf: leaf[steps - 1 :: steps], trail)
    return reached, jnp.sum(logs) / jnp.maximum(count, 1)
