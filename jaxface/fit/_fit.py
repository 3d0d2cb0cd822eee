"""Fitting a face from its box (specification 01, B.6)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Shaped

from ..ops import call_in_turn
from ..types import Box, Fit, FivePoints, FlatGray, Gray
from ._clnf import empty_fit, refine_fit
from ._config import FitConfig
from ._model import AnyCLNF, settings_of
from ._reported import report_fit
from .search import SearchStart, SearchState, start_search


def fit_landmarks(
    clnf: AnyCLNF,
    gray: Gray | FlatGray,
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
        gray: luma, 0 to 255; may be padded with zeros beyond `size`. As a `FlatGray` it makes one
            program serve pictures of all sizes; values and derivatives are those of the array.
        box: face box, px.
        points: of the face, as `Detections` hold them, px. Some searches take no notice.
        size: height and width of the picture, px; by default all of `gray`. A
            `FlatGray` has its own.
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

        `jax.vmap` fits one face after the other, as a loop does. `jax.vmap(jax.grad(...))` keeps
        what the backward pass of every face needs, 80 MB each at 640 x 480 px;
        `jax.lax.map(jax.grad(...), ...)` keeps that of one face at a time.
    Raises:
        ValueError: `gray` has a batch or channel axis.
    Reference:
        Baltrusaitis et al. 2013; specification 01, B.6 (there `DetectLandmarksInImage`).
    """
    if isinstance(gray, FlatGray):
        size = gray.size
    elif gray.ndim != 2:
        raise ValueError(
            f"gray must be one image of shape (h, w), got shape {gray.shape}: "
            "convert colour with jaxface.to_gray, give stacks to jaxface.fit_many"
        )
    elif size is None:
        size = jnp.asarray(gray.shape, jnp.int32)
    size = jnp.asarray(size, jnp.int32)
    points = jnp.zeros((5, 2), box.dtype) if points is None else points
    config = settings_of(clnf, config)
    return call_in_turn(_search, clnf, gray, box, points, size, config)


def fit_many(
    clnf: AnyCLNF,
    grays: Shaped[Array, "b h w"] | Gray | FlatGray,
    boxes: Float[Array, "b 4"] | Float[Array, "b 6"],
    *,
    points: Float[Array, "b 5 2"] | None = None,
    size: Int[Array, "2"] | Int[Array, "b 2"] | None = None,
    config: FitConfig | None = None,
) -> Fit:
    """Fits the landmark model to many faces: each in an image of its own, or all in one.

    Each fit is what `fit_landmarks` gives, and costs what it costs there: the faces are fitted one
    after the other, which on CPUs is fast, as each stops where it may. Its derivative is that of
    `fit_landmarks`.

    Args:
        clnf: landmark model; fast if it is prepared for `config` (`jaxface.prepare_model`).
        grays: luma, 0 to 255, one image for each box, or one, (h, w) or flat, for all.
        boxes: face boxes, px, as in `Detections`.
        points: of the faces, px.
        size: height and width of the pictures, px, of all or of each; by default all of `grays`.
        config: settings; by default the model's own.
    Returns:
        The fits, with a leading axis b.
    Raises:
        ValueError: there are not as many images, points or sizes as boxes, or `boxes` is not a
            stack.
    """
    if boxes.ndim != 2:
        raise ValueError(
            f"boxes: expected a stack of shape (b, 4), got shape {boxes.shape}: "
            "give a single box to jaxface.fit_landmarks"
        )
    count = len(boxes)
    images = None if isinstance(grays, FlatGray) else grays
    for name, stack, single in (("grays", images, 2), ("points", points, 2), ("size", size, 1)):
        if stack is not None and stack.ndim != single and len(stack) != count:
            raise ValueError(
                f"{name}: expected {count} entries, one for each box, got shape {stack.shape}"
            )

    def fit(gray: Gray | FlatGray, box: Box, points: FivePoints | None, size: Array | None) -> Fit:
        return fit_landmarks(clnf, gray, box, points=points, size=size, config=config)

    axes = (
        0 if images is not None and images.ndim == 3 else None,
        0,
        None if points is None else 0,
        0 if size is not None and size.ndim == 2 else None,
    )
    return jax.vmap(fit, in_axes=axes)(grays, boxes, points, size)


def _search(
    clnf: AnyCLNF,
    gray: Gray | FlatGray,
    box: Box,
    points: FivePoints,
    size: Int[Array, "2"],
    config: FitConfig,
) -> Fit:
    """Makes the attempts of a search, one after the other, and takes the best."""
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
