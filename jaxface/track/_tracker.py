"""Tracking one face through a video: OpenFace's state machine (specification 01, B.5)."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from ..fit import (
    AnyCLNF,
    FitConfig,
    Phase,
    border_luma,
    empty_fit,
    parameters_from_box,
    refine_bordered,
    refine_fit,
    settings_of,
)
from ..fit.search import SearchStart, SearchState, no_search, start_search
from ..ops import select
from ..types import Bordered, Box, Fit, FivePoints, FlatGray, Gray

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


def start_track(clnf: AnyCLNF) -> TrackState:
    """State before the first frame (specification 01, B.3)."""
    return TrackState(
        fit=empty_fit(clnf),
        initialised=jnp.zeros((), bool),
        failures=jnp.full((), -1, jnp.int32),
    )


def track_landmarks(
    clnf: AnyCLNF,
    state: TrackState,
    gray: Gray | FlatGray,
    find_face: Callable[[], tuple[Box, FivePoints, Bool[Array, ""]]],
    *,
    size: Int[Array, "2"],
    config: FitConfig | None,
) -> tuple[TrackState, Tracked]:
    """Follows the face into the next frame; detects it anew where the track is lost.

    Args:
        gray: luma, 0 to 255.
        find_face: runs the face detector on this frame; gives a box and five points in px, and
            whether there is one. Called only inside the branch that needs it.
        size: height and width of the picture, px.
    Reference:
        Specification 01, B.5 (there `DetectLandmarksInVideo`), with `reinit_video_every` 2.
    """
    return track_bordered(clnf, state, border_luma(gray), find_face, size=size, config=config)


def track_bordered(
    clnf: AnyCLNF,
    state: TrackState,
    padded: Bordered,
    find_face: Callable[[], tuple[Box, FivePoints, Bool[Array, ""]]],
    *,
    size: Int[Array, "2"],
    config: FitConfig | None,
) -> tuple[TrackState, Tracked]:
    """`track_landmarks` in luma that has its border already: see `fit.border_luma`."""

    def detect(progress: Progress) -> Progress:
        box, points, found = find_face()
        gray = padded if isinstance(padded, FlatGray) else padded[1:-1, 1:-1]
        return open_search(clnf, progress, gray, box, points, found, size=size, config=config)

    start = start_frame(clnf, state, config)
    progress = _run_attempts(clnf, start, padded, detect, size=size, config=config)
    return finish_frame(clnf, state, progress)


class Progress(eqx.Module):
    """What has happened in one frame so far: tracking, then the attempts of a search."""

    state: TrackState
    search: SearchState
    detected: Bool[Array, ""]


def _run_attempts(
    clnf: AnyCLNF,
    progress: Progress,
    padded: Bordered,
    detect: Callable[[Progress], Progress],
    *,
    size: Int[Array, "2"],
    config: FitConfig | None,
) -> Progress:
    """Tracks (attempt -1), then searches, in one loop: the fit is compiled once.

    Args:
        detect: opens a search; run only where tracking asks for the face detector.
    """
    phases = track_phases(clnf)

    def make(progress: Progress, number: Int[Array, ""]) -> Progress:
        first, phase, made = begin_attempt(clnf, progress, number, config)

        def run(fit: Fit) -> Fit:
            settings = {"size": size, "config": config, "phases": phases}
            return refine_bordered(clnf, padded, fit, phase, **settings)

        fit = lax.cond(made, run, lambda f: f, first)
        progress, wanted = end_attempt(clnf, progress, number, fit, made)
        return lax.cond(wanted, detect, lambda p: p, progress)

    def attempt(progress: Progress, number: Int[Array, ""]) -> tuple[Progress, None]:
        useful = (number < 0) | progress.search.active
        return lax.cond(useful, make, lambda p, _: p, progress, number), None

    numbers = jnp.arange(-1, attempts(clnf, config), dtype=jnp.int32)
    return lax.scan(attempt, progress, numbers)[0]


def _search_config(clnf: AnyCLNF, config: FitConfig | None) -> FitConfig:
    return dataclasses.replace(settings_of(clnf, config), multi_view=True)


def track_phases(clnf: AnyCLNF) -> tuple[Phase, ...]:
    """Phases that tracking and searching run."""
    return tuple(dict.fromkeys((Phase.TRACK, Phase.INIT, *clnf.search.phases())))


def attempts(clnf: AnyCLNF, config: FitConfig | None) -> int:
    """Fits that a search takes at most."""
    return clnf.search.attempts(_search_config(clnf, config))


def start_frame(clnf: AnyCLNF, state: TrackState, config: FitConfig | None) -> Progress:
    """Before anything was tried in a frame."""
    none = no_search(clnf.search, clnf.main.pdm, state.fit, _search_config(clnf, config))
    return Progress(state=state, search=none, detected=jnp.zeros((), bool))


def begin_attempt(
    clnf: AnyCLNF, progress: Progress, number: Int[Array, ""], config: FitConfig | None
) -> tuple[Fit, Int[Array, ""], Bool[Array, ""]]:
    """Where an attempt starts, the phase that it runs, and whether it is made.

    Args:
        number: -1 to track, else of the search.
    """
    state, tracking = progress.state, number < 0
    tracked = jnp.where(state.fit.success, int(Phase.TRACK), int(Phase.INIT))
    settings = _search_config(clnf, config)
    start, searched, made = clnf.search.plan(clnf.main.pdm, progress.search, number, settings)
    parameters = select(tracking, state.fit.parameters, start)
    return (
        eqx.tree_at(lambda f: f.parameters, state.fit, parameters),
        jnp.where(tracking, tracked, searched),
        jnp.where(tracking, state.initialised, made),
    )


def end_attempt(
    clnf: AnyCLNF, progress: Progress, number: Int[Array, ""], fit: Fit, made: Bool[Array, ""]
) -> tuple[Progress, Bool[Array, ""]]:
    """Takes the result of an attempt. Returns also whether the face detector is to run now."""
    tracking = number < 0
    search = clnf.search.record(progress.search, number, fit, made & ~tracking)
    followed = select(tracking & made, _record_tracking(progress.state, fit), progress.state)
    wanted = tracking & _detection_wanted(followed)
    detected = progress.detected | wanted
    return Progress(state=followed, search=search, detected=detected), wanted


def open_search(
    clnf: AnyCLNF,
    progress: Progress,
    gray: Gray | FlatGray,
    box: Box,
    points: FivePoints,
    found: Bool[Array, ""],
    *,
    size: Int[Array, "2"],
    config: FitConfig | None,
) -> Progress:
    """Starts a search in a detected box, px; it makes no attempt where none was `found`.

    Args:
        gray: luma, 0 to 255; may be padded beyond `size`, or flat.
        size: height and width of the picture, px.
    """
    start = SearchStart(gray=gray, box=box, points=points, size=size)
    previous, settings = progress.state.fit, _search_config(clnf, config)
    fresh = start_search(clnf.search, clnf.main.pdm, start, found, previous, settings)
    return eqx.tree_at(lambda p: p.search, progress, fresh)


def finish_frame(
    clnf: AnyCLNF, before: TrackState, progress: Progress
) -> tuple[TrackState, Tracked]:
    """Ends a frame after the last attempt.

    Args:
        before: state before the frame.
    """
    fit, accepted = clnf.search.result(progress.search)
    searched = _accept(progress.state, fit, accepted, was_initialised=before.initialised)
    after, success = select(progress.search.active, searched, _count_failure(progress.state))
    return after, Tracked(fit=after.fit, success=success, detected=progress.detected)


def _record_tracking(state: TrackState, fit: Fit) -> TrackState:
    failures = jnp.where(fit.success, -1, state.failures + 1)
    return TrackState(fit=fit, initialised=state.initialised, failures=failures)


def _detection_wanted(state: TrackState) -> Bool[Array, ""]:
    """Whether the detector runs in this frame (specification 01, B.5, step 2)."""
    k = state.failures
    new = ~state.initialised & ((k + 1) % _RETRY_NEW == 0)
    lost = state.initialised & ~state.fit.success & (k % _RETRY_TRACKED == 0)
    return new | lost


def _count_failure(state: TrackState) -> tuple[TrackState, Bool[Array, ""]]:
    """Bookkeeping of a frame without a new detection (specification 01, B.5, step 4)."""
    failures = state.failures + jnp.where(state.initialised, 0, 1)
    counted = TrackState(
        fit=state.fit,
        initialised=state.initialised & (failures <= _GIVE_UP),
        failures=failures,
    )
    return counted, state.fit.success


def _accept(
    state: TrackState, fit: Fit, accepted: Bool[Array, ""], *, was_initialised: Bool[Array, ""]
) -> tuple[TrackState, Bool[Array, ""]]:
    """Takes the fit of a detected box; a rejected one gives the tracked pose and shape back, but
    neither the confidence nor the parts (specification 01, B.5, step 3)."""
    kept = ~was_initialised | accepted
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
    clnf: AnyCLNF,
    state: TrackState,
    gray: Gray | FlatGray,
    box: Box,
    fresh: Bool[Array, ""],
    *,
    size: Int[Array, "2"],
    config: FitConfig | None,
    points: FivePoints | None = None,
) -> TrackState:
    """Follows the face, or starts from `box` where `fresh`; never detects by itself.

    Models whose search says so (`searches_given_boxes`) search in a fresh box, as `fit_landmarks`
    does with `points`.

    Reference:
        Specification 01, B.5: the variant with a bounding box and a negative
        `reinit_video_every`, as for several faces.
    """
    if not clnf.search.searches_given_boxes():
        fit = _follow_box(clnf, state, gray, box, fresh, size=size, config=config)
    else:
        settings, pdm = _search_config(clnf, config), clnf.main.pdm
        points = jnp.zeros((5, 2), box.dtype) if points is None else points

        def begin() -> SearchState:
            start = SearchStart(gray=gray, box=box, points=points, size=size)
            return start_search(clnf.search, pdm, start, fresh, state.fit, settings)

        search = lax.cond(fresh, begin, lambda: no_search(clnf.search, pdm, state.fit, settings))
        fit = _follow_or_search(clnf, state, gray, search, size=size, config=config)
    failures = jnp.where(fresh, -1, state.failures)
    return TrackState(
        fit=fit,
        initialised=jnp.ones((), bool),
        failures=jnp.where(fit.success, -1, failures + 1).astype(jnp.int32),
    )


def _follow_box(
    clnf: AnyCLNF,
    state: TrackState,
    gray: Gray | FlatGray,
    box: Box,
    fresh: Bool[Array, ""],
    *,
    size: Int[Array, "2"],
    config: FitConfig | None,
) -> Fit:
    rotation = jnp.zeros(3, box.dtype)
    empty = empty_fit(clnf)
    first = eqx.tree_at(
        lambda f: f.parameters, empty, parameters_from_box(clnf.main.pdm, box, rotation)
    )
    tracked = jnp.where(state.fit.success, int(Phase.TRACK), int(Phase.INIT))
    return refine_fit(
        clnf,
        gray,
        select(fresh, first, state.fit),
        size=size,
        config=config,
        phase=jnp.where(fresh, int(Phase.INIT), tracked),
        phases=(Phase.TRACK, Phase.INIT),
    )


def _follow_or_search(
    clnf: AnyCLNF,
    state: TrackState,
    gray: Gray | FlatGray,
    search: SearchState,
    *,
    size: Int[Array, "2"],
    config: FitConfig | None,
) -> Fit:
    """Follows the face unless there is a search to be made."""
    known = eqx.tree_at(lambda s: s.initialised, state, ~search.active)
    start = Progress(state=known, search=search, detected=jnp.zeros((), bool))
    padded = border_luma(gray)
    progress = _run_attempts(clnf, start, padded, lambda p: p, size=size, config=config)
    found, _ = clnf.search.result(progress.search)
    return select(search.active, found, progress.state.fit)
