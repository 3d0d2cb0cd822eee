"""Clips and images on the host: frames in, tables of results out."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from ..analyze import ActionUnits, postprocess_clip, repredict_clip
from ..io import (
    Chunk,
    as_camera,
    canvas_size,
    check_camera,
    chunks,
    pad_to_canvas,
    read_image,
    read_sequence,
    read_video,
)
from ..models import Model
from ..output import CsvKind, Table, UnitNames
from ..pipeline import (
    SLOTS,
    ClipFace,
    Config,
    SeveralFaces,
    default_config,
    prepare_model,
    start_person,
)
from ..types import Camera
from ._follow import ClipTracker, ScanTracker, Tally, choose_segments
from ._programs import (
    Extras,
    analyze_box,
    detect_program,
    final_medians,
    first_several_state,
    measure_chunk,
    several_chunk,
    slim,
)
from ._results import Analysis, empty_table

Frame = UInt8[np.ndarray, "h w 3"]
HostFace = Any  # a ClipFace whose arrays are NumPy's, where its fields are annotated with JAX's
_CHUNK = 8  # frames in one compiled call where they are not tracked at once
_CHUNK_BYTES = 160 << 20  # of the frames of a chunk with one face


class FaceBatch(NamedTuple):
    """Rows of some frames, in the order of the CSV."""

    table: Table
    accepted: Bool[np.ndarray, " n"]  # by the validator
    fhog: Float[np.ndarray, "n 4464"] | None
    aligned: UInt8[np.ndarray, "n s s 3"] | None


class ClipAnalysis:
    """Analysis of a clip, chunk by chunk, in memory that does not grow with the frames.

    Iterating gives the rows of each chunk. With one face per clip the action units are known
    only at the end: `action_units` then gives them for all rows.
    """

    def __init__(
        self,
        model: Model,
        frames: Iterable[Frame],
        *,
        camera: Camera | None = None,
        timestamp: Callable[[int], float] = lambda index: 0.0,
        faces: str = "one",
        config: Config | None = None,
        extras: Extras = Extras(),
        at_once: bool = False,
    ):
        """Prepares the analysis.

        Args:
            model: see `load_model`.
            frames: RGB, 0 to 255.
            camera: intrinsics, px; by default OpenFace's guess from the frame size.
            timestamp: time of the frame with an index from 0, s.
            faces: "one" tracks the widest face, "all" up to four.
            config: settings; by default OpenFace's.
            extras: large arrays to bring back.
            at_once: track many frames at once where one face is tracked. Faster; landmarks
                differ by the noise of the fit, 0.02 px, and weak action units follow it.
        Raises:
            ValueError: `faces` is neither.
        """
        if faces not in ("one", "all"):
            raise ValueError(f'faces must be "one" or "all", got {faces!r}')
        self.kind: CsvKind = "video" if faces == "one" else "multi_face"
        static = faces == "all"
        self.config = (
            default_config(model, static_action_units=static) if config is None else config
        )
        self.model = prepare_model(model, self.config)
        self._frames = frames
        self._camera = check_camera(camera)
        self._timestamp = timestamp
        self._extras = extras
        self._at_once = at_once
        self._history: list[tuple[np.ndarray, ...]] = []
        self._started = False
        self.tally = Tally()  # how the frames so far were tracked, with one face

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width of the canvas of the frames, px; 0 where nothing tells before."""
        height, width = (getattr(self._frames, name, 0) for name in ("height", "width"))
        return canvas_size(height, width) if height and width else (0, 0)

    def __iter__(self) -> Iterator[FaceBatch]:
        """Analyses the clip. Yields the rows of a chunk after each chunk."""
        self._history.clear()
        self._started = False
        return self._follow_one() if self.kind == "video" else self._follow_several()

    def _follow_one(self) -> Iterator[FaceBatch]:
        """Tracks a chunk while the next is read and the one before is measured."""
        self.person = start_person(self.model)  # compiled, it would hold 28 MB of zeros
        tracker: ClipTracker | ScanTracker | None = None
        uploaded = self._uploaded()
        with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as measuring:
            coming = reading.submit(next, uploaded, None)
            measured: Future[FaceBatch] | None = None
            while (chunk := coming.result()) is not None:
                coming = reading.submit(next, uploaded, None)
                frames, size, lens, indices = chunk
                tracker = tracker or self._tracker()
                tracked = tracker.track(frames, len(indices), size)
                self.tally = tracker.tally
                job = measuring.submit(self._measure, frames, indices, tracked, lens)
                del frames, chunk  # held by the job alone, and gone with it
                if measured is not None:
                    yield measured.result()
                measured = job
            if measured is not None:
                yield measured.result()

    def _tracker(self) -> ClipTracker | ScanTracker:
        if not self._at_once:
            return ScanTracker(self.model, self.config)
        return ClipTracker(self.model, self.config, self._segments)

    def _uploaded(self) -> Iterator[tuple[Array, Array, Camera, np.ndarray]]:
        """Frames of each chunk on the device, their size, the camera and their numbers."""
        for chunk in self.read():
            frames, size = _on_canvas(chunk)
            yield frames, size, self.lens(chunk), chunk.indices[chunk.valid]

    def _follow_several(self) -> Iterator[FaceBatch]:
        state = first_several_state(self.model)
        for chunk in self.read():
            frames, size = _on_canvas(chunk)
            state, faces = several_chunk(
                *(self.model, state, frames, jnp.asarray(chunk.valid), size, self.lens(chunk)),
                *(self.config, self._extras),
            )
            batch = self._several(jax.tree.map(np.asarray, faces), chunk)
            if batch is not None:
                yield batch

    def read(self) -> Iterator[Chunk]:
        """Chunks as long as memory allows; of one length for frames of one size."""
        frames = check_frames(self._frames)
        for first in frames:
            self._started = True
            self._segments = choose_segments(first.nbytes, _CHUNK_BYTES)
            at_once = self.kind == "video" and self._at_once
            length = self._segments.frames if at_once else _CHUNK
            yield from chunks(itertools.chain([first], frames), length)

    def lens(self, chunk: Chunk) -> Camera:
        """Intrinsics of a chunk's frames."""
        height, width = chunk.frames.shape[1:3]
        return _to_camera(as_camera(self._camera, height=height, width=width))

    def _measure(
        self, frames: UInt8[Array, "c h w 3"], indices: np.ndarray, tracked: Any, lens: Camera
    ) -> FaceBatch:
        """Everything after the landmarks, for the first frames of a chunk."""
        count = len(indices)
        short = frames.shape[0] - count
        valid = jnp.arange(frames.shape[0]) < count
        # What fills the chunk up is a failed frame: others would enter the person's medians.
        padded = jax.tree.map(
            lambda x: np.concatenate([x, np.zeros((short, *x.shape[1:]), x.dtype)]), tracked
        )
        self.person, faces = measure_chunk(
            *(self.model, self.person, frames, valid, padded, lens, self.config), self._extras
        )
        return self.record(jax.tree.map(lambda leaf: np.asarray(leaf)[:count], faces), indices)

    def record(self, faces: HostFace, indices: np.ndarray) -> FaceBatch:
        """Keeps what `action_units` needs of measured frames. Returns their rows."""
        face = faces.face
        self._history.append(
            (
                faces.intensity,
                faces.presence,
                face.scores.intensity,
                face.scores.presence,
                face.accepted,
            )
        )
        ids = np.zeros(len(indices), np.int64)
        table = self._table(faces, indices, ids, action_units=False)
        return FaceBatch(table, face.accepted, face.fhog, face.aligned)

    def _several(self, several: SeveralFaces, chunk: Chunk) -> FaceBatch | None:
        rows = np.asarray(several.active) & chunk.valid[:, None]
        if not rows.any():
            return None
        faces: HostFace = jax.tree.map(lambda leaf: leaf[rows], several.faces)
        indices = np.broadcast_to(chunk.indices[:, None], rows.shape)[rows]
        ids = np.broadcast_to(np.arange(SLOTS), rows.shape)[rows]
        table = self._table(faces, indices, ids, action_units=True)
        face = faces.face
        return FaceBatch(table, face.accepted, face.fhog, face.aligned)

    def _table(
        self, faces: ClipFace, indices: np.ndarray, ids: np.ndarray, *, action_units: bool
    ) -> Table:
        times = np.array([self._timestamp(int(index)) for index in indices])
        return _to_table(faces, indices + 1, ids, times, action_units=action_units)

    @property
    def units(self) -> UnitNames:
        """Action units that the model knows, in the order of their columns."""
        return unit_names(self.model, self.config)

    def action_units(self) -> tuple[Float[np.ndarray, "n u"], Float[np.ndarray, "n c"]] | None:
        """Intensity and presence of every row, once iterated; None where the rows have them.

        Reference:
            Specification 03, C.5.
        """
        if self.kind != "video" or not self._history:
            return None
        intensity, presence, scores, decisions, accepted = (
            np.concatenate(column) for column in zip(*self._history, strict=True)
        )
        dynamic = not self.config.static_action_units
        units = _heads(self.model, self.config)
        if dynamic:
            medians = np.asarray(final_medians(self.person))
            intensity, presence = repredict_clip(
                units, intensity, presence, scores, decisions, medians, accepted
            )
        return postprocess_clip(units, intensity, presence, accepted, dynamic=dynamic)

    def collect(self, batches: list[FaceBatch]) -> Analysis:
        """All rows as one table, once iterated.

        Raises:
            ValueError: there was no frame.
        """
        if not batches:
            if not self._started:
                raise ValueError("video: expected at least one frame, got none")
            batches = [_no_rows(self.model, self.units)]
        return _concatenate(self.kind, batches, self.units, self.action_units())


def _on_canvas(chunk: Chunk) -> tuple[UInt8[Array, "c h w 3"], Int[Array, "2"]]:
    """The frames on the device, on a canvas so that few sizes compile, and their own size."""
    canvas, size = pad_to_canvas(chunk.frames)
    return jax.device_put(canvas), jax.device_put(np.asarray(size, np.int32))


def check_frames(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Passes frames on; raises a ValueError for one that is not an 8-bit RGB image."""
    for index, frame in enumerate(frames):
        yield _as_image(frame, f"frame {index}")


def _as_image(image: Array | np.ndarray, name: str) -> Frame:
    """An 8-bit RGB image from any array of one, or a ValueError that says what is wrong."""
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[-1] != 3 or 0 in array.shape:
        raise ValueError(
            f"{name}: expected an RGB image of shape (h, w, 3), got shape {array.shape}: "
            "stack a grey image three times, drop an alpha channel"
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        raise ValueError(
            f"{name}: expected 8-bit values, got uint16: divide by 256 first (image // 256)"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite values from 0 to 255, got NaN or infinity")
    if array.min() < 0 or array.max() > 255:
        raise ValueError(
            f"{name}: expected values from 0 to 255, got {array.min():g} to {array.max():g}"
        )
    return np.rint(array).astype(np.uint8)


def _to_camera(camera: Camera) -> Camera:
    return Camera(*(jnp.asarray(value, jnp.float32) for value in camera))


def _to_table(
    faces: HostFace,
    frame: np.ndarray,
    face_id: np.ndarray,
    timestamp: np.ndarray,
    *,
    action_units: bool,
) -> Table:
    """Rows on the host from faces with one leading axis."""
    face = faces.face
    return Table(
        frame=frame,
        face_id=face_id,
        timestamp=timestamp,
        confidence=face.confidence,
        success=face.success,
        gaze=face.gaze.gaze,
        gaze_angle=face.gaze.gaze_angle,
        eye_landmarks=face.gaze.eye_landmarks,
        eye_landmarks_3d=face.gaze.eye_landmarks_3d,
        head_pose=face.head_pose,
        landmarks=face.landmarks,
        landmarks_3d=face.landmarks_3d,
        scale=face.parameters.scale,
        rotation=face.parameters.rotation,
        translation=face.parameters.translation,
        local=face.parameters.local,
        au_intensity=faces.intensity if action_units else None,
        au_presence=faces.presence.astype(np.float32) if action_units else None,
    )


def _heads(model: Model, config: Config) -> ActionUnits:
    return model.analyser.image if config.static_action_units else model.analyser.video


def unit_names(model: Model, config: Config) -> UnitNames:
    """Action units that a model knows, in the order of their columns."""
    heads = _heads(model, config)
    return UnitNames(heads.intensity.names, heads.presence.names)


def _no_rows(model: Model, units: UnitNames) -> FaceBatch:
    """A table without rows."""
    table = empty_table(len(model.clnf.main.pdm.eigenvalues), units)
    return FaceBatch(table, np.zeros(0, bool), None, None)


def _concatenate(
    kind: CsvKind, batches: list[FaceBatch], names: UnitNames, units: Any = None
) -> Analysis:
    columns = {
        name: np.concatenate([getattr(b.table, name) for b in batches])
        for name in Table._fields
        if getattr(batches[0].table, name) is not None
    }
    if units is not None:
        columns["au_intensity"], columns["au_presence"] = units
    extras = {}
    for name in ("fhog", "aligned"):
        parts = [getattr(b, name) for b in batches]
        extras[name] = None if parts[0] is None else np.concatenate(parts)
    return Analysis(kind=kind, units=names, **columns, **extras)


def open_clip(
    model: Model,
    video: str | Path | Iterable[Frame],
    *,
    fps: float | None = None,
    camera: Camera | None = None,
    faces: str = "one",
    config: Config | None = None,
    extras: Extras = Extras(),
    at_once: bool = False,
) -> ClipAnalysis:
    """The analysis of a file, a folder or frames, before it begins. See `analyze_video`."""
    if isinstance(video, str | Path):
        reader = read_sequence(video) if Path(video).is_dir() else read_video(video)
        video, fps = reader, reader.fps if fps is None else fps
    return ClipAnalysis(
        model,
        video,
        camera=camera,
        timestamp=(lambda index: index * (1.0 / fps)) if fps else (lambda index: 0.0),
        faces=faces,
        config=config,
        extras=extras,
        at_once=at_once,
    )


def analyze_video(
    model: Model,
    video: str | Path | Iterable[Frame],
    *,
    faces: str = "one",
    camera: Camera | None = None,
    fps: float | None = None,
    config: Config | None = None,
    extras: Extras = Extras(),
    at_once: bool = False,
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
        at_once: track many frames at once, see `ClipAnalysis`.
    Returns:
        One row per frame, or per face and frame.
    Raises:
        InputError: the file cannot be read.
        ValueError: there is no frame, or one is not an RGB image.
    """
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
    return clip.collect(list(clip))


def analyze_image(
    model: Model,
    image: str | Path | Frame,
    *,
    boxes: Float[np.ndarray, "f 4"] | None = None,
    camera: Camera | None = None,
    config: Config | None = None,
    extras: Extras = Extras(),
) -> Analysis:
    """Analyses all faces of one image: everything that OpenFace's `FaceLandmarkImg` writes.

    Args:
        model: see `load_model`.
        image: an image file, or an RGB image (h, w, 3), 0 to 255.
        boxes: face boxes, px, instead of detected ones.
        camera: intrinsics, px; by default OpenFace's guess from the image size.
        config: settings; by default OpenFace's for still images.
        extras: large arrays to bring back.
    Returns:
        One row per face, by descending probability of the detection; none without a face.
    Raises:
        InputError: the file cannot be read.
        ValueError: `image` is not an RGB image.
    """
    camera = check_camera(camera)
    pixels = read_image(image) if isinstance(image, str | Path) else _as_image(image, "image")
    config = default_config(model, static_action_units=True) if config is None else config
    model, names = prepare_model(model, config), unit_names(model, config)
    height, width = pixels.shape[:2]
    canvas, size = pad_to_canvas(pixels)
    canvas, size = jnp.asarray(canvas), jnp.asarray(size, jnp.int32)
    if boxes is None:
        found = detect_program(model, canvas, size, config)
        boxes, points = (
            np.asarray(leaf)[np.asarray(found.valid)] for leaf in (found.sized_boxes, found.points)
        )
    else:
        boxes, points = np.asarray(boxes, np.float32), np.zeros((len(boxes), 5, 2), np.float32)
    intrinsics = _to_camera(as_camera(camera, height=height, width=width))
    faces = []
    for start in zip(boxes, points, strict=True):
        face = analyze_box(model, canvas, *map(jnp.asarray, start), intrinsics, size, config)
        faces.append(jax.tree.map(np.asarray, slim(face, extras)))
    if not faces:
        return _concatenate("image", [_no_rows(model, names)], names)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *faces)
    count = np.arange(len(faces))
    table = _to_table(stacked, np.ones_like(count), count, 0.0 * count, action_units=True)
    face = stacked.face
    batch = FaceBatch(table, face.accepted, face.fhog, face.aligned)
    return _concatenate("image", [batch], names)
