"""Clips that share a CPU: what they track next is put together and stepped as lanes.

Each clip goes through its own chain of generators in a thread of its own. Only the fit of its next
frames is asked for here, where the requests of several clips become one program's lanes: see
`track.run_ahead`. Frames in which a face is found, lost or rejected are tracked by the state
machine, each clip's by itself, so that no clip waits for another's search.

A lane's result depends on its request and on the number of lanes, never on its neighbours.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Int, UInt8

from ..models import Model
from ..pipeline import Config
from ._chunks import HostTracked, Tally, TrackedChunk, UploadedChunk
from ._follow import as_tracked, state_after
from ._images import usable_cores
from ._programs import ahead_program, first_track_state, gray_program, track_chunk

_MOST = 4  # lanes of one program: more gain little on a CPU, and wait for one another
_LANE_BYTES = 8 << 20  # of the frames of a chunk; some chunks of each lane are under way
_PATIENCE = 0.1  # s that requests wait for others; a program of four lanes takes as long
_CHUNK = 8  # frames that a lane is tracked through in one call


class LanePlan(NamedTuple):
    """How a number of lanes is spread over programs and threads."""

    lanes: int  # clips under way
    width: int  # lanes of one program; follows from `lanes` alone, as a clip's bits depend on it
    workers: int  # programs that run at a time


def plan_lanes(lanes: int) -> LanePlan:
    """How this machine steps through so many clips at a time."""
    if jax.default_backend() != "cpu":
        return LanePlan(lanes, lanes, 1)
    width = min(max(lanes // 2, 1), _MOST)
    return LanePlan(lanes, width, max(min(usable_cores(), lanes // width), 1))


def choose_lanes(clips: int, cores: int) -> int:
    """Clips to follow at a time, as a batch of so many is fastest on so many cores of a CPU.

    A power of two, so that few programs are ever compiled: 1 for a single clip, and at most four
    for each core, but two cores' at least.
    """
    most = _MOST * max(cores, 2)
    return 1 << (max(min(clips, most), 1).bit_length() - 1)


def lane_chunk(pixels: int) -> int:
    """Frames in a chunk of a lane, as memory allows.

    Args:
        pixels: of a frame's array.
    """
    return int(np.clip(_LANE_BYTES // (3 * pixels), 1, _CHUNK))


class _Request(NamedTuple):
    """One lane's next frames."""

    fit: Any  # Fit of NumPy arrays
    gray: UInt8[Array, "t h2 w2"] | UInt8[Array, "t l"]
    frames: int
    size: Int[np.ndarray, "2"]
    reply: Future


class LaneTracker:
    """Follows the faces of several clips, each asked for by a thread of its own.

    A context manager: its threads end with the block.
    """

    def __init__(self, model: Model, config: Config, plan: LanePlan):
        self._model, self._config, self.plan = model, config, plan
        self._first = first_track_state(model)
        self._pending: list[_Request] = []
        self._changed = threading.Condition()
        self._coming = 0  # lanes that are being answered, or will ask soon
        self._answering = 0
        # Each search takes memory while it runs, and more at a time than cores gain nothing.
        self._searching = threading.BoundedSemaphore(plan.workers)
        self._closed = False

    def __enter__(self) -> "LaneTracker":
        self._pool = ThreadPoolExecutor(self.plan.workers, "lanes")
        for _ in range(self.plan.workers):
            self._pool.submit(self._serve)
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._pool.shutdown()

    @contextlib.contextmanager
    def seat(self) -> Iterator[None]:
        """While a clip goes through its chain: others wait for its next frames."""
        self._come(1)
        try:
            yield
        finally:
            self._come(-1)

    def track(self, chunks: Iterable[UploadedChunk]) -> Iterator[TrackedChunk]:
        """Follows one face through a clip, within a `seat`: `track_in_turn` for one of several."""
        state: Any = jax.tree.map(np.asarray, self._first)
        for chunk in chunks:
            count = len(chunk.indices)
            rows, end = self._run_ahead(state, chunk, count)
            if end:
                state = state_after(self._first, jax.tree.map(lambda x, i=end - 1: x[i], rows.fit))
            rows = jax.tree.map(lambda leaf, n=end: leaf[:n], rows)
            if end < count:
                state, rows = self._track_rest(state, chunk, rows, end)
            tally = Tally(frames=count, one_by_one=count - end)
            yield TrackedChunk(chunk.frames, chunk.camera, chunk.indices, rows, tally)

    def _come(self, more: int) -> None:
        with self._changed:
            self._coming += more
            self._changed.notify_all()

    def _run_ahead(self, state: Any, chunk: UploadedChunk, count: int) -> tuple[HostTracked, int]:
        """Rows as if all fits were accepted, and how many of them count."""
        if not (state.initialised and state.fit.success):
            none = jax.tree.map(lambda leaf: np.zeros((0, *leaf.shape), leaf.dtype), state.fit)
            return as_tracked(self._first, none), 0
        gray = gray_program(chunk.frames)
        request = _Request(state.fit, gray, count, np.asarray(chunk.size), Future())
        with self._changed:
            self._pending.append(request)
            self._changed.notify_all()
        fits = request.reply.result()
        success = fits.success[:count]
        end = count if success.all() else int(np.argmin(success))
        return as_tracked(self._first, fits), end

    def _track_rest(
        self, state: Any, chunk: UploadedChunk, rows: HostTracked, end: int
    ) -> tuple[Any, HostTracked]:
        """Goes on with the state machine; the other lanes do not wait for that."""
        count = len(chunk.indices)
        place = np.arange(len(chunk.frames))
        valid: Bool[np.ndarray, " c"] = (place >= end) & (place < count)
        self._come(-1)
        try:
            with self._searching:
                after, tracked = track_chunk(
                    *(self._model, state, chunk.frames, valid, chunk.size, chunk.plan),
                    self._config,
                )
                state, tracked = jax.tree.map(np.asarray, (after, tracked))
        finally:
            self._come(1)
        rest = jax.tree.map(lambda leaf: leaf[end:count], tracked)
        return state, jax.tree.map(lambda *leaves: np.concatenate(leaves), rows, rest)

    def _serve(self) -> None:
        while (batch := self._take()) is not None:
            try:
                found = self._call(batch)
            except Exception as error:  # each clip reports it as its own
                for request in batch:
                    request.reply.set_exception(error)
            else:
                for request, fits in zip(batch, found, strict=True):
                    request.reply.set_result(fits)
            with self._changed:
                self._answering -= len(batch)

    def _take(self) -> list[_Request] | None:
        """Requests that fill a program, or all that can be had. None at the end."""
        with self._changed:
            patient = True
            while not self._closed:
                if batch := self._choose(patient):
                    taken = {id(request) for request in batch}
                    self._pending = [r for r in self._pending if id(r) not in taken]
                    self._answering += len(batch)
                    return batch
                # A clip that is long in coming, from a slow disk, holds nobody up.
                patient = self._changed.wait(_PATIENCE if self._pending else None)
            return None

    def _choose(self, patient: bool) -> list[_Request]:
        """Requests for arrays of one size: enough for a program, or all that will come soon."""
        by_size: dict[tuple[int, ...], list[_Request]] = {}
        for request in self._pending:
            by_size.setdefault(request.gray.shape, []).append(request)
        fullest = max(by_size.values(), key=len, default=[])
        others = self._coming - self._answering - len(self._pending)
        enough = len(fullest) >= self.plan.width or not patient or others <= 0
        return fullest[: self.plan.width] if enough else []

    def _call(self, batch: list[_Request]) -> list[Any]:
        """Fits of each request, a row for each frame."""
        filled = [*batch, *batch[:1] * (self.plan.width - len(batch))]
        steps = filled[0].gray.shape[0]
        rows = np.arange(len(filled) * steps, dtype=np.int32).reshape(len(filled), steps).T
        counts = np.array([r.frames for r in batch] + [0] * (len(filled) - len(batch)))
        valid = np.arange(steps)[:, None] < counts[None]
        fits = jax.tree.map(lambda *leaves: np.stack(leaves), *(r.fit for r in filled))
        sizes = np.stack([r.size for r in filled])
        grays = tuple(r.gray for r in filled)
        found = ahead_program(self._model, fits, grays, rows, valid, sizes, self._config)
        found = jax.tree.map(np.asarray, found)
        return [
            jax.tree.map(lambda leaf, lane=lane: leaf[:, lane], found) for lane in range(len(batch))
        ]
