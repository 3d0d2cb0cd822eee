"""Running ahead: faces are followed as if each fit was accepted, and judged together afterwards.

The validator decides whether a frame's fit is gone on from, and costs as much as a quarter of the
fit. Most fits are accepted. So the frames of a chunk are fitted without it, and then it judges them
all in one product, which reads its weights once. The first that it rejects ends what may be used:
there the state machine of `track_landmarks` takes over.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int, Shaped

from ..fit import AnyCLNF, FitConfig, follow_lanes, run_lanes, validate_fits
from ..ops import select
from ..types import Fit
from ._tracker import Tracked, TrackState


def may_run_ahead(state: TrackState) -> Bool[Array, ""]:
    """Whether the face was accepted in the frame before."""
    return state.initialised & state.fit.success


def run_ahead(
    clnf: AnyCLNF,
    fits: Fit,
    padded: Shaped[Array, "t b h2 w2"],
    valid: Bool[Array, "t b"],
    *,
    size: Int[Array, "2"],
    config: FitConfig | None,
) -> Fit:
    """Follows several faces through several frames, each face through frames of its own.

    Args:
        clnf: landmark model.
        fits: accepted fits of the frames before, one row each.
        padded: luma with a border, finite: see `fit.border_luma`.
        valid: false for frames that only fill the array up: they leave the fit as it is.
        size: height and width of the pictures, px.
        config: settings; by default the model's own.
    Returns:
        Fits with the validator's verdicts, [frame, face]. Those of a face are what tracking frame
        by frame gives up to the first that is rejected; what comes after it means nothing.
        Derivatives are those of fits that start from one another.
    Reference:
        Specification 01, B.5, step 1.
    """

    def step(fits: Fit, inputs: tuple[Array, Array]) -> tuple[Fit, tuple[Fit, Array]]:
        images, live = inputs

        def follow(lanes: tuple[Fit, Array]) -> tuple[Fit, Array]:
            return follow_lanes(clnf, images, lanes[0], config=config)

        after, large = run_lanes(live, follow, (fits, jnp.zeros_like(live)))
        return after, (after, large)

    _, trail = lax.scan(step, fits, (padded, valid))
    shape = valid.shape
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (padded, *trail))
    judged = validate_fits(clnf, *rows, size=size, config=config)
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), judged)


def take_accepted(
    state: TrackState, fits: Fit, valid: Bool[Array, " t"]
) -> tuple[TrackState, Tracked, Int[Array, ""]]:
    """What counts of one face's frames after `run_ahead`.

    Args:
        state: before the first frame; `may_run_ahead` must be true of it.
        fits: of that face, a row for each frame.
        valid: as there.
    Returns:
        The state at the first frame that is rejected, or after the last one; the outcome of each
        frame before that; and its number, that of all frames where none is rejected.
    """
    numbers = np.arange(valid.shape[0], dtype=np.int32)
    goes_on = fits.success | ~valid
    end = jnp.where(jnp.all(goes_on), len(numbers), jnp.argmin(goes_on)).astype(jnp.int32)
    last = jnp.max(jnp.where(valid & (numbers < end), numbers, -1))
    fit = jax.tree.map(lambda leaf: leaf[jnp.maximum(last, 0)], fits)
    after = TrackState(
        fit=fit, initialised=jnp.ones((), bool), failures=jnp.full((), -1, jnp.int32)
    )
    detected = jnp.zeros_like(valid)
    tracked = jax.vmap(Tracked)(fit=fits, success=fits.success, detected=detected)
    return select(last >= 0, after, state), tracked, end
