"""Several faces stepped together, each a lane: the state machine of `_tracker.py` for all of them.

What the lanes share, weights and products with them, is computed once a step. A search is made in
those that want one while the others wait.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, Shaped

from ..fit import AnyCLNF, FitConfig, refine_lanes, run_lanes
from ..types import Box, Fit, FivePoints
from ._tracker import (
    Progress,
    Tracked,
    TrackState,
    attempts,
    begin_attempt,
    end_attempt,
    finish_frame,
    open_search,
    start_frame,
    track_phases,
)

FindFace = Callable[[Int[Array, ""]], tuple[Box, FivePoints, Bool[Array, ""]]]


def track_bordered_lanes(
    clnf: AnyCLNF,
    states: TrackState,
    padded: Shaped[Array, "b h2 w2"],
    find_face: FindFace,
    *,
    sizes: Int[Array, "b 2"],
    config: FitConfig | None,
) -> tuple[TrackState, Tracked]:
    """`track_bordered` of several faces, each in a picture of its own.

    Args:
        states: histories, one row per lane.
        padded: luma with a border, see `fit.border_luma`.
        find_face: runs the face detector on the picture of the lane with a number; gives a box and
            five points in px, and whether there is one. Called only where a lane wants it.
        sizes: height and width of each picture, px.
        config: settings; by default the model's own.
    Returns:
        The states for the next frames, and the outcomes of these, one row per lane.
    Reference:
        Specification 01, B.5.
    """

    def attempt(progress: Progress, number: Int[Array, ""]) -> tuple[Progress, None]:
        useful = (number < 0) | jnp.any(progress.search.active)
        return lax.cond(useful, make, lambda p, _: p, progress, number), None

    def make(progress: Progress, number: Int[Array, ""]) -> Progress:
        begin = jax.vmap(lambda p: begin_attempt(clnf, p, number, config))
        first, phase, made = begin(progress)

        def run(fits: Fit) -> Fit:
            settings = {"sizes": sizes, "config": config, "phases": track_phases(clnf)}
            return refine_lanes(clnf, padded, fits, phase, **settings)

        fits = run_lanes(made, run, first)
        end = jax.vmap(lambda p, fit, made: end_attempt(clnf, p, number, fit, made))
        progress, wanted = end(progress, fits, made)
        return lax.cond(jnp.any(wanted), detect, lambda p, _: p, progress, wanted)

    def detect(progress: Progress, wanted: Bool[Array, " b"]) -> Progress:
        def one(lane: tuple) -> Progress:
            return lax.cond(lane[-1], search, lambda number, p, *_: p, *lane)

        numbers = jnp.arange(wanted.shape[0], dtype=jnp.int32)
        return lax.map(one, (numbers, progress, padded, sizes, wanted))

    def search(number, progress, padded, size, _) -> Progress:
        box, points, found = find_face(number)
        gray = padded[1:-1, 1:-1]
        return open_search(clnf, progress, gray, box, points, found, size=size, config=config)

    start = jax.vmap(lambda state: start_frame(clnf, state, config))(states)
    numbers = jnp.arange(-1, attempts(clnf, config), dtype=jnp.int32)
    progress = lax.scan(attempt, start, numbers)[0]
    return jax.vmap(lambda before, p: finish_frame(clnf, before, p))(states, progress)
