"""Tracks a clip's face: many frames at once where that gives what one by one would give.

A run of frames is cut into segments, see `track.scout_segments`; each is a lane of `run_ahead`.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from ..models import Model
from ..pipeline import Config
from ..track import SegmentConfig, Tracked, TrackState, in_order, mean_distance
from ..types import Fit
from ._chunks import HostTracked, Tally, TrackedChunk, UploadedChunk, room_of, some_of
from ._programs import (
    ahead_program,
    first_track_state,
    gray_program,
    scout_program,
    track_chunk,
)

_TOLERANCE = 0.1  # px, mean over the landmarks, between two segments; the fit's noise is 0.02
_FEWEST = 30  # frames; shorter runs cost more than they save
_PER_THREAD = 2  # segments that one thread of a CPU steps together
_CHUNK_BYTES = 160 << 20  # of the frames that are tracked at once
_ONE_BY_ONE = 8  # frames that the state machine is given at a time, a program for itself


class _Run(NamedTuple):
    """Frames tracked at once, from `start` on."""

    start: int
    tracked: HostTracked
    linked: Bool[np.ndarray, " f"]  # an accepted fit that continues the one before
    tally: Tally

    def usable(self, at: int) -> int:
        """The first frame from `at` on that is not linked, or the end."""
        broken = np.flatnonzero(~self.linked[at - self.start :])
        return at + int(broken[0]) if len(broken) else self.start + len(self.linked)


def segments_for(pixels: int) -> SegmentConfig:
    """Segments for this machine, as long as memory allows.

    Args:
        pixels: of a frame's array.
    """
    on_cpu = jax.default_backend() == "cpu"
    count, most = (_PER_THREAD * _threads(), 20) if on_cpu else (32, 8)
    burn_in = SegmentConfig(count=count, longest=most).burn_in
    longest = (_CHUNK_BYTES // (3 * pixels) - burn_in) // count
    return SegmentConfig(count=count, longest=int(np.clip(longest, 1, most)))


def _threads() -> int:
    """XLA runs one small operation after the other, so each core gets a program of its own."""
    return min(os.cpu_count() or 1, 4) if jax.default_backend() == "cpu" else 1


def track_in_turn(
    model: Model, config: Config, chunks: Iterable[UploadedChunk]
) -> Iterator[TrackedChunk]:
    """Follows one face through a clip, one frame after the other: the reference.

    Each chunk is one program.
    """
    state = first_track_state(model)
    for frames, size, plan, camera, indices in chunks:
        count = len(indices)
        valid = np.arange(len(frames)) < count
        state, tracked = track_chunk(model, state, frames, valid, size, plan, config)
        tracked = jax.tree.map(lambda leaf, n=count: np.asarray(leaf)[:n], tracked)
        tally = Tally(frames=count, one_by_one=count)
        yield TrackedChunk(frames, camera, indices, tracked, tally)


def track_at_once(
    model: Model, config: Config, chunks: Iterable[UploadedChunk]
) -> Iterator[TrackedChunk]:
    """Follows one face through a clip, many frames at once.

    The result is that of `track_in_turn`: exactly where the face is found, lost or found again,
    and within the noise of the fit elsewhere.
    """
    tracker: _RunTracker | None = None
    for chunk in chunks:
        if tracker is None:
            segments = segments_for(room_of(chunk.frames))
            tracker = _RunTracker(model, config, segments)
        tracked, tally = tracker.track(chunk)
        yield TrackedChunk(chunk.frames, chunk.camera, chunk.indices, tracked, tally)


def as_tracked(first: TrackState, fits: Any) -> HostTracked:
    """Outcome of frames that were followed without a detection.

    Args:
        first: any state; only its structure counts.
        fits: on the host, a row for each frame.
    """
    no = np.zeros(np.shape(fits.success), bool)
    tracked = Tracked(fit=first.fit, success=first.initialised, detected=first.initialised)
    values = fits, fits.success, no
    return eqx.tree_at(lambda t: (t.fit, t.success, t.detected), tracked, values)


def state_after(first: TrackState, fit: Any) -> Any:
    """State on the host after a frame whose fit was accepted.

    Args:
        first: any state; only its structure counts.
        fit: on the host.
    """
    values = fit, np.ones((), bool), np.full((), -1, np.int32)
    return eqx.tree_at(lambda s: (s.fit, s.initialised, s.failures), first, values)


class _RunTracker:
    """Where the face is after the frames so far, and how it is followed into the next."""

    def __init__(self, model: Model, config: Config, segments: SegmentConfig):
        self._model, self._config, self._segments = model, config, segments
        self._first = first_track_state(model)
        self._state: Any = jax.tree.map(np.asarray, self._first)

    def track(self, chunk: UploadedChunk) -> tuple[HostTracked, Tally]:
        """Tracks the frames of a chunk. Returns one row for each."""
        count = len(chunk.indices)
        tally = Tally(frames=count)
        gray = gray_program(chunk.frames)
        pieces: list[HostTracked] = []
        run, at = None, 0
        while at < count:
            if run is None and self._may_run(count - at):
                run = self._run(gray, at, count, chunk.size)
                tally = tally.plus(run.tally)
                at = self._take(run, at, pieces)
                continue
            stop = self._track_some(chunk, at, run, pieces)
            tally = tally.plus(Tally(one_by_one=stop - at))
            at = stop
            if run is not None and at >= run.start + len(run.linked):
                run = None
            elif run is not None and self._agrees(run, at):
                at = self._take(run, at, pieces)
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces), tally

    def _may_run(self, left: int) -> bool:
        several = self._segments.count > 1 and self._segments.longest > self._segments.burn_in
        tracking = self._state.initialised & self._state.fit.success
        return several and left >= _FEWEST and bool(tracking)

    def _run(self, gray: Array, at: int, count: int, size: Array) -> _Run:
        length = min(self._segments.length(count - at), self._segments.longest)
        fit, run = self._state.fit, self._segments
        places = jnp.int32(at), jnp.int32(length), size
        starts = scout_program(self._model, fit, gray, *places, self._config, run)
        fits = jax.tree.map(lambda leaf: np.stack([leaf] * run.count), fit)
        fits = eqx.tree_at(lambda f: f.parameters, fits, jax.tree.map(np.asarray, starts))
        steps = np.arange(run.longest + run.burn_in, dtype=np.int32)
        live = np.broadcast_to((steps < length + run.burn_in)[:, None], (len(steps), run.count))
        groups = np.split(np.arange(run.count), _threads())

        def follow(group: np.ndarray) -> Fit:
            begin = jax.tree.map(lambda leaf: leaf[group], fits)
            rows = (at + length * group + steps[:, None]).astype(np.int32)
            sizes = np.tile(np.asarray(size)[None], (len(group), 1))
            trail = ahead_program(
                *(self._model, begin, (gray,), rows, live[:, group], sizes, self._config)
            )
            return jax.tree.map(np.asarray, trail)  # waits here, so that all threads run at once

        with ThreadPoolExecutor(len(groups)) as pool:
            trails = list(pool.map(follow, groups))
        trail = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *trails)
        fits, seams = in_order(trail, length, run)
        fits, seams = jax.tree.map(lambda leaf: leaf[: count - at], (fits, seams))
        mended = int(np.sum(seams > _TOLERANCE))
        tally = Tally(runs=1, seams=int(np.sum(seams > 0)), mended=mended)
        return _Run(at, as_tracked(self._first, fits), fits.success & (seams <= _TOLERANCE), tally)

    def _take(self, run: _Run, at: int, pieces: list[HostTracked]) -> int:
        """Accepts the frames of a run from `at` on as far as they are linked."""
        stop = run.usable(at)
        if stop > at:
            rows = slice(at - run.start, stop - run.start)
            pieces.append(jax.tree.map(lambda leaf: leaf[rows], run.tracked))
            last = jax.tree.map(lambda leaf: leaf[stop - 1 - run.start], run.tracked.fit)
            self._state = state_after(self._first, last)
        return stop

    def _track_some(
        self,
        chunk: UploadedChunk,
        at: int,
        run: _Run | None,
        pieces: list[HostTracked],
    ) -> int:
        """Tracks frames from `at` on by the state machine; returns the first that is not tracked.

        It is one frame where that may be enough to go on with a run, or to begin one.
        """
        frames, count = chunk.frames, len(chunk.indices)
        room = min(_ONE_BY_ONE, len(frames))
        lost = not (self._state.initialised and self._state.fit.success)
        stop = min(at + room, count) if lost and run is None else at + 1
        start = min(at, len(frames) - room)
        place = np.arange(start, start + room)
        self._state, tracked = jax.tree.map(
            np.asarray,
            track_chunk(
                *(self._model, self._state, some_of(frames, start, start + room)),
                *((place >= at) & (place < stop), chunk.size, chunk.plan, self._config),
            ),
        )
        pieces.append(jax.tree.map(lambda leaf: leaf[at - start : stop - start], tracked))
        return stop

    def _agrees(self, run: _Run, at: int) -> bool:
        """Whether the run found the frame before `at` where tracking one by one now found it.

        If so, the rest of the run may be accepted from `at` on.
        """
        row = at - 1 - run.start
        if not (run.tracked.success[row] and bool(self._state.fit.success)):
            return False
        landmarks = np.asarray(self._state.fit.landmarks)
        return bool(mean_distance(landmarks, run.tracked.fit.landmarks[row]) <= _TOLERANCE)
