"""A search that knows more than the box: a guess of the whole face, and the detector's points.

The starts are the guess, the pose that the points suggest, and poses beside it. All are fitted at
the coarsest scale, the two likeliest to the end, and one is chosen by likelihood and confidence.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ...ops import select
from ...types import Box, Fit, FivePoints, PDMParameters
from .._config import FitConfig, Phase
from .._pdm import PDM, parameters_from_box, with_size
from ._base import AbstractSearch, Coarse, SearchStart, SearchState, no_coarse, put_row
from ._five_points import PointGroups, are_apart, parameters_from_points, rotations_from_points
from ._regressor import ShapeRegressor, regress_parameters

# Where the detector gave no points, a search starts from these pitches, yaws and rolls, degrees.
_UNKNOWN = ((0, 0, 0), (0, 12, 0), (0, -12, 0), (0, 38, 0), (0, -38, 0), (20, 0, 0), (-20, 0, 0))
# Where it did, heads are tilted as the points are, and turned by these yaws.
_YAWS = np.radians([0, 25, -25, 50, -50])
POSE_STARTS = len(_UNKNOWN)  # beside the guess; more of them find no more faces
_CERTAINTY = 0.2  # weight of the confidence beside the likelihood
_COMPLETED = 2  # candidates that are fitted to the end; with more the choice gets no better


class _Memory(eqx.Module):
    """What `Guided` remembers."""

    box: Float[Array, "6"]
    starts: PDMParameters  # one row each
    coarse: Coarse


class Guided(AbstractSearch):
    """Starts from a network's guess and from the poses that the detector's points suggest."""

    five_points: PointGroups = eqx.field(static=True)  # see `LandmarkScheme.five_points`
    regressor: ShapeRegressor | None  # gives the first start; None: the points alone

    def phases(self) -> tuple[Phase, ...]:
        return (Phase.COARSE, Phase.FINISH)

    def _count(self, config: FitConfig) -> int:
        return POSE_STARTS + (self.regressor is not None) if config.multi_view else 1

    def attempts(self, config: FitConfig) -> int:
        count = self._count(config)
        return count + min(_COMPLETED, count)

    def may_skip(self) -> bool:
        return True

    def searches_given_boxes(self) -> bool:
        return True

    def begin(self, pdm: PDM, start: SearchStart, previous: Fit, config: FitConfig) -> _Memory:
        count, guess = self._count(config), None
        if self.regressor is not None:
            guess = regress_parameters(self.regressor, pdm, start.gray, start.box, start.size)
        starts = guided_starts(pdm, self.five_points, start.box, start.points, count, guess)
        coarse = no_coarse(previous, count, start.box.dtype)
        return _Memory(box=with_size(start.box), starts=starts, coarse=coarse)

    def plan(
        self, pdm: PDM, state: SearchState, number: Int[Array, ""], config: FitConfig
    ) -> tuple[PDMParameters, Int[Array, ""], Bool[Array, ""]]:
        memory: _Memory = state.memory
        coarse = memory.coarse
        count = coarse.scores.shape[0]
        ranked = coarse.ranked(number - count, min(_COMPLETED, count))
        start = jax.tree.map(lambda leaf: leaf[jnp.clip(number, 0, count - 1)], memory.starts)
        found = jax.tree.map(lambda leaf: leaf[ranked], coarse.parameters)
        ranking = number < count
        phase = jnp.where(ranking, int(Phase.COARSE), int(Phase.FINISH))
        return select(ranking, start, found), phase, state.active

    def record(
        self, state: SearchState, number: Int[Array, ""], fit: Fit, made: Bool[Array, ""]
    ) -> SearchState:
        memory: _Memory = state.memory
        count = memory.coarse.scores.shape[0]
        row = made & (number < count) & (np.arange(count, dtype=np.int32) == number)
        coarse = Coarse(
            parameters=jax.tree.map(
                lambda t, v: put_row(row, t, v), memory.coarse.parameters, fit.parameters
            ),
            scores=put_row(row, memory.coarse.scores, fit.likelihood),
        )
        completed = made & (number >= count)
        better = completed & ((number == count) | (_merit(fit) > _merit(state.best)))
        best = select(better, fit, state.best)
        last = select(completed, fit, state.last)
        memory = _Memory(box=memory.box, starts=memory.starts, coarse=coarse)
        return SearchState(active=state.active, best=best, last=last, memory=memory)

    def result(self, state: SearchState) -> tuple[Fit, Bool[Array, ""]]:
        return state.best, state.best.success


def _merit(fit: Fit) -> Float[Array, ""]:
    """What completed fits are compared by: the validator has a say beside the likelihood."""
    return fit.likelihood + _CERTAINTY * fit.confidence


def guided_starts(
    pdm: PDM,
    groups: PointGroups,
    box: Box,
    points: FivePoints,
    count: int,
    guess: PDMParameters | None = None,
) -> PDMParameters:
    """Where the attempts start: the guess, then `POSE_STARTS` poses, the likeliest first.

    Args:
        groups: landmarks whose means the five points are.
        box: face box, px.
        points: of the face, px. Where they coincide there are none.
        count: of the starts that are given, from the first on.
        guess: what a `ShapeRegressor` made of the picture.
    """
    first = _in_box(pdm, box, jnp.asarray(np.radians(_UNKNOWN), box.dtype))
    if groups:
        suggested = rotations_from_points(pdm, groups, points, jnp.asarray(_YAWS, box.dtype))
        on_points = parameters_from_points(pdm, groups, points, suggested[0])
        on_points = jax.tree.map(lambda leaf: leaf[None], on_points)
        known = _join(on_points, _in_box(pdm, box, suggested))
        first = select(are_apart(points), known, first)
    if guess is not None:
        first = _join(jax.tree.map(lambda leaf: leaf[None], guess), first)
    return jax.tree.map(lambda leaf: leaf[:count], first)


def _in_box(pdm: PDM, box: Box, rotations: Float[Array, "h 3"]) -> PDMParameters:
    return jax.vmap(lambda rotation: parameters_from_box(pdm, box, rotation))(rotations)


def _join(first: PDMParameters, second: PDMParameters) -> PDMParameters:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
