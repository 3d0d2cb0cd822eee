"""The contract of a search: how a face is found in a box that a detector gave."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...types import Box, Fit, FivePoints, FlatGray, Gray, PDMParameters
from .._config import FitConfig, Phase
from .._pdm import PDM


class SearchStart(eqx.Module):
    """What a search is started from."""

    gray: Gray | FlatGray  # luma, 0 to 255; may be padded beyond `size`
    box: Box  # face box, px
    points: FivePoints  # that the detector gave, px; all 0 where it gave none
    size: Int[Array, "2"]  # height and width of the picture, px


class SearchState(eqx.Module):
    """Progress of a search in one box."""

    active: Bool[Array, ""]  # false: no attempt is made
    best: Fit
    last: Fit  # completed last
    memory: Any  # what a strategy remembers: arrays in any pytree, of the same shapes throughout


class AbstractSearch(eqx.Module):
    """A strategy: where the attempts of a search start, and which of their results is taken.

    A search is a fixed number of attempts. `plan` says where the next one starts and which scales
    it runs; whoever searches makes the fit, so that it is compiled only once, and hands it to
    `record`. A subclass is final; arrays that it holds, as a network's, are weights of the model.
    All methods are pure and run inside jit; decisions are `jnp.where` on arrays.
    """

    @abc.abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """Phases that `plan` may give."""

    @abc.abstractmethod
    def attempts(self, config: FitConfig) -> int:
        """Number of attempts."""

    @abc.abstractmethod
    def may_skip(self) -> bool:
        """Whether `plan` may leave out attempts while the search is active.

        If not, still images make every attempt without asking.
        """

    @abc.abstractmethod
    def searches_given_boxes(self) -> bool:
        """Whether a new face in a given box is searched for, as where several faces are tracked.

        If not, it is fitted once, from the frontal mean shape in the box.
        """

    @abc.abstractmethod
    def begin(self, pdm: PDM, start: SearchStart, previous: Fit, config: FitConfig) -> Any:
        """The memory of a search that has made no attempt.

        Args:
            pdm: of the main model.
            previous: tells the shapes and dtypes of fits.
        """

    @abc.abstractmethod
    def plan(
        self, pdm: PDM, state: SearchState, number: Int[Array, ""], config: FitConfig
    ) -> tuple[PDMParameters, Int[Array, ""], Bool[Array, ""]]:
        """Start parameters and phase of an attempt, and whether it is made.

        Args:
            number: of the attempt, from 0; below 0 in frames that track, where the result counts
                for nothing.
        """

    @abc.abstractmethod
    def record(
        self, state: SearchState, number: Int[Array, ""], fit: Fit, made: Bool[Array, ""]
    ) -> SearchState:
        """Takes the result of an attempt; nothing changes unless it was `made`."""

    @abc.abstractmethod
    def result(self, state: SearchState) -> tuple[Fit, Bool[Array, ""]]:
        """The fit that is taken, and whether it counts as a success in videos."""


def start_search(
    search: AbstractSearch,
    pdm: PDM,
    start: SearchStart,
    active: Bool[Array, ""],
    previous: Fit,
    config: FitConfig,
) -> SearchState:
    """A search that has not made any attempt.

    Args:
        active: whether there is a box.
        previous: result while no attempt was made.
    """
    memory = search.begin(pdm, start, previous, config)
    return SearchState(active=active, best=previous, last=previous, memory=memory)


def no_search(search: AbstractSearch, pdm: PDM, previous: Fit, config: FitConfig) -> SearchState:
    """A search without a box: zeros in the shapes of one, whose starts need not be computed."""
    dtype = previous.likelihood.dtype

    def begin(previous: Fit) -> Any:
        blank = SearchStart(
            gray=jnp.zeros((1, 1), dtype),
            box=jnp.zeros(4, dtype),
            points=jnp.zeros((5, 2), dtype),
            size=jnp.ones(2, jnp.int32),
        )
        return search.begin(pdm, blank, previous, config)

    shapes = jax.eval_shape(begin, previous)
    memory = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    no = jnp.zeros((), bool)
    return SearchState(active=no, best=previous, last=previous, memory=memory)


class Coarse(eqx.Module):
    """What the first round of fits found, one row per start."""

    parameters: PDMParameters
    scores: Float[Array, " h"]

    def ranked(self, place: Int[Array, ""], most: int) -> Int[Array, ""]:
        """The start whose score takes a place, from 0; ties keep their order."""
        order = jnp.argsort(-self.scores, stable=True).astype(jnp.int32)
        return order[jnp.clip(place, 0, most - 1)]


def no_coarse(previous: Fit, count: int, dtype: Any) -> Coarse:
    """Before any start was fitted."""
    return Coarse(
        parameters=jax.tree.map(lambda x: jnp.stack([x] * count), previous.parameters),
        scores=jnp.full(count, -jnp.inf, dtype),
    )


def put_row(row: Bool[Array, " h"], table: Array, value: Array) -> Array:
    """A table with `value` in the rows chosen."""
    return jnp.where(row.reshape(-1, *[1] * value.ndim), value, table)
