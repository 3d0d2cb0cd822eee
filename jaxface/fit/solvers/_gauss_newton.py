"""Gauss-Newton and Levenberg-Marquardt steps down the fit's objective.

Both take the curvature of each landmark's likelihood from the spread of its map under the kernel:
1 - spread / sigma^2, in both directions of the map. Where a map has one narrow peak that is the
1 of NU-RLMS; along an edge, where a map is a ridge, it is near 0, so that a landmark slides along
it and NU-RLMS's small steps there become whole ones. The curvature is kept from below by a floor:
a map of two peaks is not convex between them.
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from ...ops import select, solve_spd
from ...types import PDMParameters
from .._pdm import PDM, clamp_local, full_jacobian, project, shape_3d, update_parameters
from ._base import ResponseFrame, ScaleConfig, Solution, map_positions, mean_log_likelihood
from ._objective import Moments, kernel_moments, landmark_weights, map_area, pixel_variance

_HIGHEST = lax.Precision.HIGHEST
_GROW, _SHRINK = 4.0, 0.25  # of the damping, after a step that failed or held
_MOST, _LEAST = 1e6, 1e-7  # damping
_ROUNDING = 8.0  # last bits by which an objective may seem to rise
_POSE = 6  # parameters


class Point(eqx.Module):
    """Parameters with all that a step from them needs."""

    parameters: PDMParameters
    shape: Float[Array, "n 3"]  # mm
    landmarks: Float[Array, "n 2"]  # px
    moments: Moments
    value: Float[Array, ""]  # of the objective, px^2


class Quadratic(eqx.Module):
    """Slope and curvature of the objective by pose and shape; see `full_jacobian`."""

    slope: Float[Array, " k"]
    curvature: Float[Array, "k k"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussNewton:
    """Steps to the minimum of a quadratic model of `fit_objective`, as a `Solver`.

    The pose alone is moved first, as NU-RLMS does. A face whose landmarks stand still is frozen.

    The derivative of the result is that of the steps that were taken, unrolled.
    """

    pose_steps: int = 2
    steps: int = 4
    floor: float = 0.3  # smallest curvature, of NU-RLMS's
    still: float = 0.01  # px over all landmarks: no further step

    def __post_init__(self) -> None:
        check_steps(self)

    def __call__(
        self, pdm: PDM, frame: ResponseFrame, parameters: PDMParameters, settings: ScaleConfig, /
    ) -> Solution:
        return descend(pdm, frame, parameters, settings, self, damping=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LevenbergMarquardt:
    """`GaussNewton` with damped steps, which are taken only where the objective falls.

    The damping is relative to the diagonal of the curvature. The derivative of the result is that
    of the steps that were taken, unrolled; which of them were taken, and the damping, count as
    given.
    """

    pose_steps: int = 2
    steps: int = 5
    floor: float = 0.1  # smallest curvature, of NU-RLMS's
    still: float = 0.01  # px over all landmarks: no further step
    damping: float = 0.01  # of the first step

    def __post_init__(self) -> None:
        check_steps(self)
        if not self.damping > 0:
            raise ValueError(f"damping: expected a positive number, got {self.damping}")

    def __call__(
        self, pdm: PDM, frame: ResponseFrame, parameters: PDMParameters, settings: ScaleConfig, /
    ) -> Solution:
        return descend(pdm, frame, parameters, settings, self, damping=self.damping)


def check_steps(solver: GaussNewton | LevenbergMarquardt) -> None:
    """Raises a `ValueError` that names the setting which makes no sense."""
    if solver.pose_steps < 0:
        raise ValueError(f"pose_steps: expected at least 0, got {solver.pose_steps}")
    if solver.steps < 1:
        raise ValueError(f"steps: expected at least 1, got {solver.steps}")
    if not 0 < solver.floor <= 1:
        raise ValueError(f"floor: expected a curvature above 0, at most 1, got {solver.floor}")
    if not solver.still >= 0:
        raise ValueError(f"still: expected a distance of at least 0 px, got {solver.still}")


def evaluate(
    pdm: PDM, frame: ResponseFrame, parameters: PDMParameters, config: ScaleConfig
) -> Point:
    """`fit_objective` and what its slope and curvature are made of."""
    shape = shape_3d(pdm, parameters.local)
    landmarks = project(shape, parameters)
    moments = kernel_moments(frame.responses, map_positions(frame, landmarks), config.sigma)
    likely = jnp.where(frame.visible, landmark_weights(frame, config) * moments.logs, 0)
    prior = jnp.sum(parameters.local**2 / pdm.eigenvalues)
    half = np.asarray(config.regularisation / 2, prior.dtype)
    value = prior * half - pixel_variance(frame, config) * jnp.sum(likely)
    return Point(parameters, shape, landmarks, moments, value)


def quadratic_model(
    pdm: PDM, frame: ResponseFrame, point: Point, config: ScaleConfig, floor: float
) -> Quadratic:
    """Slope, which is exact, and curvature, which is that of a shape linear in the parameters.

    Args:
        floor: smallest curvature of a landmark's likelihood, of that of a narrow peak.
    """
    to_map = frame.to_reference
    strength = landmark_weights(frame, config) / map_area(frame)
    pull = jnp.where(frame.visible[:, None], point.moments.shift, 0) * strength[:, None]
    pull = jnp.dot(pull, to_map, precision=_HIGHEST)  # px
    bend = image_curvatures(frame, point.moments, config, floor)
    jacobian = full_jacobian(pdm, point.shape, point.parameters)
    bent = jnp.einsum("nab,nbk->nak", bend, jacobian, precision=_HIGHEST)
    rows = jacobian.reshape(-1, jacobian.shape[-1])
    curvature = jnp.dot(rows.T, bent.reshape(rows.shape), precision=_HIGHEST)
    prior = np.asarray(config.regularisation, rows.dtype) / pdm.eigenvalues
    prior = jnp.concatenate([jnp.zeros(_POSE, rows.dtype), prior])
    local = jnp.concatenate([jnp.zeros(_POSE, rows.dtype), point.parameters.local])
    slope = prior * local - jnp.dot(pull.reshape(-1), rows, precision=_HIGHEST)
    return Quadratic(slope, curvature + jnp.diag(prior))


def image_curvatures(
    frame: ResponseFrame, moments: Moments, config: ScaleConfig, floor: float
) -> Float[Array, "n 2 2"]:
    """Second derivatives of the landmarks' shares of the objective by their place in px."""
    to_map = frame.to_reference
    bend = landmark_curvatures(moments.spread, config.sigma, floor)
    bend = jnp.einsum("pa,npq,qb->nab", to_map, bend, to_map, precision=_HIGHEST)
    return bend * (landmark_weights(frame, config) / map_area(frame))[:, None, None]


def landmark_curvatures(
    spread: Float[Array, "n 2 2"], sigma: float, floor: float
) -> Float[Array, "n 2 2"]:
    """1 - spread / sigma^2, with eigenvalues of at least `floor`."""
    spread = spread / np.asarray(sigma**2, spread.dtype)
    x, y, xy = 1 - spread[:, 0, 0], 1 - spread[:, 1, 1], -spread[:, 0, 1]
    middle, half = (x + y) / 2, (x - y) / 2
    square = half * half + xy * xy
    radius = jnp.sqrt(jnp.where(square > 0, square, 1))  # used where the ends differ
    low, high = middle - radius, middle + radius
    # One end below the floor: the same directions, the other end kept.
    ratio = (high - floor) / 2 / radius
    mixed = (high + floor) / 2, half * ratio, xy * ratio
    kept = (square <= 0) & (middle >= floor) | (low >= floor)
    lost = (square <= 0) & (middle < floor) | (high <= floor)
    flat = jnp.full_like(middle, floor), jnp.zeros_like(half), jnp.zeros_like(xy)
    ends = [
        jnp.where(kept, k, jnp.where(lost, f, m))
        for k, f, m in zip((middle, half, xy), flat, mixed, strict=True)
    ]
    middle, half, xy = ends
    return jnp.stack([middle + half, xy, xy, middle - half], axis=-1).reshape(-1, 2, 2)


def take_step(
    pdm: PDM,
    model: Quadratic,
    parameters: PDMParameters,
    damping: Float[Array, ""] | None,
    pose_only: Bool[Array, ""],
) -> PDMParameters:
    """To the minimum of a quadratic model, coefficients kept within their limits."""
    diagonal = jnp.diagonal(model.curvature)
    matrix = model.curvature
    if damping is not None:
        matrix = matrix + jnp.diag(damping * diagonal)

    def pose(_: None) -> Array:
        step = solve_spd(matrix[:_POSE, :_POSE], -model.slope[:_POSE])
        return jnp.concatenate([step, jnp.zeros_like(parameters.local)])

    def full(_: None) -> Array:
        # In units of the diagonal, so that single precision suffices.
        unit = lax.stop_gradient(lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1)))
        return unit * solve_spd(matrix * unit[:, None] * unit[None], -model.slope * unit)

    step = lax.cond(pose_only, pose, full, None)
    return clamp_local(pdm, update_parameters(parameters, step))


def descend(
    pdm: PDM,
    frame: ResponseFrame,
    parameters: PDMParameters,
    settings: ScaleConfig,
    solver: GaussNewton | LevenbergMarquardt,
    *,
    damping: float | None,
) -> Solution:
    """Takes a fixed number of steps; one that is not taken makes the next one's damping grow.

    Args:
        damping: of the first step; None for plain Gauss-Newton, which takes all that are finite.
    """
    first = evaluate(pdm, frame, parameters, settings)
    still = np.asarray(solver.still**2, first.value.dtype)

    def step(carry, pose_only):
        point, strength, done = carry
        model = quadratic_model(pdm, frame, point, settings, solver.floor)
        used = None if damping is None else strength
        after = take_step(pdm, model, point.parameters, used, pose_only)
        there = evaluate(pdm, frame, after, settings)
        taken = jnp.isfinite(there.value)
        if damping is not None:
            # At the minimum, what rounding leaves would turn every other step away.
            slack = _ROUNDING * jnp.finfo(there.value.dtype).eps * jnp.abs(point.value)
            taken = taken & (there.value <= point.value + slack)
        moved = jnp.sum((there.landmarks - point.landmarks) ** 2)
        grown = jnp.where(taken, strength * _SHRINK, strength * _GROW)
        strength = jnp.clip(grown, _LEAST, _MOST)
        # The pose may stand still before the shape was ever moved.
        stands = done | (taken & (moved < still) & ~pose_only)
        return (select(taken & ~done, there, point), strength, stands), there.parameters.scale

    kinds = np.arange(solver.pose_steps + solver.steps) < solver.pose_steps
    strength = np.asarray(damping or 1, first.value.dtype)
    start = (first, jnp.asarray(strength), jnp.zeros((), bool))
    (point, _, _), scales = lax.scan(step, start, kinds)
    positions = map_positions(frame, point.landmarks)
    likelihood = mean_log_likelihood(frame, positions, settings.sigma)
    posed = scales[solver.pose_steps - 1] if solver.pose_steps else parameters.scale
    return Solution(parameters=point.parameters, likelihood=likelihood, pose_scale=posed)
