"""Non-uniform regularised landmark mean shift (NU-RLMS; Baltrusaitis 2013)."""

import functools
import operator
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ...ops import few_on_cuda, select, small_product
from ...types import PDMParameters
from .._pdm import PDM, clamp_local, update_parameters
from . import _few_steps
from ._base import (
    ResponseFrame,
    ScaleConfig,
    Solution,
    mean_log_likelihood,
    positions_of_rows,
)
from ._normal_equations import full_step, lay_out_modes, pose_step, project_rows
from ._objective import flatten_parameters, unflatten_parameters

_GRID = 0.1  # the kernel's centre is rounded to this, in response pixels
_STILL = 0.01  # px over all landmarks: no further step


def mean_shift(
    responses: Float[Array, "n w w"],
    positions: Float[Array, "n 2"],
    sigma: float,
    *,
    smooth: bool = False,
) -> Float[Array, "n 2"]:
    """Step from each position to the kernel-weighted mean of its response map.

    The kernel is centred on a grid of 0.1, the position that is subtracted is not. Derivatives are
    those of a kernel that is centred on the position itself. A position outside the map counts as
    one on its edge, and has no derivative by way of the kernel.

    Args:
        responses: non-negative maps.
        positions: (column, row) in the map.
        sigma: standard deviation of the kernel, map pixels.
        smooth: centres the kernel on the position.
    Reference:
        Specification 02, D.4.
    """
    return _shift_rows(_map_rows(responses), positions.T, sigma, smooth=smooth).T


def _map_rows(responses: Float[Array, "n w w"]) -> tuple[Float[Array, "w n"], ...]:
    """Rows of all maps, the landmarks last, as `_shift_rows` takes them.

    Cut once: in a loop XLA would cut each row out again in every round, as two sums use it.
    """
    return tuple(responses.transpose(1, 2, 0))


def _shift_rows(
    maps: tuple[Float[Array, "w n"], ...],
    positions: Float[Array, "2 n"],
    sigma: float,
    *,
    smooth: bool,
) -> Float[Array, "2 n"]:
    """`mean_shift` with the landmarks last."""
    limited = jnp.clip(positions, 0, len(maps) - 0.1)
    centre = limited if smooth else _on_grid(limited)
    both = (functools.partial(shift, sigma=sigma) for shift in (_few_steps.shift_rows, _add_rows))
    return few_on_cuda(*both, maps, centre, limited)


def _add_rows(
    maps: tuple[Float[Array, "w n"], ...],
    centre: Float[Array, "2 n"],
    limited: Float[Array, "2 n"],
    sigma: float,
) -> Float[Array, "2 n"]:
    """Mean shift in sums written out: XLA makes each one loop over vectors of landmarks, five times
    as fast on CPUs as its reductions.

    Args:
        centre: of the kernels.
        limited: what the shift is counted from.
    """
    window = len(maps)
    cells = np.arange(window, dtype=centre.dtype)
    kernels = jnp.exp(-0.5 / sigma**2 * (centre[None] - cells[:, None, None]) ** 2)
    along_x, along_y = kernels[:, 0], kernels[:, 1]
    plain = _sum(maps[i] * along_y[i][None] for i in range(window))
    by_row = _sum(maps[i] * (along_y[i] * cells[i])[None] for i in range(1, window))
    total = _sum(plain[i] * along_x[i] for i in range(window))
    mean_x = _sum(plain[i] * (along_x[i] * cells[i]) for i in range(1, window))
    mean_y = _sum(by_row[i] * along_x[i] for i in range(window))
    safe = jnp.where(total > 0, total, 1)
    shift = jnp.stack([mean_x / safe, mean_y / safe]) - limited
    return jnp.where(total[None] > 0, shift, 0)


@jax.custom_jvp
def _on_grid(positions: Float[Array, "2 n"]) -> Float[Array, "2 n"]:
    """The nearest places of the kernel's grid; its derivative is that of places not rounded."""
    return _GRID * jnp.floor(positions / _GRID + 0.5)


@_on_grid.defjvp
def _on_grid_jvp(primals, tangents):
    return _on_grid(*primals), tangents[0]


def _sum(terms: Iterable[Array]) -> Array:
    return functools.reduce(operator.add, terms)


def nu_rlms(
    pdm: PDM,
    frame: ResponseFrame,
    parameters: PDMParameters,
    *,
    config: ScaleConfig,
    rigid: bool,
) -> tuple[PDMParameters, Float[Array, ""]]:
    """Moves the pose (and the shape, unless `rigid`) up the response maps.

    Takes `config.iterations` steps; a fit whose landmarks stand still is frozen, unless
    `config.smooth`. Derivatives are those of the steps that were taken, unrolled.

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
    return passes[0], likelihood


def solve_nu_rlms(
    pdm: PDM, frame: ResponseFrame, parameters: PDMParameters, settings: ScaleConfig
) -> Solution:
    """NU-RLMS as a `Solver`: the pose alone, then pose and shape.

    Reference:
        Baltrusaitis et al. 2013; specification 02, D.2 and D.3.
    """
    passes, likelihood = run_passes(pdm, frame, parameters, config=settings, rigid=(True, False))
    return Solution(parameters=passes[1], likelihood=likelihood, pose_scale=passes[0].scale)


def run_passes(
    pdm: PDM,
    frame: ResponseFrame,
    parameters: PDMParameters,
    *,
    config: ScaleConfig,
    rigid: tuple[bool, ...],
) -> tuple[list[PDMParameters], Float[Array, ""]]:
    """Several runs of `nu_rlms`, one from the other's result.

    Args:
        rigid: for each run whether only the pose moves.
    Returns:
        Parameters after each run, and the likelihood of the last.
    """
    weights = frame.visible.astype(frame.landmarks.dtype)
    if config.weight_factor > 0:
        weights = weights * (config.weight_factor * frame.confidence)
    modes = lay_out_modes(pdm, weights)
    prior = config.regularisation / pdm.eigenvalues
    maps, base = _map_rows(frame.responses), frame.landmarks.T
    still_square = np.square(np.asarray(_STILL, base.dtype))

    def step(carry, first, *, pose_only):
        row, previous, done = carry
        parameters = unflatten_parameters(row)
        shape = modes.shape(parameters.local)
        landmarks = project_rows(shape, parameters)
        moved = jnp.sum((landmarks - previous) ** 2)
        if not config.smooth:  # a face that stops is a step in its derivative
            done = ~first & (done | (moved < still_square))
        positions = positions_of_rows(frame, landmarks - base)
        shift = small_product(
            frame.to_image, _shift_rows(maps, positions, config.sigma, smooth=config.smooth)
        )
        shift = jnp.where(frame.visible[None], shift, 0)
        if pose_only:
            delta = pose_step(modes, shape, parameters, shift)
        else:
            delta = full_step(modes, shape, parameters, shift, prior)
        after = clamp_local(pdm, update_parameters(parameters, delta))
        # One row in place of four arrays: each array that a loop carries costs it operations.
        return select(done, (row, previous), (flatten_parameters(after), landmarks)) + (done,), None

    reached = []
    carry = flatten_parameters(parameters), base, jnp.zeros((), bool)
    for pose_only in rigid:
        # A loop of its own each, in which nothing has to be chosen at run time.
        run = functools.partial(step, pose_only=pose_only)
        carry, _ = lax.scan(run, carry, np.arange(config.iterations) == 0)
        reached.append(unflatten_parameters(carry[0]))
    last = positions_of_rows(frame, carry[1] - base)
    return reached, mean_log_likelihood(frame, last.T, config.sigma)
