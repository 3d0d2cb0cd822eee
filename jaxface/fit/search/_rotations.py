"""Searches of OpenFace's models: from the mean shape in the box, at given rotations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ...ops import select
from ...types import Fit, PDMParameters
from .._config import FitConfig, Phase
from .._pdm import PDM, parameters_from_box, with_size
from ._base import AbstractSearch, Coarse, SearchStart, SearchState, no_coarse, put_row

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
_COMPLETED = 3  # best candidates that CE-CLM fits to the end where none ended the search


def start_rotations(config: FitConfig) -> Float[np.ndarray, "h 3"]:
    """Euler angles that a search starts from, rad (specification 01, B.6.2)."""
    rotations = _ROTATIONS if config.multi_view else _FRONTAL
    return np.asarray(rotations, np.float32)


def _start_at(
    pdm: PDM, box: Float[Array, "6"], number: Int[Array, ""], config: FitConfig
) -> PDMParameters:
    rotations = jnp.asarray(start_rotations(config), box.dtype)
    rotation = rotations[jnp.clip(number, 0, rotations.shape[0] - 1)]
    return parameters_from_box(pdm, box, rotation)


class OneRound(AbstractSearch):
    """Fits every rotation to the end and keeps the likeliest fit: CLNF and CLM.

    Reference:
        Specification 01, B.6.3.
    """

    def phases(self) -> tuple[Phase, ...]:
        return (Phase.INIT,)

    def attempts(self, config: FitConfig) -> int:
        return len(start_rotations(config))

    def may_skip(self) -> bool:
        return False

    def searches_given_boxes(self) -> bool:
        return False

    def begin(
        self, pdm: PDM, start: SearchStart, previous: Fit, config: FitConfig
    ) -> Float[Array, "6"]:
        return with_size(start.box)

    def plan(
        self, pdm: PDM, state: SearchState, number: Int[Array, ""], config: FitConfig
    ) -> tuple[PDMParameters, Int[Array, ""], Bool[Array, ""]]:
        start = _start_at(pdm, state.memory, number, config)
        return start, jnp.asarray(int(Phase.INIT), jnp.int32), state.active

    def record(
        self, state: SearchState, number: Int[Array, ""], fit: Fit, made: Bool[Array, ""]
    ) -> SearchState:
        better = made & ((number == 0) | (fit.likelihood > state.best.likelihood))
        best = select(better, fit, state.best)
        return eqx.tree_at(lambda s: (s.best, s.last), state, (best, best))

    def result(self, state: SearchState) -> tuple[Fit, Bool[Array, ""]]:
        return state.best, state.best.success


class _Ranked(eqx.Module):
    """What `TwoRounds` remembers."""

    box: Float[Array, "6"]
    coarse: Coarse
    ended: Bool[Array, ""]  # a score passed its view's cut-off
    ended_at: Int[Array, ""]


class TwoRounds(AbstractSearch):
    """Fits every rotation at the coarsest scale, then the three best to the end: CE-CLM.

    A start whose score passes the cut-off of its view ends the first round, and it alone is
    completed.

    Reference:
        Specification 01, B.6.4.
    """

    weights: Float[Array, " v"]  # score = weight * likelihood + bias, of the view that was fitted
    biases: Float[Array, " v"]
    cutoffs: Float[Array, " v"]

    def phases(self) -> tuple[Phase, ...]:
        return (Phase.COARSE, Phase.FINISH)

    def attempts(self, config: FitConfig) -> int:
        count = len(start_rotations(config))
        return count + min(_COMPLETED, count)

    def may_skip(self) -> bool:
        return True

    def searches_given_boxes(self) -> bool:
        return False

    def begin(self, pdm: PDM, start: SearchStart, previous: Fit, config: FitConfig) -> _Ranked:
        return _Ranked(
            box=with_size(start.box),
            coarse=no_coarse(previous, len(start_rotations(config)), start.box.dtype),
            ended=jnp.zeros((), bool),
            ended_at=jnp.zeros((), jnp.int32),
        )

    def plan(
        self, pdm: PDM, state: SearchState, number: Int[Array, ""], config: FitConfig
    ) -> tuple[PDMParameters, Int[Array, ""], Bool[Array, ""]]:
        memory: _Ranked = state.memory
        coarse = memory.coarse
        count = coarse.scores.shape[0]
        start = _start_at(pdm, memory.box, number, config)
        place = number - count  # among the candidates that are completed
        index = jnp.where(memory.ended, memory.ended_at, coarse.ranked(place, count))
        chosen: PDMParameters = jax.tree.map(lambda leaf: leaf[index], coarse.parameters)
        # OpenFace's remembered shapes share one buffer, which the next start sets to zero.
        keeps_shape = memory.ended | (index == count - 1)
        local = jnp.where(keeps_shape, chosen.local, 0)
        chosen = eqx.tree_at(lambda p: p.local, chosen, local)
        ranking = place < 0
        phase = jnp.where(ranking, int(Phase.COARSE), int(Phase.FINISH))
        needed = ~memory.ended | (place == 0)
        return select(ranking, start, chosen), phase, state.active & needed

    def record(
        self, state: SearchState, number: Int[Array, ""], fit: Fit, made: Bool[Array, ""]
    ) -> SearchState:
        memory: _Ranked = state.memory
        count = memory.coarse.scores.shape[0]
        ranking = made & (number < count)
        score = fit.likelihood * self.weights[fit.view] + self.biases[fit.view]
        ends = ranking & (score > self.cutoffs[fit.view])
        row = ranking & (np.arange(count, dtype=np.int32) == number)
        coarse = memory.coarse
        memory = _Ranked(
            box=memory.box,
            coarse=Coarse(
                parameters=jax.tree.map(
                    lambda t, v: put_row(row, t, v), coarse.parameters, fit.parameters
                ),
                scores=put_row(row, coarse.scores, score),
            ),
            ended=memory.ended | ends,
            ended_at=jnp.where(ends, number, memory.ended_at).astype(jnp.int32),
        )
        completed = made & (number >= count)
        likelier = fit.likelihood > state.best.likelihood
        best = select(completed & ((number == count) | likelier), fit, state.best)
        last = select(completed, fit, state.last)
        return SearchState(active=state.active, best=best, last=last, memory=memory)

    def result(self, state: SearchState) -> tuple[Fit, Bool[Array, ""]]:
        """After a search that did not end early, success and confidence are those of the
        candidate completed last, as in OpenFace."""
        best = eqx.tree_at(lambda f: f.confidence, state.best, state.last.confidence)
        return best, state.last.success
