"""The fit as a minimum: what NU-RLMS and the other solvers go down.

A landmark's response map under a Gaussian kernel is a likelihood of its place (KDE). Mean shift is
the slope of its logarithm, so NU-RLMS is Gauss-Newton on the sum of these logarithms with unit
curvature, and its fixed points are where the slope of `fit_objective` is zero.
"""

import functools
import operator
from collections.abc import Iterable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ...types import PDMParameters
from .._pdm import PDM, shape_2d
from ._base import ResponseFrame, ScaleConfig, map_positions


class Moments(eqx.Module):
    """Response maps under a Gaussian at one place of each: value, mean and spread."""

    logs: Float[Array, " n"]  # of the likelihoods
    shift: Float[Array, "n 2"]  # mean shift, cells: sigma^2 times the slope of `logs`
    spread: Float[Array, "n 2 2"]  # covariance of the cells, cells^2


def landmark_weights(frame: ResponseFrame, config: ScaleConfig) -> Float[Array, " n"]:
    """How much each landmark counts in a fit; 0 for those that are hidden."""
    weights = frame.visible.astype(frame.landmarks.dtype)
    if config.weight_factor > 0:
        return weights * (config.weight_factor * frame.confidence)
    return weights


def map_area(frame: ResponseFrame) -> Float[Array, ""]:
    """Cells of a map for each px^2 of the picture: |det to_reference|."""
    (a, b), (c, d) = frame.to_reference
    return jnp.abs(a * d - b * c)


def pixel_variance(frame: ResponseFrame, config: ScaleConfig) -> Float[Array, ""]:
    """The kernel's variance in the picture, px^2."""
    area = map_area(frame)
    return 1 / area * np.asarray(config.sigma**2, area.dtype)


def kernel_moments(
    responses: Float[Array, "n w w"], positions: Float[Array, "n 2"], sigma: float
) -> Moments:
    """Likelihood, mean shift and spread at each position; the kernel is not rounded.

    Far outside a map, where the kernel itself would vanish, the values are those of exact
    arithmetic: the likelihood falls as the kernel does, and the shift leads to the map's rim.
    A map without a positive response has the likelihood 1 and does not pull.

    Args:
        responses: non-negative maps.
        positions: (column, row) in the map, also outside.
        sigma: standard deviation of the kernel, cells.
    """
    maps, at = responses.transpose(1, 2, 0), positions.T
    window, dtype = maps.shape[0], maps.dtype
    cells = np.arange(window, dtype=dtype)
    factor = np.asarray(0.5 / sigma**2, dtype)
    # What a nearest cell would weigh is taken out of the sums. It cancels in every derivative.
    fixed = lax.stop_gradient(at)
    outside = jnp.square(fixed - jnp.clip(fixed, 0, window - 1))  # 2 n
    away = at[None] - cells[:, None, None]  # w 2 n
    kernels = jnp.exp(factor * (outside[None] - away * away))
    along_x, along_y = kernels[:, 0], kernels[:, 1]
    dx, dy = -away[:, 0], -away[:, 1]
    plain = _sum(maps[i] * along_y[i][None] for i in range(window))  # w n, by column
    once = _sum(maps[i] * (along_y[i] * dy[i])[None] for i in range(window))
    twice = _sum(maps[i] * (along_y[i] * dy[i] * dy[i])[None] for i in range(window))
    total = _sum(plain[i] * along_x[i] for i in range(window))
    x = _sum(plain[i] * (along_x[i] * dx[i]) for i in range(window))
    xx = _sum(plain[i] * (along_x[i] * dx[i] * dx[i]) for i in range(window))
    y = _sum(once[i] * along_x[i] for i in range(window))
    xy = _sum(once[i] * (along_x[i] * dx[i]) for i in range(window))
    yy = _sum(twice[i] * along_x[i] for i in range(window))
    some = total > 0
    safe = jnp.where(some, total, 1)
    x, y, xx, xy, yy = (jnp.where(some, sums / safe, 0) for sums in (x, y, xx, xy, yy))
    # Where the map has responses, but none that the kernel reaches, it is very unlikely.
    tiny = np.log(np.finfo(dtype).tiny).astype(dtype)
    lost = jnp.where(jnp.any(responses > 0, axis=(1, 2)), tiny, 0)
    logs = jnp.where(some, jnp.log(safe), lost) - factor * jnp.sum(outside, axis=0)
    rows = jnp.stack([xx - x * x, xy - x * y, xy - x * y, yy - y * y], axis=-1)
    return Moments(logs=logs, shift=jnp.stack([x, y], axis=-1), spread=rows.reshape(-1, 2, 2))


def _sum(terms: Iterable[Array]) -> Array:
    return functools.reduce(operator.add, terms)


def log_likelihoods(
    frame: ResponseFrame, positions: Float[Array, "n 2"], sigma: float
) -> Float[Array, " n"]:
    """Logarithms of the response maps under a Gaussian at each position.

    Their derivative by the positions is the mean shift over sigma squared, of a kernel that is not
    rounded. It is exact inside and outside the maps, and 0 for a map without responses.

    Args:
        frame: response maps.
        positions: (column, row) in the maps, as `map_positions` gives them; may lie outside.
        sigma: standard deviation of the kernel, cells.
    """
    return kernel_moments(frame.responses, positions, sigma).logs


def fit_objective(
    pdm: PDM, frame: ResponseFrame, parameters: PDMParameters, *, config: ScaleConfig
) -> Float[Array, ""]:
    """What a fit to one scale's response maps minimises, px^2.

        f(p) = -(sigma^2 / |det to_reference|) sum_i w_i log KDE_i(x_i(p)) + (r / 2) q' L^-1 q

    over the visible landmarks i. x_i is the landmark in the map, KDE_i the map under a Gaussian,
    q the shape coefficients and L their variances. w_i is 1, or `weight_factor` times the expert's
    confidence where the settings have a factor. The slope by a landmark's place is its mean shift
    in px, so NU-RLMS stands still where f has slope 0.

    Three things are read otherwise than NU-RLMS does: the kernel's centre is not rounded to 0.1
    cells; a landmark outside its map is pulled by the map as it is seen from there, not as from
    the rim (that pull is the slope of no function); and coefficients are not limited to three
    standard deviations, which every solver of this package does to its result.

    Args:
        pdm: whose parameters are sought.
        frame: response maps; `to_image` must be the inverse of `to_reference`.
        parameters: where it is evaluated.
        config: window, sigma, regularisation and weights of the scale.
    Returns:
        f. Its derivative by every argument is exact, also by the maps and their place.
    """
    positions = map_positions(frame, shape_2d(pdm, parameters))
    logs = log_likelihoods(frame, positions, config.sigma)
    weighted = jnp.where(frame.visible, landmark_weights(frame, config) * logs, 0)
    prior = jnp.sum(parameters.local**2 / pdm.eigenvalues)
    half = np.asarray(config.regularisation / 2, prior.dtype)
    return prior * half - pixel_variance(frame, config) * jnp.sum(weighted)


def fit_residuals(
    pdm: PDM, frame: ResponseFrame, parameters: PDMParameters, *, config: ScaleConfig
) -> Float[Array, " k"]:
    """Residuals, px, half of whose squared sum is `fit_objective` up to a constant.

    One for each landmark: the root of twice its share of f, above what f could be at best, were
    all of the map's responses in one cell. Then one for each shape coefficient. Robust terms,
    weights of one's own and priors in time are put on or beside them. The constant depends on the
    maps, not on the parameters. The derivative by the parameters is exact; that of a landmark
    which is at its best is 0.
    """
    positions = map_positions(frame, shape_2d(pdm, parameters))
    logs = log_likelihoods(frame, positions, config.sigma)
    total = jnp.sum(frame.responses, axis=(1, 2))
    best = jnp.log(jnp.where(total > 0, total, 1))
    share = landmark_weights(frame, config) * (best - logs)
    counted = frame.visible & (share > 0)
    root = jnp.sqrt(2 * pixel_variance(frame, config) * jnp.where(counted, share, 1))
    strength = np.asarray(np.sqrt(config.regularisation), root.dtype)
    prior = strength * parameters.local / jnp.sqrt(pdm.eigenvalues)
    return jnp.concatenate([jnp.where(counted, root, 0), prior])


def parameter_units(pdm: PDM, parameters: PDMParameters) -> Float[Array, " k"]:
    """How far each parameter changes when it moves the landmarks by 1 px, root mean square.

    In these units scale, rotation, translation and coefficients are alike. In the order of
    `flatten_parameters`.
    """
    centred = pdm.mean_shape - jnp.mean(pdm.mean_shape, axis=0)[None]
    radius = jnp.sqrt(jnp.mean(jnp.sum(centred**2, axis=1)))
    modes = jnp.sqrt(jnp.mean(jnp.sum(pdm.components**2, axis=2), axis=1))
    scale = jnp.abs(parameters.scale)
    scale = jnp.where(scale > 0, scale, 1)
    pose = [1 / radius, *[1 / (scale * radius)] * 3, *[jnp.ones_like(scale)] * 2]
    return jnp.concatenate([jnp.stack(pose), 1 / (scale * modes)])


def flatten_parameters(
    parameters: PDMParameters, units: Float[Array, " k"] | None = None
) -> Float[Array, " k"]:
    """Scale, three Euler angles, translation and coefficients in one row.

    Args:
        units: what a 1 stands for; by default 1 px per mm, 1 rad, 1 px, 1 mm. `parameter_units`
            makes the directions alike, as optimisers like them (a preconditioner).
    """
    pose = [parameters.scale[None], parameters.rotation, parameters.translation]
    values = jnp.concatenate([*pose, parameters.local])
    return values if units is None else values / units


def unflatten_parameters(
    values: Float[Array, " k"], units: Float[Array, " k"] | None = None
) -> PDMParameters:
    """The inverse of `flatten_parameters`."""
    values = values if units is None else values * units
    return PDMParameters(
        scale=values[0], rotation=values[1:4], translation=values[4:6], local=values[6:]
    )
