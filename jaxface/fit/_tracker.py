"""Tracking one face through a video: a pure step with OpenFace's state machine (spec. 01, B.5)."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from .._types import Box, Fit, Gray
from ..ops import select
from ._clnf import empty_fit, refine_fit
from ._config import FitConfig
from ._hypotheses import fit_box, fit_hypotheses
from ._model import CLNF

_RETRY_TRACKED = 2  # frames between detections after a loss
_RETRY_NEW = 12  # frames between detections until a first face
_GIVE_UP = 100  # failures in a row after which the track is forgotten


class TrackState(eqx.Module):
    """History of one tracked face."""

    fit: Fit  # `fit.success` is the validator's verdict on the last frame
    initialised: Bool[Array, ""]
    failures: Int[Array, ""]  # in a row; -1 after a success


class Tracked(eqx.Module):
    """Outcome of one frame."""

    fit: Fit
    success: Bool[Array, ""]  # what OpenFace reports: true on a first detection in any case
    detected: Bool[Array, ""]  # the face detector ran


def start_track(clnf: CLNF) -> TrackState:
    """State before the first frame (specification 01, B.3)."""
    return TrackState(
        fit=empty_fit(clnf),
        initialised=jnp.zeros((), bool),
        failures=jnp.full((), -1, jnp.int32),
    )


def track_landmarks(
    clnf: CLNF,
    state: TrackState,
    gray: Gray,
    find_box: Callable[[], tuple[Box, Bool[Array, ""]]],
    *,
    size: Int[Array, "2"],
    config: FitConfig,
) -> tuple[TrackState, Tracked]:
    """Follows the face into the next frame; detects it anew where the track is lost.

    Args:
        gray: luma, 0 to 255.
        find_box: runs the face detector on this frame; gives a box in px and whether there is
            one. Called only inside the branch that needs it.
        size: height and width of the picture, px.
    Reference:
        Specification 01, B.5 (there `DetectLandmarksInVideo`), with `reinit_video_every` 2.
    """
    before = state

    def track(state):
        fit = refine_fit(
            clnf, gray, state.fit, size=size, config=config, tracking=state.fit.success
        )
        failures = jnp.where(fit.success, -1, state.failures + 1)
        return TrackState(fit=fit, initialised=state.initialised, failures=failures)

    state = lax.cond(before.initialised, track, lambda s: s, before)
    k = state.failures
    new = ~state.initialised & ((k + 1) % _RETRY_NEW == 0)
    lost = state.initialised & ~state.fit.success & (k % _RETRY_TRACKED == 0)
    wanted = new | lost

    def detect(state):
        box, found = find_box()

        def refit(state):
            return _redetect(clnf, gray, box, state, before, size=size, config=config)

        return lax.cond(found, refit, lambda s: _count_failure(s), state)

    state, success = lax.cond(wanted, detect, lambda s: _count_failure(s), state)
    return state, Tracked(fit=state.fit, success=success, detected=wanted)


def _count_failure(state: TrackState) -> tuple[TrackState, Bool[Array, ""]]:
    """Bookkeeping of a frame without a new detection."""
    failures = state.failures + jnp.where(state.initialised, 0, 1)
    counted = TrackState(
        fit=state.fit,
        initialised=state.initialised & (failures <= _GIVE_UP),
        failures=failures,
    )
    return counted, state.fit.success


def _redetect(
    clnf: CLNF,
    gray: Gray,
    box: Box,
    state: TrackState,
    before: TrackState,
    *,
    size: Int[Array, "2"],
    config: FitConfig,
) -> tuple[TrackState, Bool[Array, ""]]:
    """Fits a detected box; a rejected one gives the tracked pose and shape back, but neither the
    confidence nor the parts."""
    search = dataclasses.replace(config, multi_view=True)
    fit, accepted = fit_hypotheses(clnf, gray, box, state.fit, size=size, config=search)
    kept = ~before.initialised | accepted
    restored = eqx.tree_at(
        lambda f: (f.parameters, f.landmarks, f.likelihood),
        fit,
        (state.fit.parameters, state.fit.landmarks, state.fit.likelihood),
    )
    after = TrackState(
        fit=select(kept, fit, restored),
        initialised=jnp.ones((), bool),
        failures=jnp.where(kept, -1, state.failures),
    )
    return after, kept


def track_box(
    clnf: CLNF,
    state: TrackState,
    gray: Gray,
    box: Box,
    fresh: Bool[Array, ""],
    *,
    size: Int[Array, "2"],
    config: FitConfig,
) -> TrackState:
    """Follows the face, or starts from `box` where `fresh`; never detects by itself.

    Reference:
        Specification 01, B.5: the variant with a bounding box and a negative
        `reinit_video_every`, as for several faces.
    """

    def start(_):
        fit = fit_box(clnf, gray, box, empty_fit(clnf), size=size, config=config)
        return fit, jnp.full((), -1, jnp.int32)

    def follow(state):
        fit = refine_fit(
            clnf, gray, state.fit, size=size, config=config, tracking=state.fit.success
        )
        return fit, state.failures

    fit, failures = lax.cond(fresh, start, follow, state)
    return TrackState(
        fit=fit,
        initialised=jnp.ones((), bool),
        failures=jnp.where(fit.success, -1, failures + 1).astype(jnp.int32),
    )
