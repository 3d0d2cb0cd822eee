"""How sure a fit is: covariances from the curvature of its objective (Laplace's method).

`fit_objective` is the kernel's variance in px^2 times a negative log posterior of the parameters.
Around a fit this is taken for a parabola; the inverse of its curvature is a covariance. Two things
make it one that covers the truth. Maps are no normalised likelihoods: their height is how much the
experts believe that the landmarks are in them at all, and the variance is divided by it. And the
errors of neighbouring landmarks are not independent, as the sum of their logarithms has it; nor are
all faces found: one factor for each kind of experts, `AbstractPatchExperts.calibration`, was
measured on rendered heads (bench/uncertainty.py).
"""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from ..ops import invert_spd
from ..types import Fit, FlatGray, Gray, PDMParameters
from ._areas import finite_luma
from ._clnf import part_scales
from ._config import FitConfig, Phase
from ._model import AnyCLNF, LandmarkModel, settings_of
from ._pdm import PDM, shape_2d
from ._reported import reported_pdm
from ._scales import plan_scales, response_frame
from .solvers import (
    ResponseFrame,
    ScaleConfig,
    flatten_parameters,
    image_curvatures,
    kernel_moments,
    map_positions,
    parameter_units,
    pixel_variance,
    unflatten_parameters,
)

_HIGHEST = lax.Precision.HIGHEST
_WEAK = 0.1  # curvature for each parameter that no map gives, of one narrow peak's
_LEAST = 1e-3  # height of a map: a variance grows by no more than its inverse
_POSE = 6  # parameters

Values = TypeVar("Values")  # a pytree of arrays


class Uncertainty(eqx.Module):
    """Covariances of a fit's errors. Standard deviations are the roots of the diagonals."""

    # Of scale, Euler angles, translation and coefficients, as `flatten_parameters` orders them:
    # px per mm, rad, px and mm.
    parameters: Float[Array, "k k"]
    landmarks: Float[Array, "n 2 2"]  # px^2, of each landmark by itself, as results hold them
    parts: tuple[Float[Array, "_ _"], ...]  # of the parameters of each part, which differ in number


def landmark_uncertainty(
    clnf: AnyCLNF,
    gray: Gray | FlatGray,
    fit: Fit,
    *,
    calibration: Float[Array, ""] | float | None = None,
    config: FitConfig | None = None,
) -> Uncertainty:
    """How far a fit's landmarks and parameters may lie from the truth.

    From response maps around the fit at its last scale: broad and low maps, few visible landmarks
    and edges along which a landmark slides make ellipses large. Those of the eyes come from the
    main model, although their places come from the parts; each part has a covariance of its own.

    It holds for fits that found the face. A fit in a wrong place is surer than it should be: see
    `fit.success`. That shapes lie outside the PDM's span counts in the calibration alone. Faces
    unlike rendered heads may need another one; it is measured in bench/README.md.

    Args:
        clnf: the model that made the fit.
        gray: luma, 0 to 255, that it was made on.
        fit: from `fit_landmarks` or the tracker; failed ones are allowed.
        calibration: factor of the covariances, by default that of the experts. 1 gives what the
            maps say by themselves.
        config: settings of the fit; by default the model's own.
    Returns:
        Covariances: finite, and symmetric and positive up to rounding, whatever the picture.
        Their derivative by the weights and the picture follows the maps; the choice of the view
        has none.
    Reference:
        Objective: see `fit_objective`. OpenFace has no counterpart.
    """
    gray = finite_luma(gray)
    config = settings_of(clnf, config)
    plan = plan_scales(clnf.main, config, Phase.INIT)
    main = _covariance(clnf.main, gray, fit.parameters, plan, calibration)
    parts = []
    for part, found in zip(clnf.parts, fit.parts, strict=True):
        scales = part_scales(part, config.smooth)
        parts.append(_covariance(part.model, gray, found.parameters, scales, calibration))
    return Uncertainty(
        parameters=main,
        landmarks=_of_landmarks(reported_pdm(clnf), fit.parameters, main),
        parts=tuple(parts),
    )


def _covariance(
    model: LandmarkModel,
    gray: Gray | FlatGray,
    parameters: PDMParameters,
    plan: tuple[ScaleConfig | None, ...],
    calibration: Float[Array, ""] | float | None,
) -> Float[Array, "k k"]:
    """Of the parameters, from maps at the last scale of a plan."""
    scale = max(i for i, settings in enumerate(plan) if settings is not None)
    settings = plan[scale]
    assert settings is not None
    frame, _ = response_frame(
        model, gray, parameters, scale=scale, window=settings.window, smooth=settings.smooth
    )
    factor = model.experts[scale].calibration if calibration is None else calibration
    return factor * fit_covariance(model.pdm, frame, parameters, config=settings)


def fit_covariance(
    pdm: PDM, frame: ResponseFrame, parameters: PDMParameters, *, config: ScaleConfig
) -> Float[Array, "k k"]:
    """Covariance of a fit's parameters by Laplace's method, without calibration.

        C = sigma^2 / (|det to_reference| h) H^-1

    H is the curvature of `fit_objective` for a shape that is linear in the parameters, a landmark's
    share in it not below 0; h the geometric mean of the visible maps' likelihoods at the
    landmarks, each not below 0.001. A map that is a Gaussian of variance s^2, in cells, would give
    its landmark the variance s^2 + sigma^2 by itself, over h: the kernel blurs what it tells.

    A map without responses tells nothing. What no map tells has a variance of 10 times a narrow
    peak's, in directions that move the landmarks by as much.

    Args:
        pdm: whose parameters were sought.
        frame: response maps.
        parameters: where the fit ended.
        config: window, sigma, regularisation and weights of the scale.
    Returns:
        Symmetric and positive up to rounding, in the order and the units of `flatten_parameters`.
        Where a picture is scaled by two, and the regularisation by four, landmarks have 4 times
        the covariance.
    """
    units = parameter_units(pdm, parameters)
    values = flatten_parameters(parameters, units)
    place = _places(pdm, units)
    moments = kernel_moments(frame.responses, map_positions(frame, place(values)), config.sigma)
    some = frame.visible & jnp.any(frame.responses > 0, axis=(1, 2))
    bend = image_curvatures(frame, moments, config, 0.0)
    bend = jnp.where(some[:, None, None], bend, 0)
    rows = jax.jacfwd(place)(values)
    bent = jnp.einsum("nab,nbk->nak", bend, rows, precision=_HIGHEST)
    curvature = jnp.einsum("nak,nal->kl", rows, bent, precision=_HIGHEST)
    prior = np.asarray(config.regularisation, values.dtype) / pdm.eigenvalues
    prior = jnp.concatenate([jnp.zeros(_POSE, values.dtype), prior * units[_POSE:] ** 2])
    inverse = invert_spd((curvature + jnp.diag(prior + _WEAK))[None])[0]
    variance = pixel_variance(frame, config) / _height(frame, some, moments.logs)
    scaled = variance * units[:, None] * inverse * units[None]
    return (scaled + scaled.T) / 2


def _height(
    frame: ResponseFrame, some: Bool[Array, " n"], logs: Float[Array, " n"]
) -> Float[Array, ""]:
    """Geometric mean of the visible maps' likelihoods."""
    least = np.asarray(np.log(_LEAST), logs.dtype)
    each = jnp.where(some, jnp.maximum(logs, least), least)
    count = jnp.sum(frame.visible).astype(logs.dtype)
    mean = jnp.sum(jnp.where(frame.visible, each, 0)) / jnp.maximum(count, 1)
    return jnp.exp(jnp.where(count > 0, mean, least))


def _places(
    pdm: PDM, units: Float[Array, " k"] | None = None
) -> Callable[[Float[Array, " k"]], Float[Array, "n 2"]]:
    """Landmarks, px, as a function of flattened parameters."""
    return lambda values: shape_2d(pdm, unflatten_parameters(values, units))


def _of_landmarks(
    pdm: PDM, parameters: PDMParameters, covariance: Float[Array, "k k"]
) -> Float[Array, "n 2 2"]:
    rows = jax.jacfwd(_places(pdm))(flatten_parameters(parameters))
    spread = jnp.einsum("nak,kl->nal", rows, covariance, precision=_HIGHEST)
    return jnp.einsum("nal,nbl->nab", spread, rows, precision=_HIGHEST)


def propagate_covariance(
    function: Callable[[Values], object],
    values: Values,
    covariance: Float[Array, "k k"],
    *,
    samples: int = 0,
) -> Float[Array, "o o"]:
    """Covariance of what a function makes of uncertain values.

    To first order, J C J', which is right where the function is nearly linear over the ellipse; its
    derivative is taken forwards, so use smooth settings (`FitConfig`, `AlignConfig`) where there
    are some. Or from normal samples, for functions that are not, such as FHOG, whose derivative
    holds for some thousandths of a pixel: then no derivative is taken.

    Args:
        function: of `values`; gives an array, or a pytree of arrays.
        values: an array, or a pytree such as `PDMParameters`.
        covariance: of all numbers in `values`, in the order of its leaves; for parameters that is
            the order of `Uncertainty.parameters`.
        samples: how many; always the same ones. 0 for the first order. Deviations from n samples
            are off by 1 / sqrt(2 n).
    Returns:
        Covariance of all numbers of the result, in the order of its leaves, in their units.
    Raises:
        ValueError: `covariance` is not square, or has not as many rows as `values` numbers; there
            is one sample.
    """
    flat, restore = ravel_pytree(values)
    if covariance.shape != (flat.size, flat.size):
        raise ValueError(
            f"covariance: expected shape {(flat.size, flat.size)} for {flat.size} values, got "
            f"{covariance.shape}: give the covariance of all numbers in `values`"
        )
    if samples < 0 or samples == 1:
        raise ValueError(f"samples: expected at least 2, or 0 for the first order, got {samples}")

    def result(flat: Float[Array, " k"]) -> Float[Array, " o"]:
        return ravel_pytree(function(restore(flat)))[0]

    if samples == 0:
        rows = jax.jacfwd(result)(flat)
        found = jnp.dot(jnp.dot(rows, covariance, precision=_HIGHEST), rows.T, precision=_HIGHEST)
    else:
        draws = jax.random.normal(jax.random.PRNGKey(0), (samples, flat.size), flat.dtype)
        moves = jnp.dot(draws, _root(covariance).T, precision=_HIGHEST)
        results = lax.map(lambda move: result(flat + move), moves)
        away = results - jnp.mean(results, axis=0)[None]
        found = jnp.dot(away.T, away, precision=_HIGHEST) / (samples - 1)
    return (found + found.T) / 2


def _root(covariance: Float[Array, "k k"]) -> Float[Array, "k k"]:
    """A lower triangular L with L L' = C, by elimination; columns without a pivot are zero."""
    size = jnp.sqrt(jnp.diagonal(covariance))
    unit = 1 / jnp.where(size > 0, size, 1)
    enough = np.asarray(10 * jnp.finfo(covariance.dtype).eps, covariance.dtype)

    def column(rest: Float[Array, "k k"], j: Int[Array, ""]) -> tuple[Array, Array]:
        pivot = rest[j, j]
        found = jnp.where(
            pivot > enough, rest[:, j] * lax.rsqrt(jnp.where(pivot > enough, pivot, 1)), 0
        )
        return rest - found[:, None] * found[None], found

    start = unit[:, None] * covariance * unit[None]
    _, columns = lax.scan(column, start, jnp.arange(len(covariance)))
    return columns.T * size[:, None]
