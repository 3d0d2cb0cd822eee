"""Clips spread over devices, and over the lanes of each, which step together.

Every lane has a place, by number: the devices take lanes in turn. All devices run one program, and
none waits for another within it.
"""

import inspect
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Int, UInt8

from ..fit import border_luma
from ..io import pad_to_canvas
from ..models import Model
from ..ops import select, to_gray
from ..pipeline import ClipFace, Config, Person, measure_lanes, start_person, track_lanes
from ..track import Tracked, TrackState, run_ahead
from ..types import Camera, Fit
from ._chunks import HostTracked
from ._clip import (
    Clip,
    MeasuredChunk,
    ahead,
    collect_clip,
    end_history,
    lens_of,
    read_chunks,
    to_rows,
)
from ._follow import as_tracked, state_after
from ._programs import Extras, compiled, first_track_state, measure_chunk, slim, track_chunk
from ._results import Analysis
from ._tables import FaceBatch

_AXIS = "devices"  # of the mesh
_EACH, _ALL = PartitionSpec(_AXIS), PartitionSpec()
_GROUPS = (1, 4, 16)  # lanes of a device that search or are lost, tracked together
_Device = Any  # jax.Device, which type checkers take for a variable
_Result = tuple[int, Analysis | Exception]  # with the clip's number


class _Piece:
    """Some frames of a clip on the device of its lane."""

    def __init__(self, clip: Clip, chunk: Any, device: _Device):
        canvas, self.size = pad_to_canvas(chunk.frames)
        self.frames: Array = jax.device_put(canvas[None], device)  # 1 c h w 3
        self.valid: Bool[np.ndarray, " c"] = chunk.valid
        self.indices: Int[np.ndarray, " n"] = chunk.indices[chunk.valid]
        self.camera = lens_of(clip, chunk)


class _Followed:
    """The clip that a lane follows."""

    def __init__(self, number: int, clip: Clip, device: _Device):
        self.number, self.clip = number, clip
        # A thread of its own decodes and uploads while the devices work on the frames before.
        self.pieces = ahead(_Piece(clip, chunk, device) for chunk in read_chunks(clip))
        self.batches: list[FaceBatch] = []


class Devices:
    """Takes clips through the lanes of devices, a chunk of each at a time."""

    def __init__(
        self,
        model: Model,
        config: Config,
        extras: Extras,
        devices: Sequence[_Device],
        lanes: int,
    ):
        """Places the model.

        Args:
            lanes: on all devices together; rounded up to a multiple of their number.
        """
        self._config, self._extras, self._devices = config, extras, list(devices)
        self._each = -(-lanes // len(devices))
        self._mesh = Mesh(np.array(devices), (_AXIS,))
        self._places = self._each * len(devices)
        self._followed: list[_Followed | None] = [None] * self._places
        arrays, static = eqx.partition(jax.tree.map(jnp.asarray, model), eqx.is_array)
        self._model: Model = eqx.combine(self._put(arrays, _ALL), static)
        self._first = first_track_state(model)
        self._states: list[Any] = [jax.tree.map(np.asarray, self._first)] * self._places
        person = start_person(model)
        shape = (len(devices), self._each)
        self._persons: Person = self._put(
            jax.tree.map(lambda leaf: np.broadcast_to(leaf, shape + leaf.shape), person), _EACH
        )
        self._nothing: dict[tuple[int, ...], list[Array]] = {}

    def _put(self, tree: Any, where: PartitionSpec) -> Any:
        return jax.device_put(tree, NamedSharding(self._mesh, where))

    def run(self, clips: Iterable[tuple[int, Clip]]) -> Iterator[_Result]:
        """Yields the number and the result of each clip as it ends."""
        waiting = iter(clips)
        while True:
            work: dict[int, _Piece] = {}
            for place in range(self._places):
                piece = yield from self._next_piece(place, waiting)
                if piece is not None:
                    work[place] = piece
            if not work:
                return
            for shape in sorted({piece.frames.shape for piece in work.values()}):
                self._analyze(
                    {p: piece for p, piece in work.items() if piece.frames.shape == shape}
                )

    def _next_piece(
        self, place: int, waiting: Iterator[tuple[int, Clip]]
    ) -> Generator[_Result, None, _Piece | None]:
        """The next frames of a lane, of its clip or of a new one; yields clips that ended."""
        while True:
            followed = self._followed[place]
            if followed is None:
                if (clip := next(waiting, None)) is None:
                    return None
                device = self._devices[place % len(self._devices)]
                followed = self._followed[place] = _Followed(*clip, device)
                self._states[place] = jax.tree.map(np.asarray, self._first)
            try:
                piece = next(followed.pieces, None)
                if piece is not None:
                    return piece
                result = self._finish(place, followed)
            except Exception as error:  # of this clip alone
                result = error
            self._followed[place] = None
            yield followed.number, result

    def _finish(self, place: int, followed: _Followed) -> Analysis:
        batches = followed.batches
        if batches:
            row = self._row(place)
            person = jax.tree.map(lambda leaf: np.asarray(leaf[row]), self._persons)
            batches = [*batches[:-1], end_history(followed.clip, batches[-1], person)]
        return collect_clip(followed.clip, batches, lanes=self._places)

    def _row(self, place: int) -> tuple[int, int]:
        """Device of a lane, and its number there."""
        lane, device = divmod(place, len(self._devices))
        return device, lane

    def _spread(self, rows: Mapping[int, Any], other: Any) -> Any:
        """Arrays [device, lane, ...] of those of some places, with `other` for the rest."""
        count = len(self._devices)
        all_rows = [rows.get(place, other) for place in range(self._places)]

        def stack(*leaves: Any) -> np.ndarray:
            stacked = np.stack([np.asarray(leaf) for leaf in leaves])
            return stacked.reshape(self._each, count, *stacked.shape[1:]).swapaxes(0, 1)

        return jax.tree.map(stack, *all_rows)

    def _gather(self, work: dict[int, _Piece]) -> tuple[Array, ...]:
        """The frames of each lane number, as arrays whose rows lie on the devices."""
        shape = next(iter(work.values())).frames.shape
        if shape not in self._nothing:
            zeros = np.zeros(shape, np.uint8)
            self._nothing = {shape: [jax.device_put(zeros, device) for device in self._devices]}
        spread = NamedSharding(self._mesh, _EACH)
        count = len(self._devices)
        lanes = []
        for lane in range(self._each):
            pieces = [work.get(lane * count + device) for device in range(count)]
            rows = [
                nothing if piece is None else piece.frames
                for piece, nothing in zip(pieces, self._nothing[shape], strict=True)
            ]
            whole = (count, *shape[1:])
            lanes.append(jax.make_array_from_single_device_arrays(whole, spread, rows))
        return tuple(lanes)

    def _analyze(self, work: dict[int, _Piece]) -> None:
        """Analyses one chunk on each of some lanes; the frames have one canvas."""
        some = next(iter(work.values()))
        frames = self._gather(work)
        nobody = np.zeros_like(some.valid)
        valid = self._spread({p: piece.valid for p, piece in work.items()}, nobody)
        size = np.asarray(some.size, np.int32)
        sizes = {p: np.asarray(piece.size, np.int32) for p, piece in work.items()}
        tracked = self._track(work, frames, valid, self._spread(sizes, size))
        cameras = {p: piece.camera for p, piece in work.items()}
        fresh = {p: np.array(not self._at(p).batches) for p in work}
        self._persons, faces = measure_on_each(
            *(self._mesh, self._model, self._persons),
            *self._put((self._spread(fresh, np.array(False)), frames, valid, tracked), _EACH),
            self._put(self._spread(cameras, some.camera), _EACH),
            *(self._config, self._extras),
        )
        faces = jax.tree.map(np.asarray, faces)
        for place, piece in work.items():
            row = self._row(place)
            mine = jax.tree.map(lambda leaf, r=row, v=piece.valid: leaf[r][v], faces)
            followed = self._at(place)
            measured = MeasuredChunk(mine, piece.indices)
            followed.batches.append(to_rows(followed.clip, measured))

    def _track(
        self, work: dict[int, _Piece], frames: tuple[Array, ...], valid: Any, sizes: Any
    ) -> HostTracked:
        """Outcomes [device, lane, frame]; zeros where a lane has no frame."""
        found = self._run_ahead(work, frames, valid, sizes)
        rest = {p: end for p, (_, end) in found.items() if end < int(work[p].valid.sum())}
        by_device: list[list[int]] = [[] for _ in self._devices]
        for place in sorted(rest):
            by_device[place % len(self._devices)].append(place)
        while any(by_device):
            longest = max(len(places) for places in by_device)
            group = next((g for g in _GROUPS if g >= longest), _GROUPS[-1])
            chosen = [places[:group] for places in by_device]
            by_device = [places[group:] for places in by_device]
            self._track_group(chosen, group, work, frames, rest, found)
        empty = jax.tree.map(np.zeros_like, next(iter(found.values()))[0])
        rows = {
            p: _pad(tracked, piece.valid) for p, piece in work.items() for tracked in [found[p][0]]
        }
        return self._spread(rows, empty)

    def _run_ahead(
        self, work: dict[int, _Piece], frames: tuple[Array, ...], valid: Any, sizes: Any
    ) -> dict[int, tuple[HostTracked, int]]:
        """Each lane's rows as if all fits were accepted, and how many of them count."""
        states = {p: self._states[p] for p in work}
        running = {p for p, s in states.items() if bool(s.initialised & s.fit.success)}
        count = len(next(iter(work.values())).valid)
        if self._each == 1 or not running:  # one lane of a device gives the sequential bits
            none = jax.tree.map(lambda x: np.zeros((count, *x.shape), x.dtype), self._states[0].fit)
            return {p: (as_tracked(self._first, none), 0) for p in work}
        fits = self._spread({p: s.fit for p, s in states.items()}, self._states[0].fit)
        fits = ahead_on_each(
            *(self._mesh, self._model, *self._put((fits, frames, valid, sizes), _EACH)),
            self._config,
        )
        fits = jax.tree.map(np.asarray, fits)
        found = {}
        for place, piece in work.items():
            device, lane = self._row(place)
            mine = jax.tree.map(lambda leaf, d=device, b=lane: leaf[d, :, b], fits)
            goes_on = mine.success & piece.valid & (place in running)
            end = count if goes_on.all() else int(np.argmin(goes_on))
            found[place] = as_tracked(self._first, mine), end
            if end:
                last = jax.tree.map(lambda leaf, i=end - 1: leaf[i], mine)
                self._states[place] = state_after(self._first, last)
        return found

    def _track_group(
        self,
        chosen: list[list[int]],
        group: int,
        work: dict[int, _Piece],
        frames: tuple[Array, ...],
        rest: Mapping[int, int],
        found: dict[int, tuple[HostTracked, int]],
    ) -> None:
        """Goes on with the state machine where lanes of a device search, or are lost."""
        some = next(iter(work))
        count = len(work[some].valid)
        places = [[*mine, *[-1] * (group - len(mine))] for mine in chosen]

        def rows(of: Callable[[int], Any], other: Any) -> Any:
            leaves = [[other if p < 0 else of(p) for p in mine] for mine in places]
            each = [jax.tree.map(lambda *x: np.stack(x), *mine) for mine in leaves]
            return jax.tree.map(lambda *x: np.stack(x), *each)

        def live(place: int) -> Bool[np.ndarray, " c"]:
            return work[place].valid & (np.arange(count) >= rest[place])

        size = np.asarray(work[some].size, np.int32)
        inputs = (
            rows(lambda p: self._states[p], self._states[some]),
            frames,
            rows(lambda p: np.int32(self._row(p)[1]), np.int32(0)),
            rows(live, np.zeros(count, bool)),
            rows(lambda p: np.asarray(work[p].size, np.int32), size),
        )
        states, tracked = track_on_each(
            self._mesh, self._model, *self._put(inputs, _EACH), self._config
        )
        states, tracked = jax.tree.map(np.asarray, (states, tracked))
        for device, mine in enumerate(chosen):
            for row, place in enumerate(mine):
                at: Any = (device, row)
                self._states[place] = jax.tree.map(lambda leaf, at=at: leaf[at], states)
                before = np.arange(count) < rest[place]
                later = jax.tree.map(lambda leaf, at=at: leaf[at], tracked)
                joined = jax.tree.map(
                    lambda a, b, k=before: np.where(k.reshape(-1, *[1] * (a.ndim - 1)), a, b),
                    found[place][0],
                    later,
                )
                found[place] = joined, count

    def _at(self, place: int) -> _Followed:
        followed = self._followed[place]
        assert followed is not None  # only lanes with a chunk are asked for
        return followed


def _pad(tracked: HostTracked, valid: Bool[np.ndarray, " c"]) -> HostTracked:
    """What fills a chunk up is a failed frame, as in `measure_chunks`."""
    return jax.tree.map(
        lambda leaf: np.where(valid.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, np.zeros_like(leaf)),
        tracked,
    )


@compiled
def ahead_on_each(
    mesh: Mesh,
    model: Model,
    fits: Fit,
    frames: tuple[UInt8[Array, "d c h w 3"], ...],
    valid: Bool[Array, "d b c"],
    sizes: Int[Array, "d b 2"],
    config: Config,
) -> Fit:
    """`run_ahead` on each device, [device, frame, lane]."""

    def follow(model, fits, frames, valid, sizes):
        lanes, count = valid.shape
        pool = border_luma(to_gray(jnp.concatenate(frames)))
        rows = np.arange(lanes * count, dtype=np.int32).reshape(lanes, count).T
        return run_ahead(
            *(model.clnf, fits, pool, jnp.asarray(rows), valid.T), sizes=sizes, config=config.fit
        )

    return _on_each(mesh, follow, model, fits, frames, valid, sizes)


@compiled
def track_on_each(
    mesh: Mesh,
    model: Model,
    states: TrackState,
    frames: tuple[UInt8[Array, "d c h w 3"], ...],
    lanes: Int[Array, "d g"],
    valid: Bool[Array, "d g c"],
    sizes: Int[Array, "d g 2"],
    config: Config,
) -> tuple[TrackState, Tracked]:
    """`track_lanes` of some lanes of each device."""

    def track(model, states, frames, lanes, valid, sizes):
        chosen = frames[0][None] if len(frames) == 1 else jnp.stack(frames)[lanes]
        if lanes.shape[0] > 1:
            return track_lanes(
                model, chosen, valid=valid, states=states, sizes=sizes, config=config
            )
        alone = jax.tree.map(lambda leaf: leaf[0], (states, chosen, valid, sizes))
        result = inspect.unwrap(track_chunk)(model, *alone, None, config)
        return jax.tree.map(lambda leaf: leaf[None], result)

    return _on_each(mesh, track, model, states, frames, lanes, valid, sizes)


@compiled
def measure_on_each(
    mesh: Mesh,
    model: Model,
    persons: Person,
    fresh: Bool[Array, "d b"],
    frames: tuple[UInt8[Array, "d c h w 3"], ...],
    valid: Bool[Array, "d b c"],
    tracked: Tracked,
    cameras: Camera,
    config: Config,
    extras: Extras,
) -> tuple[Person, ClipFace]:
    """`measure_lanes` on each device; `fresh` starts a new clip."""

    def measure(model, persons, fresh, frames, valid, tracked, cameras):
        first = start_person(model)
        start = jax.vmap(lambda fresh, person: select(fresh, first, person))(fresh, persons)
        if fresh.shape[0] > 1:
            settings: Any = {"valid": valid, "keep": lambda face: slim(face, extras)}
            chunk = jnp.stack(frames), tracked, cameras
            return measure_lanes(model, start, *chunk, config=config, **settings)
        lane = jax.tree.map(lambda leaf: leaf[0], (start, valid, tracked, cameras))
        result = inspect.unwrap(measure_chunk)(
            *(model, lane[0], frames[0], *lane[1:], config, extras)
        )
        return jax.tree.map(lambda leaf: leaf[None], result)

    return _on_each(mesh, measure, model, persons, fresh, frames, valid, tracked, cameras)


def _on_each(mesh: Mesh, function: Callable, model: Model, *inputs: Any) -> Any:
    """Calls a function on each device with its row of `inputs`; no device waits for another."""
    arrays, static = eqx.partition(model, eqx.is_array)

    def local(arrays: Model, *inputs: Any) -> Any:
        mine = jax.tree.map(lambda leaf: leaf[0], inputs)
        result = function(eqx.combine(arrays, static), *mine)
        return jax.tree.map(lambda leaf: leaf[None], result)

    return _shard_map(local, mesh, (_ALL, *[_EACH] * len(inputs)))(arrays, *inputs)


def _shard_map(function: Callable, mesh: Mesh, inputs: tuple[PartitionSpec, ...]) -> Callable:
    """`jax.shard_map` without its check of what is replicated: nothing is but the model."""
    if hasattr(jax, "shard_map"):
        return jax.shard_map(function, mesh=mesh, in_specs=inputs, out_specs=_EACH, check_vma=False)
    from jax.experimental.shard_map import shard_map  # before JAX 0.6

    return shard_map(function, mesh, inputs, _EACH, check_rep=False)
