"""Tracks a clip's face: many frames at once where that gives what one by one would give.

A run of frames is cut into segments, see `track.follow_segments`.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt8

from ..fit import Phase
from ..models import Model
from ..pipeline import Config
from ..track import Progress, SegmentConfig, Tracked, TrackState, attempts, in_order, mean_distance
from ..types import Camera, Fit
from ._programs import (
    begin_program,
    detect_program,
    end_program,
    finish_program,
    first_track_state,
    follow_program,
    gray_program,
    scout_program,
    search_program,
    start_program,
    track_chunk,
)

_TOLERANCE = 0.1  # px, mean over the landmarks, between two segments; the fit's noise is 0.02
_FEWEST = 30  # frames; shorter runs cost more than they save
_PER_THREAD = 2  # segments that one thread of a CPU steps together
_CHUNK_BYTES = 160 << 20  # of the frames that are tracked at once

HostTracked = Any  # a Tracked whose arrays are NumPy's, where its fields are annotated with JAX's


class Tally(NamedTuple):
    """How the frames of a clip were tracked."""

    frames: int = 0
    one_by_one: int = 0  # outside runs: where no face was tracked, or a seam was mended
    runs: int = 0
    seams: int = 0  # between the segments of all runs
    mended: int = 0  # seams at which the segments did not agree

    def plus(self, more: "Tally") -> "Tally":
        """The tally of these frames and of more."""
        return Tally(*(a + b for a, b in zip(self, more, strict=True)))


class UploadedChunk(NamedTuple):
    """Frames on the device."""

    frames: UInt8[Array, "c h w 3"]  # on a canvas; the last may only fill the chunk up
    size: Int[Array, "2"]  # height and width of the pictures, px
    camera: Camera
    indices: Int[np.ndarray, " n"]  # of the frames in the clip, from 0


class TrackedChunk(NamedTuple):
    """Frames on the device with the face that was tracked in them."""

    frames: UInt8[Array, "c h w 3"]
    camera: Camera
    indices: Int[np.ndarray, " n"]
    tracked: HostTracked  # one row for each index
    tally: Tally


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


def segments_for(height: int, width: int) -> SegmentConfig:
    """Segments for this machine, as long as memory allows.

    Args:
        height: of the frames, px.
        width: px.
    """
    on_cpu = jax.default_backend() == "cpu"
    count, most = (_PER_THREAD * _threads(), 20) if on_cpu else (32, 8)
    burn_in = SegmentConfig(count=count, longest=most).burn_in
    longest = (_CHUNK_BYTES // (3 * height * width) - burn_in) // count
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
    for frames, size, camera, indices in chunks:
        count = len(indices)
        valid = np.arange(frames.shape[0]) < count
        state, tracked = track_chunk(model, state, frames, valid, size, config)
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
    for frames, size, camera, indices in chunks:
        if tracker is None:
            segments = segments_for(*(int(side) for side in np.asarray(size)))
            tracker = _RunTracker(model, config, segments)
        tracked, tally = tracker.track(frames, len(indices), size)
        yield TrackedChunk(frames, camera, indices, tracked, tally)


class _RunTracker:
    """Where the face is after the frames so far, and how it is followed into the next."""

    def __init__(self, model: Model, config: Config, segments: SegmentConfig):
        self._model, self._config, self._segments = model, config, segments
        self._state = first_track_state(model)
        self._attempts = attempts(model.clnf, config.fit)

    def track(
        self, frames: UInt8[Array, "c h w 3"], count: int, size: Int[Array, "2"]
    ) -> tuple[HostTracked, Tally]:
        """Tracks the first `count` frames of a chunk. Returns one row for each."""
        tally = Tally(frames=count)
        self._gray = gray_program(frames)
        pieces: list[HostTracked] = []
        run, at = None, 0
        while at < count:
            if run is None and self._may_run(count - at):
                run = self._run(at, count, size)
                tally = tally.plus(run.tally)
                at = self._take(run, at, pieces)
                continue
            pieces.append(self._track_one(frames, at, size))
            tally = tally.plus(Tally(one_by_one=1))
            at += 1
            if run is not None and at >= run.start + len(run.linked):
                run = None
            elif run is not None and self._agrees(run, at):
                at = self._take(run, at, pieces)
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces), tally

    def _may_run(self, left: int) -> bool:
        several = self._segments.count > 1 and self._segments.longest > self._segments.burn_in
        tracking = self._state.initialised & self._state.fit.success
        return several and left >= _FEWEST and bool(tracking)

    def _run(self, at: int, count: int, size: Array) -> _Run:
        length = min(self._segments.length(count - at), self._segments.longest)
        fit, run, gray = self._state.fit, self._segments, self._gray
        starts = scout_program(
            self._model, fit, gray, jnp.int32(at), jnp.int32(length), self._config, run
        )
        fits = jax.tree.map(lambda leaf: jnp.stack([leaf] * run.count), fit)
        fits = eqx.tree_at(lambda f: f.parameters, fits, starts)
        groups = np.split(np.arange(run.count), _threads())

        def follow(group: np.ndarray) -> Fit:
            begin = jax.tree.map(lambda leaf: leaf[group], fits)
            firsts = (at + length * group).astype(np.int32)
            return self._follow(begin, firsts, Phase.TRACK, length + run.burn_in, size)

        with ThreadPoolExecutor(len(groups)) as pool:
            trails = list(pool.map(follow, groups))
        trail = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *trails)
        fits, seams = in_order(trail, length, run)
        fits, seams = jax.tree.map(lambda leaf: leaf[: count - at], (fits, seams))
        mended = int(np.sum(seams > _TOLERANCE))
        tally = Tally(runs=1, seams=int(np.sum(seams > 0)), mended=mended)
        no = jnp.zeros((), bool)
        tracked: HostTracked = eqx.tree_at(
            lambda t: (t.fit, t.success, t.detected),
            Tracked(fit=fit, success=no, detected=~no),
            (fits, fits.success, np.zeros(len(seams), bool)),
        )
        return _Run(at, tracked, fits.success & (seams <= _TOLERANCE), tally)

    def _take(self, run: _Run, at: int, pieces: list[HostTracked]) -> int:
        """Accepts the frames of a run from `at` on as far as they are linked."""
        stop = run.usable(at)
        if stop > at:
            rows = slice(at - run.start, stop - run.start)
            pieces.append(jax.tree.map(lambda leaf: leaf[rows], run.tracked))
            last = jax.tree.map(lambda leaf: jnp.asarray(leaf[stop - 1 - run.start]), run.tracked)
            self._state = TrackState(
                fit=last.fit, initialised=jnp.ones((), bool), failures=jnp.full((), -1, jnp.int32)
            )
        return stop

    def _follow(
        self, fits: Fit, firsts: np.ndarray, phase: int, steps: int, size: Array
    ) -> HostTracked:
        """Fits as many segments as one thread takes, from given frames on, so many steps."""
        trail = follow_program(
            *(self._model, fits, self._gray, jnp.asarray(firsts), jnp.int32(steps)),
            *(jnp.full(len(firsts), phase, jnp.int32), size, self._config, self._segments),
        )
        return jax.tree.map(np.asarray, trail)  # waits here, so that all threads run at once

    def _track_one(self, frames: UInt8[Array, "c h w 3"], at: int, size: Array) -> HostTracked:
        """Tracks one frame by the whole state machine; the host decides what is run."""
        model, config = self._model, self._config
        progress = start_program(model, self._state, config)
        number = -1
        while number < 0 or (bool(progress.search.active) and number < self._attempts):
            progress, wanted = self._attempt(progress, number, at, size)
            if wanted:
                found = detect_program(model, frames[at], size, config)
                progress = search_program(model, progress, frames[at], found, size, config)
            number += 1
        self._state, tracked = finish_program(model, self._state, progress)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[None], tracked)

    def _attempt(
        self, progress: Progress, number: int, at: int, size: Array
    ) -> tuple[Progress, bool]:
        """Makes one attempt at a frame. Returns also whether the face detector is to run now.

        Args:
            number: -1 tracks from the frame before; from 0 on, of the attempts of a search.
            at: of the frame in its chunk.
            size: height and width of the frame, px.
        """
        model, index = self._model, jnp.int32(number)
        fit, phase, made = begin_program(model, progress, index, self._config)
        if made:
            # A program for one frame would take seconds to compile; the one that steps several
            # segments is there already. So the frame fills all lanes of that one, and the result
            # of the first is taken.
            count = self._segments.count // _threads()
            lanes = jax.tree.map(lambda leaf: jnp.stack([leaf] * count), fit)
            trail = self._follow(lanes, np.full(count, at, np.int32), int(phase), 1, size)
            fit = jax.tree.map(lambda leaf: jnp.asarray(leaf[0, 0]), trail)
        progress, wanted = end_program(model, progress, index, fit, made)
        return progress, bool(wanted)

    def _agrees(self, run: _Run, at: int) -> bool:
        """Whether the run found the frame before `at` where tracking one by one now found it.

        If so, the rest of the run may be accepted from `at` on.
        """
        row = at - 1 - run.start
        if not (run.tracked.success[row] and bool(self._state.fit.success)):
            return False
        landmarks = np.asarray(self._state.fit.landmarks)
        return bool(mean_distance(landmarks, run.tracked.fit.landmarks[row]) <= _TOLERANCE)
