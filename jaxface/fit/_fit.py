"""Fitting a face from its box: start rotations and the choice among them (specification 01, B.6).

A search is a sequence of fits. `plan_attempt` says where the next one starts and
`record_attempt` takes its result, so that whoever runs the fits compiles them only once. CE-CLM and
models of our own first fit all starts at the coarsest scale, then the best of them to the end.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..ops import select
from ..types import Box, Fit, FivePoints, Gray, PDMParameters
from ._clnf import Phase, empty_fit, refine_fit
from ._config import FitConfig
from ._model import CLNF
from ._pdm import parameters_from_box, with_size
from ._reported import report_fit
from .search import OWN_STARTS, own_starts, regress_parameters

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
_CERTAINTY = np.float32(0.2)  # weight of the confidence beside the likelihood
_COMPLETED = 3  # best candidates that CE-CLM fits to the end where none ended the search
_OWN_COMPLETED = 2  # that models of our own do: more choose no better


class Coarse(eqx.Module):
    """What the first round of fits found, one row per start."""

    parameters: PDMParameters
    scores: Float[Array, " h"]
    ended: Bool[Array, ""]  # a score passed its view's cut-off (CE-CLM)
    ended_at: Int[Array, ""]


class Search(eqx.Module):
    """Progress of a search in one box."""

    box: Float[Array, "6"]  # see `with_size`
    starts: PDMParameters | None  # of a model of our own, one row each
    active: Bool[Array, ""]  # false: no attempt is run
    best: Fit
    last: Fit  # completed last
    coarse: Coarse | None  # of models that search in two rounds


def start_rotations(config: FitConfig) -> Float[np.ndarray, "h 3"]:
    """Euler angles that a search starts from, rad (specification 01, B.6.2)."""
    rotations = _ROTATIONS if config.multi_view else _FRONTAL
    return np.asarray(rotations, np.float32)


def _in_two_rounds(clnf: CLNF) -> bool:
    return clnf.early_termination is not None or clnf.reported is not None


def _start_count(clnf: CLNF, config: FitConfig) -> int:
    if clnf.reported is None:
        return len(start_rotations(config))
    return OWN_STARTS + (clnf.regressor is not None) if config.multi_view else 1


def _completed(clnf: CLNF, count: int) -> int:
    return min(_COMPLETED if clnf.reported is None else _OWN_COMPLETED, count)


def search_length(clnf: CLNF, config: FitConfig) -> int:
    """Number of attempts of a search."""
    count = _start_count(clnf, config)
    if not _in_two_rounds(clnf):
        return count
    return count + _completed(clnf, count)


def search_phases(clnf: CLNF) -> tuple[Phase, ...]:
    """Phases that a search runs."""
    if not _in_two_rounds(clnf):
        return (Phase.INIT,)
    return (Phase.COARSE, Phase.FINISH)


def start_search(
    clnf: CLNF,
    gray: Gray,
    box: Box,
    active: Bool[Array, ""],
    previous: Fit,
    *,
    size: Int[Array, "2"],
    config: FitConfig,
    points: FivePoints | None = None,
) -> Search:
    """A search that has not made any attempt.

    Args:
        gray: luma, 0 to 255; may be padded beyond `size`.
        box: face box, px.
        active: whether there is a box.
        previous: result while no attempt was made.
        size: height and width of the picture, px.
        points: that the detector gave, px; used by models of our own. Zeros stand for none.
    """
    count = _start_count(clnf, config)
    starts = coarse = None
    if clnf.reported is not None:
        points = jnp.zeros((5, 2), box.dtype) if points is None else points
        guess = None
        if clnf.regressor is not None:
            guess = regress_parameters(clnf.regressor, clnf.main.pdm, gray, box, size)
        starts = own_starts(clnf.main.pdm, box, points, count, guess)
    if _in_two_rounds(clnf):
        coarse = Coarse(
            parameters=jax.tree.map(lambda x: jnp.stack([x] * count), previous.parameters),
            scores=jnp.full(count, -np.inf, box.dtype),
            ended=jnp.zeros((), bool),
            ended_at=jnp.zeros((), jnp.int32),
        )
    return Search(
        box=with_size(box),
        starts=starts,
        active=active,
        best=previous,
        last=previous,
        coarse=coarse,
    )


def no_search(clnf: CLNF, previous: Fit, config: FitConfig) -> Search:
    """A search without a box: zeros in the shapes of one, whose starts need not be computed."""

    def start(previous: Fit) -> Search:
        dtype = previous.likelihood.dtype
        blank, box, size = jnp.zeros((1, 1), dtype), jnp.zeros(4, dtype), jnp.ones(2, jnp.int32)
        no = jnp.zeros((), bool)
        return start_search(clnf, blank, box, no, previous, size=size, config=config)

    shapes = jax.eval_shape(start, previous)
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return eqx.tree_at(lambda s: (s.best, s.last), empty, (previous, previous))


def plan_attempt(
    clnf: CLNF, search: Search, number: Int[Array, ""], config: FitConfig
) -> tuple[PDMParameters, Int[Array, ""], Bool[Array, ""]]:
    """Start parameters and phase of an attempt, and whether it is made.

    Args:
        number: of the attempt, from 0.
    Reference:
        Specification 01, B.6.3 and B.6.4.
    """
    if search.starts is not None:
        return *_plan_own(search, number), search.active
    rotations = jnp.asarray(start_rotations(config))
    count = rotations.shape[0]
    rotation = rotations[jnp.clip(number, 0, count - 1)]
    start = parameters_from_box(clnf.main.pdm, search.box, rotation)
    coarse = search.coarse
    if coarse is None:
        return start, jnp.asarray(Phase.INIT), search.active
    place = number - count  # among the candidates that are completed
    ranked = jnp.argsort(-coarse.scores, stable=True)[jnp.clip(place, 0, count - 1)]
    index = jnp.where(coarse.ended, coarse.ended_at, ranked)
    chosen: PDMParameters = jax.tree.map(lambda leaf: leaf[index], coarse.parameters)
    # OpenFace's remembered shapes share one buffer, which the next start sets to zero.
    keeps_shape = coarse.ended | (index == count - 1)
    local = jnp.where(keeps_shape, chosen.local, 0)
    chosen = eqx.tree_at(lambda p: p.local, chosen, local)
    ranking = place < 0
    phase = jnp.where(ranking, int(Phase.COARSE), int(Phase.FINISH))
    needed = ~coarse.ended | (place == 0)
    return select(ranking, start, chosen), phase, search.active & needed


def _plan_own(search: Search, number: Int[Array, ""]) -> tuple[PDMParameters, Int[Array, ""]]:
    """`plan_attempt` of a model of our own."""
    coarse = search.coarse
    assert coarse is not None
    count = coarse.scores.shape[0]
    kept = min(_OWN_COMPLETED, count)
    ranked = jnp.argsort(-coarse.scores, stable=True)[jnp.clip(number - count, 0, kept - 1)]
    start = jax.tree.map(lambda leaf: leaf[jnp.clip(number, 0, count - 1)], search.starts)
    found = jax.tree.map(lambda leaf: leaf[ranked], coarse.parameters)
    ranking = number < count
    phase = jnp.where(ranking, int(Phase.COARSE), int(Phase.FINISH))
    return select(ranking, start, found), phase


def record_attempt(
    clnf: CLNF, search: Search, number: Int[Array, ""], fit: Fit, made: Bool[Array, ""]
) -> Search:
    """Takes the result of an attempt; nothing changes unless it was `made`."""
    coarse, rule = search.coarse, clnf.early_termination
    if coarse is None:
        better = made & ((number == 0) | (fit.likelihood > search.best.likelihood))
        best = select(better, fit, search.best)
        return eqx.tree_at(lambda s: (s.best, s.last), search, (best, best))
    count = coarse.scores.shape[0]
    ranking = made & (number < count)
    score, ends = fit.likelihood, jnp.zeros((), bool)
    if rule is not None:
        score = fit.likelihood * rule.weights[fit.view] + rule.biases[fit.view]
        ends = ranking & (score > rule.cutoffs[fit.view])
    row = ranking & (np.arange(count) == number)

    def put(table, value):
        return jnp.where(row.reshape(-1, *[1] * value.ndim), value, table)

    coarse = Coarse(
        parameters=jax.tree.map(put, coarse.parameters, fit.parameters),
        scores=put(coarse.scores, score),
        ended=coarse.ended | ends,
        ended_at=jnp.where(ends, number, coarse.ended_at).astype(jnp.int32),
    )
    completed = made & (number >= count)
    better = completed & ((number == count) | (_merit(clnf, fit) > _merit(clnf, search.best)))
    best = select(better, fit, search.best)
    last = select(completed, fit, search.last)
    return eqx.tree_at(lambda s: (s.best, s.last, s.coarse), search, (best, last, coarse))


def _merit(clnf: CLNF, fit: Fit) -> Float[Array, ""]:
    """What the fits of a search are compared by: their likelihood, as OpenFace does; for a model
    of our own the validator has a say too."""
    if clnf.reported is None:
        return fit.likelihood
    return fit.likelihood + _CERTAINTY * fit.confidence


def search_result(clnf: CLNF, search: Search) -> tuple[Fit, Bool[Array, ""]]:
    """The best fit of a search, and OpenFace's return value for it.

    The two differ in one case: after a CE-CLM search that did not end early, the value and the
    confidence are those of the candidate completed last (specification 01, B.6.4).
    """
    if clnf.early_termination is None:
        return search.best, search.best.success
    best = eqx.tree_at(lambda f: f.confidence, search.best, search.last.confidence)
    return best, search.last.success


def fit_landmarks(
    clnf: CLNF,
    gray: Gray,
    box: Box,
    *,
    points: FivePoints | None = None,
    size: Int[Array, "2"] | None = None,
    config: FitConfig = FitConfig(),
) -> Fit:
    """Fits the landmark model to one face.

    Starts from the mean shape in `box`, frontal or in each of 11 rotations
    (`config.multi_view`), and keeps the fit with the largest likelihood. Models of our own start
    from the regressor's guess and the poses that `points` suggest: the two likeliest fits of the
    coarsest scale are completed, and one is chosen by likelihood and confidence.

    Args:
        clnf: landmark model, prepared for `config`.
        gray: luma, 0 to 255; may be padded with zeros beyond `size`.
        box: face box, px.
        points: of the face, as `Detections` hold them, px. OpenFace's models take no notice.
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
    phases = search_phases(clnf)
    empty = empty_fit(clnf)

    def attempt(search: Search, number: Int[Array, ""]) -> tuple[Search, None]:
        start, phase, made = plan_attempt(clnf, search, number, config)
        first = eqx.tree_at(lambda f: f.parameters, empty, start)

        def run(fit: Fit) -> Fit:
            return refine_fit(clnf, gray, fit, size=size, config=config, phase=phase, phases=phases)

        fit = run(first) if search.coarse is None else lax.cond(made, run, lambda f: f, first)
        return record_attempt(clnf, search, number, fit, made), None

    yes = jnp.ones((), bool)
    search = start_search(clnf, gray, box, yes, empty, size=size, config=config, points=points)
    numbers = jnp.arange(search_length(clnf, config), dtype=jnp.int32)
    best, _ = search_result(clnf, lax.scan(attempt, search, numbers)[0])
    return report_fit(clnf, best)
