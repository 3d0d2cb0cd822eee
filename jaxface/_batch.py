"""Clips and images on the host: frames in, tables of results out."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from ._model import Model
from ._pipeline import (
    ClipFace,
    ClipState,
    Config,
    default_config,
    prepare_model,
)
from ._programs import (
    Extras,
    analyze_box,
    detect_program,
    final_medians,
    first_clip_state,
    first_several_state,
    measure_chunk,
    several_chunk,
    slim,
    track_chunk,
)
from ._results import Analysis
from ._several import SLOTS, SeveralFaces, SeveralState
from ._types import Camera
from .analyze import postprocess_clip, repredict_clip
from .io import (
    Chunk,
    Intrinsics,
    chunks,
    default_camera,
    pad_to_canvas,
    read_image,
    read_sequence,
    read_video,
)
from .output import CsvKind, Table

Frame = UInt8[np.ndarray, "h w 3"]
HostFace = Any  # a ClipFace whose arrays are NumPy's, where its fields are annotated with JAX's
_CHUNK = 8  # frames in one compiled call; more only take memory


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
        camera: Intrinsics | None = None,
        timestamp: Callable[[int], float] = lambda index: 0.0,
        faces: str = "one",
        config: Config | None = None,
        extras: Extras = Extras(),
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
        self._camera = camera
        self._timestamp = timestamp
        self._extras = extras
        self._history: list[tuple[np.ndarray, ...]] = []
        self._state: ClipState | SeveralState | None = None

    def __iter__(self) -> Iterator[FaceBatch]:
        """Analyses the clip. Yields the rows of a chunk after each chunk."""
        self._history.clear()
        one = self.kind == "video"
        state = first_clip_state(self.model) if one else first_several_state(self.model)
        for chunk in chunks(check_frames(self._frames), _CHUNK):
            state, faces = self._run(state, chunk)
            self._state = state
            batch = self._one(faces, chunk) if one else self._several(faces, chunk)
            if batch is not None:
                yield batch

    def _run(self, state, chunk: Chunk):
        """One compiled call; frames lie on a canvas so that few sizes compile."""
        height, width = chunk.frames.shape[1:3]
        camera = self._camera or default_camera(width, height)
        canvas, size = pad_to_canvas(chunk.frames)
        frames, valid = jnp.asarray(canvas), jnp.asarray(chunk.valid)
        size, lens = jnp.asarray(size, jnp.int32), _to_camera(camera)
        if isinstance(state, ClipState):
            track, tracked = track_chunk(self.model, state.track, frames, valid, size, self.config)
            person, faces = measure_chunk(
                *(self.model, state.person, frames, valid, tracked, lens, self.config),
                self._extras,
            )
            state = ClipState(track=track, person=person)
        else:
            state, faces = several_chunk(
                *(self.model, state, frames, valid, size, lens, self.config), self._extras
            )
        return state, jax.tree.map(np.asarray, faces)

    def _one(self, faces: HostFace, chunk: Chunk) -> FaceBatch:
        faces = jax.tree.map(lambda leaf: leaf[chunk.valid], faces)
        indices = chunk.indices[chunk.valid]
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

    def action_units(self) -> tuple[Float[np.ndarray, "n 17"], Float[np.ndarray, "n 18"]] | None:
        """Intensity and presence of every row, once iterated; None where the rows have them.

        Reference:
            Specification 03, C.5.
        """
        if self.kind != "video" or not isinstance(self._state, ClipState):
            return None
        intensity, presence, scores, decisions, accepted = (
            np.concatenate(column) for column in zip(*self._history, strict=True)
        )
        analyser = self.model.analyser
        dynamic = not self.config.static_action_units
        units = analyser.video if dynamic else analyser.image
        if dynamic:
            medians = np.asarray(final_medians(self._state))
            intensity, presence = repredict_clip(
                units, intensity, presence, scores, decisions, medians, accepted
            )
        return postprocess_clip(units, intensity, presence, accepted, dynamic=dynamic)


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


def _to_camera(camera: Intrinsics) -> Camera:
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


def _no_rows() -> FaceBatch:
    """A table without rows."""
    shapes = {
        "gaze": (2, 3),
        "gaze_angle": (2,),
        "eye_landmarks": (56, 2),
        "eye_landmarks_3d": (56, 3),
        "head_pose": (6,),
        "landmarks": (68, 2),
        "landmarks_3d": (68, 3),
        "rotation": (3,),
        "translation": (2,),
        "local": (34,),
        "au_intensity": (17,),
        "au_presence": (18,),
    }
    table = Table(
        **{name: np.zeros((0, *shapes.get(name, ())), np.float32) for name in Table._fields}
    )
    return FaceBatch(table, np.zeros(0, bool), None, None)


def _concatenate(kind: CsvKind, batches: list[FaceBatch], units) -> Analysis:
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
    return Analysis(kind=kind, **columns, **extras)


def analyze_video(
    model: Model,
    video: str | Path | Iterable[Frame],
    *,
    faces: str = "one",
    camera: Intrinsics | None = None,
    fps: float | None = None,
    config: Config | None = None,
    extras: Extras = Extras(),
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
    Returns:
        One row per frame, or per face and frame.
    Raises:
        InputError: the file cannot be read.
        ValueError: there is no frame, or one is not an RGB image.
    """
    if isinstance(video, str | Path):
        reader = read_sequence(video) if Path(video).is_dir() else read_video(video)
        video, fps = reader, reader.fps if fps is None else fps
    clip = ClipAnalysis(
        model,
        video,
        camera=camera,
        timestamp=(lambda index: index * (1.0 / fps)) if fps else (lambda index: 0.0),
        faces=faces,
        config=config,
        extras=extras,
    )
    batches = list(clip)
    if not batches:
        if clip._state is None:
            raise ValueError("video: expected at least one frame, got none")
        batches = [_no_rows()]
    return _concatenate(clip.kind, batches, clip.action_units())


def analyze_image(
    model: Model,
    image: str | Path | Frame,
    *,
    boxes: Float[np.ndarray, "f 4"] | None = None,
    camera: Intrinsics | None = None,
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
    pixels = read_image(image) if isinstance(image, str | Path) else _as_image(image, "image")
    config = default_config(model, static_action_units=True) if config is None else config
    model = prepare_model(model, config)
    height, width = pixels.shape[:2]
    canvas, size = pad_to_canvas(pixels)
    canvas, size = jnp.asarray(canvas), jnp.asarray(size, jnp.int32)
    if boxes is None:
        found = detect_program(model, canvas, size, config)
        boxes = np.asarray(found.boxes)[np.asarray(found.valid)]
    intrinsics = _to_camera(camera or default_camera(width, height))
    faces = [
        jax.tree.map(
            np.asarray,
            slim(analyze_box(model, canvas, jnp.asarray(box), intrinsics, size, config), extras),
        )
        for box in np.asarray(boxes, np.float32)
    ]
    if not faces:
        return _concatenate("image", [_no_rows()], None)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *faces)
    count = np.arange(len(faces))
    table = _to_table(stacked, np.ones_like(count), count, 0.0 * count, action_units=True)
    face = stacked.face
    return _concatenate("image", [FaceBatch(table, face.accepted, face.fhog, face.aligned)], None)
