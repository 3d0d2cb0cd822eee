"""Derivatives of a converged fit from the slope of its objective, not from the solver's steps."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from ...ops import solve_spd
from ...types import PDMParameters
from .._pdm import PDM, shape_2d
from ._base import ResponseFrame, ScaleConfig, Solution, Solver, map_positions, solve_scale
from ._gauss_newton import LevenbergMarquardt, image_curvatures
from ._objective import (
    fit_objective,
    flatten_parameters,
    kernel_moments,
    parameter_units,
    unflatten_parameters,
)

_HIGHEST = lax.Precision.HIGHEST
_POSE = 6  # parameters
_FLOOR = 0.1  # smallest curvature of a landmark's likelihood, of that of a narrow peak
_LIMIT = 3 * (1 - 1e-5)  # standard deviations, from which a coefficient is at its limit
_THOROUGH = LevenbergMarquardt(pose_steps=3, steps=24, still=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Implicit:
    """A solver whose result is differentiated as a stationary point of `fit_objective`.

    At such a point p the slope g(p, theta) stays 0 when the maps, their place or the PDM (theta)
    change: dp = -H^-1 dg, with H the exact second derivative by the parameters. That costs one
    solve, however many steps were taken, and does not keep them in memory.

    It is right where the solver has converged, and as wrong as the slope that is left is large: so
    the solver within takes more steps than usual. What it says by design:

    - the start has no influence (its derivative is 0), nor have the steps;
    - a coefficient at its limit of three standard deviations stays there;
    - where H is not positive definite the point is no minimum, and the derivative is that of the
      closest convex model, with each landmark's curvature floored at 0.1 of a narrow peak's;
    - the maps belong to the start of the scale. Through the picture, a derivative covers one
      round: the maps' own places follow from the round before. With `rounds` such terms are
      chained, a series that ends after as many terms as there are rounds.

    The likelihood is differentiated at the result, which depends on theta in turn.
    """

    solver: Solver = _THOROUGH

    def __post_init__(self) -> None:
        if not callable(self.solver) or isinstance(self.solver, Implicit):
            raise TypeError(
                "solver: expected a function (pdm, frame, parameters, settings) -> parameters "
                f"such as LevenbergMarquardt(), got {self.solver!r}"
            )

    def __call__(
        self, pdm: PDM, frame: ResponseFrame, parameters: PDMParameters, settings: ScaleConfig, /
    ) -> PDMParameters:
        return _stationary(self.solver, settings, pdm, frame, parameters)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _stationary(
    solver: Solver,
    settings: ScaleConfig,
    pdm: PDM,
    frame: ResponseFrame,
    parameters: PDMParameters,
) -> PDMParameters:
    found: Solution = solve_scale(solver, pdm, frame, parameters, settings)
    return found.parameters


@_stationary.defjvp
def _stationary_jvp(solver, settings, primals, tangents):
    found = _stationary(solver, settings, *primals)
    pdm, frame, _ = primals
    units = parameter_units(pdm, found)
    values = flatten_parameters(found, units)
    theta, fixed = eqx.partition((pdm, frame), eqx.is_inexact_array)
    change, _ = eqx.partition(tangents[:2], lambda leaf: leaf.dtype != jax.dtypes.float0)

    def slope(values: Array, theta: tuple[PDM, ResponseFrame]) -> Array:
        def objective(values: Array) -> Array:
            pdm, frame = eqx.combine(theta, fixed)
            return fit_objective(pdm, frame, unflatten_parameters(values, units), config=settings)

        return jax.grad(objective)(values)

    _, moved = jax.jvp(lambda theta: slope(values, theta), (theta,), (change,))
    exact = jax.jacfwd(slope)(values, theta)
    bound = _LIMIT * jnp.sqrt(pdm.eigenvalues)
    free = jnp.concatenate([jnp.ones(_POSE, bool), jnp.abs(found.local) < bound])
    convex = _convex_model(pdm, frame, values, units, settings)
    return found, unflatten_parameters(_solve_free(exact, convex, -moved, free), units)


def _convex_model(
    pdm: PDM,
    frame: ResponseFrame,
    values: Float[Array, " k"],
    units: Float[Array, " k"],
    settings: ScaleConfig,
) -> Float[Array, "k k"]:
    """The second derivative for a shape that is linear in the parameters, kept positive."""

    def place(values: Array) -> Array:
        return shape_2d(pdm, unflatten_parameters(values, units))

    positions = map_positions(frame, place(values))
    moments = kernel_moments(frame.responses, positions, settings.sigma)
    bend = image_curvatures(frame, moments, settings, _FLOOR)
    rows = jax.jacfwd(place)(values)
    bent = jnp.einsum("nab,nbk->nak", bend, rows, precision=_HIGHEST)
    prior = np.asarray(settings.regularisation, values.dtype) / pdm.eigenvalues
    prior = jnp.concatenate([jnp.zeros(_POSE, values.dtype), prior * units[_POSE:] ** 2])
    return jnp.einsum("nak,nal->kl", rows, bent, precision=_HIGHEST) + jnp.diag(prior)


def _solve_free(
    exact: Float[Array, "k k"],
    convex: Float[Array, "k k"],
    wanted: Float[Array, " k"],
    free: Bool[Array, " k"],
) -> Float[Array, " k"]:
    """Solves for the free parameters; the others stay 0.

    `exact` is taken where it is positive definite, else `convex`.
    """
    both = free[:, None] & free[None]
    alone = jnp.diag(jnp.ones_like(wanted))
    exact, convex = (jnp.where(both, matrix, alone) for matrix in (exact, convex))
    # A matrix that is not positive definite gives zeros, for any right side.
    definite = jnp.any(solve_spd(exact, jnp.ones_like(wanted)) != 0)
    return solve_spd(jnp.where(definite, exact, convex), jnp.where(free, wanted, 0))
