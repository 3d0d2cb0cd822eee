"""Parameters of a PDM from 2-D landmarks: regularised Gauss-Newton (specification 02, B.7)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..ops import choose_by_platform, solve_spd
from ..types import Landmarks, PDMParameters
from ._pdm import PDM, extents, shape_2d, update_parameters
from .solvers import (
    flatten_parameters,
    full_step,
    lay_out_modes,
    project_rows,
    unflatten_parameters,
)

_DAMPING = 0.75
_MISSES = 3  # the fit ends at the third step that does not improve by 0.1 %
# OpenFace allows 1000; real and wrong starts alike end within 17 (specification 02, B.7).
_MAX_STEPS = 40
# Parameters, the length of the last residual, misses, steps.
Carry = tuple[PDMParameters, Float[Array, ""], Int[Array, ""], Int[Array, ""]]
_STEADY = 32  # units in the last place of a landmark: steps this short end a fit that converges


def _start(pdm: PDM, landmarks: Landmarks, present: Bool[Array, " n"]) -> PDMParameters:
    low, high = extents(landmarks, present)
    model_low, model_high = extents(pdm.mean_shape[:, :2], present)
    return PDMParameters(
        scale=jnp.mean((high - low) / (model_high - model_low)),
        rotation=jnp.zeros(3, landmarks.dtype),
        translation=(low + high) / 2,
        local=jnp.zeros_like(pdm.eigenvalues),
    )


def fit_pdm_to_landmarks(
    pdm: PDM,
    landmarks: Landmarks,
    present: Bool[Array, " n"] | None = None,
    *,
    converge: bool = False,
) -> PDMParameters:
    """Finds the pose and shape whose projection is nearest to given landmarks.

    Starts from the unrotated mean shape; the coefficients are regularised by their eigenvalues
    and not clamped.

    Args:
        landmarks: px.
        present: landmarks that count; by default those whose x is not exactly 0.
        converge: to the minimum, up to rounding, instead of where OpenFace stops.
    Returns:
        Parameters; finite, and the start where no landmark is present. Derivatives are those of
        the minimum (implicit differentiation), which the fit comes near to, and with `converge`
        reaches.
    Reference:
        Specification 02, B.7 (there `CalcParams`), with its stopping rule: the error pairs the
        new pose with the old 3-D shape, and misses add up over the whole fit.
    """
    if present is None:
        present = landmarks[:, 0] != 0
    some = jnp.any(present)
    # An empty set would start from infinite extents.
    misses = jnp.where(some, 0, _MISSES).astype(jnp.int32)
    return _fit(converge, pdm, landmarks, present | ~some, misses)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _fit(
    converge: bool,
    pdm: PDM,
    landmarks: Landmarks,
    present: Bool[Array, " n"],
    misses: Int[Array, ""],
) -> PDMParameters:
    modes = lay_out_modes(pdm, present.astype(landmarks.dtype))
    target = jnp.where(present[None], landmarks.T, 0)
    digits = np.asarray(_STEADY * jnp.finfo(landmarks.dtype).eps, landmarks.dtype)

    def residual(shape, parameters):
        return jnp.where(present[None], target - project_rows(shape, parameters), 0)

    def running(carry):
        return (carry[2] < _MISSES) & (carry[3] < _MAX_STEPS)

    def body(carry):
        parameters, previous, misses, steps = carry
        shape = modes.shape(parameters.local)
        away = residual(shape, parameters)
        delta = _DAMPING * full_step(modes, shape, parameters, away, 1 / pdm.eigenvalues)
        parameters = update_parameters(parameters, delta)
        if converge:
            after = residual(modes.shape(parameters.local), parameters)
            still = jnp.max(jnp.abs(after - away)) <= digits * jnp.max(jnp.abs(target))
            return parameters, previous, misses + still.astype(misses.dtype), steps + 1
        current = _length(residual(shape, parameters))
        misses = misses + (0.999 * previous < current).astype(misses.dtype)
        return parameters, current, misses, steps + 1

    start = _start(pdm, landmarks, present)
    first = _length(residual(modes.shape(start.local), start))
    carry = start, first, misses, jnp.zeros_like(misses)

    def loop(carry):
        return lax.while_loop(running, body, carry)[0]

    def loop_packed(carry):
        def step(packed):
            return _pack(body(_unpack(packed)))

        found = lax.while_loop(lambda packed: running(_unpack(packed)), step, _pack(carry))
        return _unpack(found)[0]

    return choose_by_platform(loop_packed, loop, carry)


def _pack(carry: Carry) -> tuple[Float[Array, " k1"], Int[Array, "2"]]:
    """Two arrays in place of seven: each array that a loop carries costs it operations."""
    parameters, previous, misses, steps = carry
    return jnp.append(flatten_parameters(parameters), previous), jnp.stack([misses, steps])


def _unpack(packed: tuple[Float[Array, " k1"], Int[Array, "2"]]) -> Carry:
    row, (misses, steps) = packed
    return unflatten_parameters(row[:-1]), row[-1], misses, steps


def _length(residual: Float[Array, "2 n"]) -> Float[Array, ""]:
    return jnp.sqrt(jnp.sum(residual * residual))


def _objective(
    values: Float[Array, " k"], pdm: PDM, landmarks: Landmarks, present: Bool[Array, " n"]
) -> Float[Array, ""]:
    parameters = unflatten_parameters(values)
    residual = shape_2d(pdm, parameters) - landmarks
    square = jnp.sum(jnp.where(present[:, None], residual, 0) ** 2)
    return (square + jnp.sum(parameters.local**2 / pdm.eigenvalues)) / 2


@_fit.defjvp
def _fit_jvp(converge, primals, tangents):
    """Implicit differentiation: at the solution the gradient of the objective stays zero.

    It lets the fit end as soon as it has converged, in reverse mode too.
    """
    pdm, landmarks, present, _ = primals
    pdm_dot, landmarks_dot = tangents[:2]
    solution = _fit(converge, *primals)
    values = flatten_parameters(solution)
    slope = jax.grad(_objective)
    hessian = jax.jacfwd(slope)(values, pdm, landmarks, present)
    _, moved = jax.jvp(
        lambda model, points: slope(values, model, points, present),
        (pdm, landmarks),
        (pdm_dot, landmarks_dot),
    )
    return solution, unflatten_parameters(-solve_spd(hessian, moved))
