"""Clips: from frames to a table of results, as one chain of generators.

Each takes what the one before it gives: frames, chunks of them, chunks on the device, tracked
faces, measured faces, rows. None writes into another: what is needed further down the chain goes
along with the chunk, and so does the history for the second pass, which gives the action units of
a clip at its end.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from ..analyze import postprocess_clip, repredict_clip, widen_baseline
from ..io import (
    Chunk,
    SequenceReader,
    as_camera,
    canvas_size,
    check_camera,
    chunks,
    clip_length,
    open_frames,
)
from ..models import Model
from ..output import CsvKind, UnitNames
from ..pipeline import SLOTS, Config, Person, default_config, prepare_model
from ..track import Tracked
from ..types import Camera
from ._checks import AnyImage, check_frames, check_rate, refuse_tracers
from ._chunks import HostTracked, Tally, TrackedChunk, UploadedChunk
from ._follow import segments_for, track_at_once, track_in_turn
from ._lanes import LaneTracker, lane_chunk
from ._origin import origin_of
from ._programs import (
    Extras,
    final_medians,
    first_person,
    first_several_state,
    first_track_state,
    measure_chunk,
    several_chunk,
)
from ._progress import Progress, shown
from ._results import Analysis
from ._tables import (
    FaceBatch,
    History,
    HostFace,
    join_batches,
    to_batch,
    to_camera,
    unit_heads,
    unit_names,
)
from ._upload import upload

T = TypeVar("T")

_SHORT = np.dtype(np.uint16)  # what a person's frames are counted in, until there are too many
_CHUNK = 8  # frames in one compiled call where they are not tracked at once
_CHUNK_BYTES = 24 << 20  # of them: some chunks are under way


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip that is to be analysed: its frames, and what is set for it. See `open_clip`."""

    model: Model  # prepared for `config`
    frames: Iterable[AnyImage]  # RGB, 0 to 255
    kind: CsvKind  # video: one face; multi_face
    config: Config
    camera: Camera | None  # px; None for OpenFace's guess from the frame size
    timestamp: Callable[[int], float]  # of the frame with an index from 0, s
    extras: Extras
    at_once: bool
    lost: Collection[int] = frozenset()  # indices of frames that stand for unreadable ones
    lanes: LaneTracker | None = None  # that clips of one face share

    def in_lanes(self, lanes: LaneTracker) -> "Clip":
        """The clip with its face tracked together with those of other clips."""
        return dataclasses.replace(self, lanes=lanes)

    @property
    def units(self) -> UnitNames:
        """Action units that the model knows, in the order of their columns."""
        return unit_names(self.model, self.config)

    @property
    def count(self) -> int | None:
        """Number of frames, if it is known before: a video file may hold more or fewer."""
        count = getattr(self.frames, "count", None)
        if isinstance(count, int):
            return count
        return len(self.frames) if isinstance(self.frames, Sized) else None

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width of the canvas of the frames, px; 0 where nothing tells before."""
        height, width = (getattr(self.frames, name, 0) for name in ("height", "width"))
        return canvas_size(height, width) if height and width else (0, 0)


class MeasuredChunk(NamedTuple):
    """Everything measured on the face of some frames."""

    faces: HostFace
    indices: Int[np.ndarray, " n"]  # of the frames in the clip, from 0
    tally: Tally = Tally()
    person: Person | None = None  # what was learnt about the person; with the last frames alone


def open_clip(
    model: Model,
    video: str | Path | Iterable[AnyImage],
    *,
    fps: float | None = None,
    timestamp: Callable[[int], float] | None = None,
    lost: Collection[int] = frozenset(),
    camera: Camera | None = None,
    faces: str = "one",
    config: Config | None = None,
    extras: Extras = Extras(),
    at_once: bool = False,
) -> Clip:
    """Opens a file, a folder or frames for `analyze_chunks`. See `analyze_video`.

    Args:
        timestamp: time of the frame with an index from 0, s; by default from `fps`.
        lost: indices of frames whose rows are failed ones, whatever is found in them: those that
            stand for unreadable pictures of a folder. It may be filled in as frames are read.
    """
    if faces not in ("one", "all"):
        raise ValueError(f'faces must be "one" or "all", got {faces!r}')
    check_rate(fps)
    if config is None:
        config = default_config(model, static_action_units=faces == "all")
    model = prepare_model(model, config)
    if isinstance(video, str | Path):
        video = open_frames(video)
        timestamp = video.timestamp if timestamp is None and fps is None else timestamp
        lost = video.lost if isinstance(video, SequenceReader) else lost
    elif not isinstance(video, Iterable):
        got = f"{video!r}; cameras are not read"
        raise ValueError(f"video: expected a file, a folder or RGB frames, got {got}")
    if timestamp is None:
        timestamp = (lambda index: index * (1.0 / fps)) if fps else (lambda index: 0.0)
    return Clip(
        model=model,
        frames=video,
        kind="video" if faces == "one" else "multi_face",
        config=config,
        camera=check_camera(camera),
        timestamp=timestamp,
        extras=extras,
        at_once=at_once,
        lost=lost,
    )


def analyze_video(
    model: Model,
    video: str | Path | Iterable[AnyImage],
    *,
    faces: str = "one",
    camera: Camera | None = None,
    fps: float | None = None,
    config: Config | None = None,
    extras: Extras = Extras(),
    at_once: bool = False,
    progress: Progress = False,
) -> Analysis:
    """Analyses a clip: everything that OpenFace's `FeatureExtraction` writes.

    Args:
        model: see `load_model`.
        video: a video file, a folder of images, or RGB frames (h, w, 3), 0 to 255.
        faces: "one" tracks the widest face with action units adapted to the person; "all"
            tracks up to four with those of the image model.
        camera: intrinsics, px; by default OpenFace's guess from the frame size.
        fps: frames per second, by default the file's; 0 gives timestamps of 0.
        config: settings; by default `default_config(model)`.
        extras: large arrays to bring back.
        at_once: track many frames at once where one face is tracked. Faster; landmarks differ by
            the noise of the fit, 0.02 px, and weak action units follow it.
        progress: true shows a bar; a function is called after every few frames with the number
            of frames that are done and with that of all, or None where it is not known. A video
            file may hold more or fewer frames than it says.
    Returns:
        One row per frame, or per face and frame.
    Raises:
        InputError: the file cannot be read.
        ValueError: there is no frame, or one is not an RGB image, or a setting makes no sense.
        TypeError: it is traced by jax.jit or another transformation.
    """
    refuse_tracers("analyze_video", model, video, camera)
    clip = open_clip(
        model,
        video,
        fps=fps,
        camera=camera,
        faces=faces,
        config=config,
        extras=extras,
        at_once=at_once,
    )
    return collect_clip(clip, list(shown(analyze_chunks(clip), progress, clip.count)))


def analyze_chunks(clip: Clip) -> Iterator[FaceBatch]:
    """Analyses a clip chunk by chunk, in memory that does not grow with the frames.

    A chunk is tracked while a thread reads the next and another measures the one before; where
    several clips go on side by side, each has one thread and one chunk for all three.

    Args:
        clip: see `open_clip`.
    Returns:
        The rows of each chunk. With one face per clip they lack their action units, which
        `second_pass` gives for the histories of all.
    Raises:
        ValueError: a frame is not an RGB image.
    """
    pieces = read_chunks(clip)
    if clip.kind == "multi_face":
        return follow_several(clip, pieces)
    uploaded = upload_chunks(clip, pieces)
    if clip.lanes is not None:
        measured = measure_in_turn(clip, clip.lanes.track(uploaded))
    else:
        tracked = track_chunks(clip, _get_ready_to_measure(clip, ahead(uploaded)))
        measured = measure_chunks(clip, tracked)
    return (to_rows(clip, chunk) for chunk in measured)


def collect_clip(clip: Clip, batches: Sequence[FaceBatch], *, lanes: int = 1) -> Analysis:
    """All rows of a clip as one table, with their action units.

    Args:
        clip: that was analysed.
        batches: all that `analyze_chunks` gave.
        lanes: in which clips were followed at a time.
    Raises:
        ValueError: there was no frame.
    """
    if not batches:
        raise ValueError("video: expected at least one frame, got none")
    action_units = second_pass(clip, [batch.history for batch in batches])
    origin = origin_of(clip.frames, clip.camera)
    return join_batches(clip.kind, clip.units, batches, action_units, lanes=lanes, origin=origin)


def read_chunks(clip: Clip) -> Iterator[Chunk]:
    """Chunks as long as memory allows; of one length for frames of one size."""
    frames = check_frames(clip.frames)
    for first in frames:
        size = first.shape[:2]
        pixels = clip_length(*size) or math.prod(canvas_size(*size))
        length = max(min(_CHUNK, _CHUNK_BYTES // (3 * pixels)), 1)
        if clip.kind == "video" and clip.lanes is not None:
            length = lane_chunk(pixels)
        elif clip.kind == "video" and clip.at_once:
            length = segments_for(pixels).frames
        yield from chunks(itertools.chain([first], frames), length)


def upload_chunks(clip: Clip, pieces: Iterable[Chunk]) -> Iterator[UploadedChunk]:
    """Puts the frames of each chunk on the device."""
    for chunk in pieces:
        frames, size, plan = upload(clip.model, clip.config, chunk)
        yield UploadedChunk(frames, size, plan, lens_of(clip, chunk), chunk.indices[chunk.valid])


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Takes the next item in a thread of its own while the caller works on the one before."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def _get_ready_to_measure(clip: Clip, uploaded: Iterator[UploadedChunk]) -> Iterator[UploadedChunk]:
    """Loads or compiles the program that measures while the first chunk waits for its tracker."""
    first = next(uploaded, None)
    if first is None:
        return
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_measure_nothing, clip, first)  # what fails here fails again where it counts
        yield first
        del first
        yield from uploaded


def _measure_nothing(clip: Clip, chunk: UploadedChunk) -> None:
    """Measures a chunk as if no face had been tracked, unless its program is there already."""
    room = len(chunk.frames)
    fit = first_track_state(clip.model).fit
    missing = Tracked(fit=fit, success=fit.success, detected=fit.success)
    tracked: HostTracked = jax.tree.map(
        lambda leaf: np.zeros((room, *leaf.shape), leaf.dtype), missing
    )
    arguments = _to_measure(clip, first_person(clip.model, _SHORT), chunk, tracked, 0)
    if not measure_chunk.knows(*arguments):
        measure_chunk(*arguments)


def track_chunks(clip: Clip, uploaded: Iterator[UploadedChunk]) -> Iterator[TrackedChunk]:
    """Finds and follows the face."""
    track = track_at_once if clip.at_once else track_in_turn
    return track(clip.model, clip.config, uploaded)


def measure_in_turn(clip: Clip, tracked: Iterator[TrackedChunk]) -> Iterator[MeasuredChunk]:
    """Measures the face of each chunk before the next is tracked."""
    person = first_person(clip.model, _SHORT)
    measured: MeasuredChunk | None = None
    for chunk in tracked:
        if measured is not None:
            yield measured
        person, measured = _measure(clip, person, chunk)
        del chunk  # its frames go before the next are read
    if measured is not None:
        yield measured._replace(person=person)


def measure_chunks(clip: Clip, tracked: Iterator[TrackedChunk]) -> Iterator[MeasuredChunk]:
    """Measures the face in a thread of its own while the next chunk is tracked."""
    with ThreadPoolExecutor(1) as thread:
        before: Future[tuple[Person, MeasuredChunk]] | None = None

        def measure(
            before: Future[tuple[Person, MeasuredChunk]] | None, chunk: TrackedChunk
        ) -> tuple[Person, MeasuredChunk]:
            known = first_person(clip.model, _SHORT) if before is None else before.result()[0]
            return _measure(clip, known, chunk)

        for chunk in tracked:
            job = thread.submit(measure, before, chunk)
            del chunk  # its frames are held by the job alone, and gone with it
            if before is not None:
                yield before.result()[1]
            before = job
        if before is not None:
            person, last = before.result()
            yield last._replace(person=person)


def _measure(clip: Clip, person: Person, chunk: TrackedChunk) -> tuple[Person, MeasuredChunk]:
    """Everything after the landmarks, and what is known about the person after these frames."""
    count = len(chunk.indices)
    person = with_room(person, len(chunk.frames))
    person, faces = measure_chunk(*_to_measure(clip, person, chunk, chunk.tracked, count))
    faces = jax.tree.map(lambda leaf: np.asarray(leaf)[:count], faces)
    return person, MeasuredChunk(faces, chunk.indices, chunk.tally)


def with_room(person: Person, frames: int) -> Person:
    """A person whose histograms can count so many frames more, whatever was counted before."""
    bins = person.baseline.fhog.fine.dtype
    if bins != _SHORT or int(person.baseline.counted) + frames <= np.iinfo(_SHORT).max:
        return person
    return dataclasses.replace(person, baseline=widen_baseline(person.baseline))


def _to_measure(
    clip: Clip,
    person: Person,
    chunk: UploadedChunk | TrackedChunk,
    tracked: HostTracked,
    count: int,
) -> tuple[Any, ...]:
    """Arguments of `measure_chunk` for the first `count` frames of a chunk."""
    room = len(chunk.frames)
    # What fills the chunk up is a failed frame: others would enter the person's medians.
    padded: HostTracked = jax.tree.map(
        lambda x: np.concatenate([x[:count], np.zeros((room - count, *x.shape[1:]), x.dtype)]),
        tracked,
    )
    valid = np.arange(room) < count
    chunk_arguments = (chunk.frames, valid, padded, chunk.camera)
    return clip.model, person, *chunk_arguments, clip.config, clip.extras


def to_rows(clip: Clip, chunk: MeasuredChunk) -> FaceBatch:
    """Rows of one face, with the history for the second pass."""
    times = _times(clip, chunk.indices)
    ids = np.zeros(len(chunk.indices), np.int64)
    batch = to_batch(
        *(chunk.faces, chunk.indices + 1, ids, times), tally=chunk.tally, second_pass=True
    )
    batch = _fail(batch, np.isin(chunk.indices, [*clip.lost]))
    return batch if chunk.person is None else end_history(clip, batch, chunk.person)


def _fail(batch: FaceBatch, lost: Bool[np.ndarray, " n"]) -> FaceBatch:
    """Rows of one face, of which some are of pictures that could not be read."""
    assert batch.history is not None  # as in all rows of one face
    if not lost.any():
        return batch
    table, accepted = batch.table, batch.accepted & ~lost
    confidence = np.where(lost, np.zeros_like(table.confidence), table.confidence)
    table = dataclasses.replace(table, success=table.success & ~lost, confidence=confidence)
    history = batch.history._replace(accepted=accepted)
    return batch._replace(table=table, accepted=accepted, history=history)


def end_history(clip: Clip, batch: FaceBatch, person: Person) -> FaceBatch:
    """The last rows of a clip, with the medians that the second pass predicts with."""
    assert batch.history is not None  # as in all rows of one face
    if clip.config.static_action_units:
        return batch
    medians = np.asarray(final_medians(person))
    return batch._replace(history=batch.history._replace(medians=medians))


def second_pass(
    clip: Clip, histories: Iterable[History | None]
) -> tuple[Float[np.ndarray, "n u"], Float[np.ndarray, "n c"]] | None:
    """Action units of all rows of a clip.

    Args:
        clip: that was analysed.
        histories: of all batches that `analyze_chunks` gave.
    Returns:
        Intensity and presence of every row; None where the rows have them, with several faces.
    Raises:
        ValueError: the last batch is missing.
    Reference:
        Specification 03, C.5.
    """
    known = [history for history in histories if history is not None]
    if clip.kind != "video" or not known:
        return None
    intensity, presence, scores, decisions, accepted = (
        np.concatenate(column) for column in zip(*(h[:-1] for h in known), strict=True)
    )
    dynamic = not clip.config.static_action_units
    units = unit_heads(clip.model, clip.config)
    if dynamic:
        medians = known[-1].medians
        if medians is None:
            raise ValueError("histories: expected those of the whole clip, the last is missing")
        intensity, presence = repredict_clip(
            units, intensity, presence, scores, decisions, medians, accepted
        )
    return postprocess_clip(units, intensity, presence, accepted, dynamic=dynamic)


def follow_several(clip: Clip, pieces: Iterable[Chunk]) -> Iterator[FaceBatch]:
    """Tracks and measures up to four faces. Their rows have their action units."""
    state = first_several_state(clip.model)
    for chunk in pieces:
        frames, size, plan = upload(clip.model, clip.config, chunk)
        state, found = several_chunk(
            *(clip.model, state, frames, jnp.asarray(chunk.valid), size, plan),
            *(lens_of(clip, chunk), clip.config, clip.extras),
        )
        rows: Bool[np.ndarray, "c slots"] = np.asarray(found.active) & chunk.valid[:, None]
        rows &= ~np.isin(chunk.indices, [*clip.lost])[:, None]
        faces: HostFace = jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf)[rows], found.faces)
        indices = np.broadcast_to(chunk.indices[:, None], rows.shape)[rows]
        ids = np.broadcast_to(np.arange(SLOTS), rows.shape)[rows]
        tally = Tally(frames=int(chunk.valid.sum()))
        yield to_batch(faces, indices + 1, ids, _times(clip, indices), tally=tally)


def lens_of(clip: Clip, chunk: Chunk) -> Camera:
    """Intrinsics of a chunk's frames."""
    height, width = chunk.frames.shape[1:3]
    return to_camera(as_camera(clip.camera, height=height, width=width))


def _times(clip: Clip, indices: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.array([clip.timestamp(int(index)) for index in indices], np.float64)
