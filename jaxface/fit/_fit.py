"""Fitting a face from its box (specification 01, B.6)."""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from ..types import Box, Fit, FivePoints, Gray
from ._clnf import empty_fit, refine_fit
from ._config import FitConfig
from ._model import AnyCLNF, settings_of
from ._reported import report_fit
from .search import SearchStart, SearchState, start_search


def fit_landmarks(
    clnf: AnyCLNF,
    gray: Gray,
    box: Box,
    *,
    points: FivePoints | None = None,
    size: Int[Array, "2"] | None = None,
    config: FitConfig | None = None,
) -> Fit:
    """Fits the landmark model to one face.

    Makes the attempts of the model's search (`clnf.search`) and keeps the fit that it takes.
    OpenFace's models start from the mean shape in `box`, frontal or in each of 11 rotations
    (`config.multi_view`), and keep the likeliest fit.

    Args:
        clnf: landmark model; fast if it is prepared for `config` (`jaxface.prepare_model`).
        gray: luma, 0 to 255; may be padded with zeros beyond `size`.
        box: face box, px.
        points: of the face, as `Detections` hold them, px. Some searches take no notice.
        size: height and width of the picture, px; by default all of `gray`.
        config: settings; by default the model's own.
    Returns:
        The fit. Where `success` is false it is the best that was found.

        Its derivatives do not follow OpenFace's roundings, but the computation without them; by
        the place of a sample they are the picture's central differences, so that a picture and a
        box that move together move the landmarks by 1. With `FitConfig(smooth=True)` nothing is
        rounded, and derivatives are those of the values. They are piecewise: what is chosen (the
        view, the start that is taken, scales and parts that are left out for small faces) stays
        chosen, and shape coefficients at their limits stay there. Those of `view`, `success` and
        `confidence`, a class of the validator, are zero, and so are those by bytes.
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
    config = settings_of(clnf, config)
    size = jnp.asarray(gray.shape if size is None else size, jnp.int32)
    points = jnp.zeros((5, 2), box.dtype) if points is None else points
    search, pdm, empty = clnf.search, clnf.main.pdm, empty_fit(clnf)
    phases = search.phases()

    def attempt(state: SearchState, number: Int[Array, ""]) -> tuple[SearchState, None]:
        start, phase, made = search.plan(pdm, state, number, config)
        first = eqx.tree_at(lambda f: f.parameters, empty, start)

        def run(fit: Fit) -> Fit:
            return refine_fit(clnf, gray, fit, size=size, config=config, phase=phase, phases=phases)

        fit = lax.cond(made, run, lambda f: f, first) if search.may_skip() else run(first)
        return search.record(state, number, fit, made), None

    start = SearchStart(gray=gray, box=box, points=points, size=size)
    state = start_search(search, pdm, start, jnp.ones((), bool), empty, config)
    numbers = jnp.arange(search.attempts(config), dtype=jnp.int32)
    best, _ = search.result(lax.scan(attempt, state, numbers)[0])
    return report_fit(clnf, best)
