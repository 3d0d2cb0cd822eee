"""Many clips at once, spread over devices."""

import inspect
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Int, UInt8

from ..io import Chunk, canvas_size, check_camera, pad_to_canvas
from ..models import Model
from ..ops import select
from ..pipeline import (
    ClipFace,
    ClipState,
    Config,
    Person,
    default_config,
    prepare_model,
    start_person,
)
from ..track import Tracked, TrackState, start_track
from ..types import Camera
from ._checks import AnyImage, refuse_tracers
from ._clip import (
    Clip,
    MeasuredChunk,
    collect_clip,
    end_history,
    lens_of,
    open_clip,
    read_chunks,
    to_rows,
)
from ._programs import Extras, compiled, first_track_state, measure_chunk, track_chunk
from ._results import Analysis
from ._tables import FaceBatch

_AXIS = "clips"  # of the mesh: one clip per device
_EACH, _ALL = PartitionSpec(_AXIS), PartitionSpec()
_Device = Any  # jax.Device, which type checkers take for a variable
_Result = tuple[int, Analysis | Exception]  # with the clip's number


def analyze_batch(
    model: Model,
    videos: Sequence[str | Path | Iterable[AnyImage]],
    *,
    fps: float | None = None,
    camera: Camera | None = None,
    config: Config | None = None,
    extras: Extras = Extras(),
    devices: Sequence[_Device] | None = None,
) -> list[Analysis | Exception]:
    """Analyses many clips of one face each, as many at a time as there are devices.

    Each device follows a clip of its own through `analyze_video`'s programs, so the results are
    those of `analyze_video`; when its clip ends it takes the next. Clips whose frames have the
    same canvas are taken together, as only they share a program.

    Args:
        model: see `load_model`.
        videos: video files, folders of images, or RGB frames (h, w, 3), 0 to 255.
        fps: of all clips; by default the files'.
        camera: of all clips; by default OpenFace's guess from each frame size.
        config: settings; by default `default_config(model)`.
        extras: large arrays to bring back.
        devices: by default all of JAX's default backend.
    Returns:
        For each clip, in order, its analysis, or what `analyze_video` would have raised for it.
    Raises:
        ValueError: `devices` is empty.
        TypeError: it is traced by jax.jit or another transformation.
    """
    refuse_tracers("analyze_batch", model, videos, camera)
    devices = jax.devices() if devices is None else devices
    if not len(devices):
        raise ValueError("devices: expected at least one, got none: leave it out to use all")
    camera = check_camera(camera)  # one that is wrong for all clips fails at once
    config = default_config(model) if config is None else config
    results: list[Any] = [None] * len(videos)
    clips: list[tuple[int, Clip]] = []
    model = prepare_model(model, config)
    for number, video in enumerate(videos):
        try:
            clip = open_clip(model, video, fps=fps, camera=camera, config=config, extras=extras)
            clips.append((number, clip))
        except Exception as error:  # of this clip alone
            results[number] = error
    clips.sort(key=lambda clip: clip[1].canvas)
    followed = _Devices(model, config, extras, devices)
    for number, result in followed.run(clips):
        results[number] = result
    return results


class _Followed:
    """The clip that a device follows."""

    def __init__(self, number: int, clip: Clip):
        self.number, self.clip = number, clip
        self.chunks = read_chunks(clip)
        self.batches: list[FaceBatch] = []


class _Devices:
    """Takes clips through the devices, a chunk of each at a time."""

    def __init__(self, model: Model, config: Config, extras: Extras, devices: Sequence[_Device]):
        self._config, self._extras = config, extras
        self._mesh = Mesh(np.array(devices), (_AXIS,))
        self._followed: list[_Followed | None] = [None] * len(devices)
        arrays, static = eqx.partition(jax.tree.map(jnp.asarray, model), eqx.is_array)
        state = ClipState(track=first_track_state(model), person=start_person(model))
        states = jax.tree.map(lambda leaf: np.stack([leaf] * len(devices)), state)
        self._model: Model = eqx.combine(self._put(arrays, _ALL), static)
        self._states: ClipState = self._put(states, _EACH)

    def _put(self, tree: Any, where: PartitionSpec) -> Any:
        return jax.device_put(tree, NamedSharding(self._mesh, where))

    def run(self, clips: Iterable[tuple[int, Clip]]) -> Iterator[_Result]:
        """Yields the number and the result of each clip as it ends."""
        waiting = iter(clips)
        while True:
            work: dict[int, Chunk] = {}
            for place in range(len(self._followed)):
                chunk = yield from self._next_chunk(place, waiting)
                if chunk is not None:
                    work[place] = chunk
            if not work:
                return
            shapes = sorted({chunk.frames.shape for chunk in work.values()})
            canvases = dict.fromkeys(canvas_size(*shape[1:3]) for shape in shapes)
            for canvas in canvases:
                self._analyze(
                    {
                        place: chunk
                        for place, chunk in work.items()
                        if canvas_size(*chunk.frames.shape[1:3]) == canvas
                    }
                )

    def _next_chunk(
        self, place: int, waiting: Iterator[tuple[int, Clip]]
    ) -> Generator[_Result, None, Chunk | None]:
        """The next frames of a device, of its clip or of a new one; yields clips that ended."""
        while True:
            followed = self._followed[place]
            if followed is None:
                if (clip := next(waiting, None)) is None:
                    return None
                followed = self._followed[place] = _Followed(*clip)
            try:
                chunk = next(followed.chunks, None)
                if chunk is not None:
                    return chunk
                result = self._finish(place, followed)
            except Exception as error:  # of this clip alone
                result = error
            self._followed[place] = None
            yield followed.number, result

    def _finish(self, place: int, followed: _Followed) -> Analysis:
        batches = followed.batches
        if batches:
            person = jax.tree.map(lambda leaf: np.asarray(leaf[place]), self._states.person)
            batches = [*batches[:-1], end_history(followed.clip, batches[-1], person)]
        return collect_clip(followed.clip, batches)

    def _analyze(self, work: dict[int, Chunk]) -> None:
        """Analyses one chunk on each of some devices; the frames have one canvas."""
        count = len(self._followed)
        padded = {place: pad_to_canvas(chunk.frames) for place, chunk in work.items()}
        some = next(iter(work))
        frames = np.zeros((count, *padded[some][0].shape), np.uint8)
        valid = np.zeros((count, len(work[some].frames)), bool)
        sizes = np.full((count, 2), padded[some][1], np.int32)
        fresh = np.zeros(count, bool)
        cameras: list[Camera] = [lens_of(self._at(some).clip, work[some])] * count
        for place, chunk in work.items():
            frames[place], sizes[place] = padded[place]
            valid[place], fresh[place] = chunk.valid, not self._at(place).batches
            cameras[place] = lens_of(self._at(place).clip, chunk)
        camera = jax.tree.map(lambda *leaves: np.stack(leaves), *cameras)
        inputs = self._put((fresh, frames, valid, sizes, camera), _EACH)
        faces = self._call(*inputs)
        for place, chunk in work.items():
            mine = jax.tree.map(lambda leaf, p=place, v=chunk.valid: leaf[p][v], faces)
            followed = self._at(place)
            measured = MeasuredChunk(mine, chunk.indices[chunk.valid])
            followed.batches.append(to_rows(followed.clip, measured))

    def _call(self, fresh: Array, frames: Array, valid: Array, sizes: Array, camera: Camera) -> Any:
        """Faces on the host, by device and frame."""
        mesh, model, config, states = self._mesh, self._model, self._config, self._states
        track, tracked = track_on_each(
            mesh, model, states.track, fresh, frames, valid, sizes, config
        )
        person, faces = measure_on_each(
            *(mesh, model, states.person, fresh, frames, valid, tracked, camera, config),
            self._extras,
        )
        self._states = ClipState(track=track, person=person)
        return jax.tree.map(np.asarray, faces)

    def _at(self, place: int) -> _Followed:
        followed = self._followed[place]
        assert followed is not None  # only devices with a chunk are asked for
        return followed


@compiled
def track_on_each(
    mesh: Mesh,
    model: Model,
    states: TrackState,
    fresh: Bool[Array, " d"],
    frames: UInt8[Array, "d c h w 3"],
    valid: Bool[Array, "d c"],
    sizes: Int[Array, "d 2"],
    config: Config,
) -> tuple[TrackState, Tracked]:
    """`track_chunk` on each device; `fresh` starts a new clip."""

    def track(model, state, fresh, *chunk):
        start = select(fresh, start_track(model.clnf), state)
        return inspect.unwrap(track_chunk)(model, start, *chunk, config)

    return _on_each(mesh, track, model, states, fresh, frames, valid, sizes)


@compiled
def measure_on_each(
    mesh: Mesh,
    model: Model,
    persons: Person,
    fresh: Bool[Array, " d"],
    frames: UInt8[Array, "d c h w 3"],
    valid: Bool[Array, "d c"],
    tracked: Tracked,
    camera: Camera,
    config: Config,
    extras: Extras,
) -> tuple[Person, ClipFace]:
    """`measure_chunk` on each device; `fresh` starts a new clip."""

    def measure(model, person, fresh, frames, valid, tracked, camera):
        start = select(fresh, start_person(model), person)
        # What fills a chunk up is a failed frame, as in `measure_chunks`.
        failed = jax.tree.map(jnp.zeros_like, tracked)
        tracked = jax.vmap(select)(valid, tracked, failed)
        chunk = frames, valid, tracked, camera
        return inspect.unwrap(measure_chunk)(model, start, *chunk, config, extras)

    return _on_each(mesh, measure, model, persons, fresh, frames, valid, tracked, camera)


def _on_each(mesh: Mesh, function: Callable, model: Model, *states: Any) -> Any:
    """Calls a function on each device with its row of `states`; no device waits for another."""
    arrays, static = eqx.partition(model, eqx.is_array)

    def local(arrays: Model, *states: Any) -> Any:
        mine = jax.tree.map(lambda leaf: leaf[0], states)
        result = function(eqx.combine(arrays, static), *mine)
        return jax.tree.map(lambda leaf: leaf[None], result)

    return _shard_map(local, mesh, (_ALL, *[_EACH] * len(states)))(arrays, *states)


def _shard_map(function: Callable, mesh: Mesh, inputs: tuple[PartitionSpec, ...]) -> Callable:
    """`jax.shard_map` without its check of what is replicated: nothing is but the model."""
    if hasattr(jax, "shard_map"):
        return jax.shard_map(function, mesh=mesh, in_specs=inputs, out_specs=_EACH, check_vma=False)
    from jax.experimental.shard_map import shard_map  # before JAX 0.6

    return shard_map(function, mesh, inputs, _EACH, check_rep=False)
