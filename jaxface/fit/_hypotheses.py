"""Fitting a face from its box: start rotations and the choice among them (spec. 01, B.6)."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._types import Box, Fit, Gray, PDMParameters
from ..ops import select
from ._clnf import (
    empty_fit,
    fit_scales,
    plan_scales,
    refine_fit,
    start_scales,
)
from ._config import FitConfig
from ._model import CLNF, EarlyTermination
from ._pdm import parameters_from_box

_FRONTAL = ((0.0, 0.0, 0.0),)
_ROTATIONS = _FRONTAL + (
    (0.0, -0.5236, 0.0),
    (0.0, 0.5236, 0.0),
    (0.0, -0.96, 0.0),
    (0.0, 0.96, 0.0),
    (0.0, 0.0, 0.5236),
    (0.0, 0.0, -0.5236),
    (0.0, -1.57, 0.0),
    (0.0, 1.57, 0.0),
    (0.0, -1.22, 0.698),
    (0.0, 1.22, -0.698),
)
_COMPLETED = 3  # best candidates that are fitted to the end where none ended the search


def fit_landmarks(
    clnf: CLNF,
    gray: Gray,
    box: Box,
    *,
    size: Int[Array, "2"] | None = None,
    config: FitConfig = FitConfig(),
) -> Fit:
    """Fits the landmark model to one face.

    Starts from the mean shape in `box`, frontal or in each of 11 rotations
    (`config.multi_view`), and keeps the fit with the largest likelihood.

    Args:
        clnf: landmark model, prepared for `config`.
        gray: luma, 0 to 255; may be padded with zeros beyond `size`.
        box: face box, px.
        size: height and width of the picture, px; by default all of `gray`.
        config: settings; `fit_config(clnf)` gives OpenFace's.
    Returns:
        The fit. Where `success` is false it is the best that was found.
    Raises:
        ValueError: `gray` has a batch or channel axis.
    Reference:
        Baltrusaitis et al. 2013; specification 01, B.6 (there `DetectLandmarksInImage`).
    """
    if gray.ndim != 2:
        raise ValueError(
            f"gray must be one image of shape (h, w), got shape {gray.shape}: "
            "convert colour with jaxface.to_gray, map batches with jax.vmap"
        )
    size = jnp.asarray(gray.shape if size is None else size)
    return fit_hypotheses(clnf, gray, box, empty_fit(clnf), size=size, config=config)[0]


def fit_hypotheses(
    clnf: CLNF,
    gray: Gray,
    box: Box,
    previous: Fit,
    *,
    size: Int[Array, "2"],
    config: FitConfig,
) -> tuple[Fit, Bool[Array, ""]]:
    """The best fit of a box, and OpenFace's return value for it.

    The two differ in one case: after a CE-CLM search that did not end early, the value and the
    confidence are those of the candidate completed last (specification 01, B.6.4).

    Args:
        previous: gives the likelihood and parts that hold before the first fit.
    """
    rotations = jnp.asarray(_ROTATIONS if config.multi_view else _FRONTAL, gray.dtype)
    starts = jax.vmap(lambda r: parameters_from_box(clnf.main.pdm, box, r))(rotations)
    if clnf.early_termination is not None:
        return _search_early(
            clnf, clnf.early_termination, gray, starts, previous, size=size, config=config
        )

    def one(carry, start):
        best, first = carry
        candidate = eqx.tree_at(lambda f: f.parameters, previous, start)
        candidate = refine_fit(clnf, gray, candidate, size=size, config=config, tracking=False)
        better = first | (candidate.likelihood > best.likelihood)
        return (select(better, candidate, best), jnp.zeros((), bool)), None

    best, _ = lax.scan(one, (previous, jnp.ones((), bool)), starts)[0]
    return best, best.success


class _Candidates(eqx.Module):
    """Outcome of the coarse scale for each start, and where the search ended."""

    parameters: PDMParameters  # leading axis: hypotheses
    scores: Float[Array, " h"]
    found: Bool[Array, ""]
    index: Int[Array, ""]  # of the hypothesis that ended the search


def _coarse_candidates(
    clnf: CLNF,
    rule: EarlyTermination,
    gray: Gray,
    starts: PDMParameters,
    previous: Fit,
    config: FitConfig,
) -> _Candidates:
    windows = (config.windows_init[0],) + (0,) * (len(config.windows_init) - 1)
    plan = plan_scales(clnf.main, config, windows)
    count = starts.scale.shape[0]

    def one(carry, inputs):
        found, index = carry
        number, start = inputs

        def run(start):
            first = start_scales(eqx.tree_at(lambda f: f.parameters, previous, start))
            fit = fit_scales(clnf.main, gray, first, plan)
            score = fit.likelihood * rule.weights[fit.view] + rule.biases[fit.view]
            return fit.parameters, score, score > rule.cutoffs[fit.view]

        def skip(start):
            return start, jnp.asarray(-np.inf, gray.dtype), jnp.zeros((), bool)

        parameters, score, ends = lax.cond(found, skip, run, start)
        index = jnp.where(ends, number, index)
        return (found | ends, index), (parameters, score)

    first = (jnp.zeros((), bool), jnp.zeros((), jnp.int32))
    numbers = jnp.arange(count, dtype=jnp.int32)
    (found, index), (parameters, scores) = lax.scan(one, first, (numbers, starts))
    return _Candidates(parameters=parameters, scores=scores, found=found, index=index)


def _search_early(
    clnf: CLNF,
    rule: EarlyTermination,
    gray: Gray,
    starts: PDMParameters,
    previous: Fit,
    *,
    size: Int[Array, "2"],
    config: FitConfig,
) -> tuple[Fit, Bool[Array, ""]]:
    """CE-CLM's search: the first start whose coarse score passes is completed alone, else the
    best three (specification 01, B.6.4)."""
    coarse = _coarse_candidates(clnf, rule, gray, starts, previous, config)
    count = starts.scale.shape[0]
    kept = min(_COMPLETED, count)
    ranked = jnp.argsort(-coarse.scores, stable=True)[:kept]
    order = jnp.where(coarse.found & (np.arange(kept) == 0), coarse.index, ranked)
    finish = dataclasses.replace(config, windows_init=(0, *config.windows_init[1:]))

    def one(carry, inputs):
        best, last = carry
        place, index = inputs
        parameters = jax.tree.map(lambda leaf: leaf[index], coarse.parameters)
        # OpenFace's remembered shapes share one buffer that the next start sets to zero.
        keeps_shape = coarse.found | (index == count - 1)
        local = jnp.where(keeps_shape, parameters.local, 0)
        parameters = eqx.tree_at(lambda p: p.local, parameters, local)
        start = eqx.tree_at(
            lambda f: (f.parameters, f.likelihood), previous, (parameters, coarse.scores[index])
        )

        def run(start):
            return refine_fit(clnf, gray, start, size=size, config=finish, tracking=False)

        skipped = coarse.found & (place > 0)
        fit = lax.cond(skipped, lambda s: s, run, start)
        better = ~skipped & ((place == 0) | (fit.likelihood > best.likelihood))
        return (select(better, fit, best), select(skipped, last, fit)), None

    places = jnp.arange(kept)
    (best, last), _ = lax.scan(one, (previous, previous), (places, order))
    best = eqx.tree_at(lambda f: f.confidence, best, last.confidence)
    return best, last.success


def fit_box(
    clnf: CLNF,
    gray: Gray,
    box: Box,
    previous: Fit,
    *,
    size: Int[Array, "2"],
    config: FitConfig,
) -> Fit:
    """One frontal fit of a box with the first-fit windows, without any search.

    Reference:
        Specification 01, B.5, variant with a bounding box.
    """
    rotation = jnp.zeros(3, gray.dtype)
    start = eqx.tree_at(
        lambda f: f.parameters, previous, parameters_from_box(clnf.main.pdm, box, rotation)
    )
    return refine_fit(clnf, gray, start, size=size, config=config, tracking=False)
