"""Whole clips with one face as pure functions: scans over the frames, and the pass at the end."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt8

from ..analyze import baseline_medians, finish_action_units
from ..fit import border_luma, finite_luma
from ..models import Config, Model, complete_config
from ..ops import call_in_turn, select, to_gray
from ..track import Tracked, TrackState, start_track
from ..types import Camera, FlatFrames, FlatGray, FlatImage
from ._clip import (
    ClipState,
    Person,
    adapt_to_person_at_once,
    pause_track,
    start_clip,
    track_bordered_frame,
)
from ._frame import ClipFace, Face, Picture, analyze_frame

Frames = Float[Array, "t h w 3"] | UInt8[Array, "t h w 3"] | FlatFrames  # RGB, 0 to 255


def track_clip(
    model: Model,
    frames: Frames,
    *,
    valid: Bool[Array, " t"] | None = None,
    state: TrackState | None = None,
    size: Int[Array, "2"] | None = None,
    plan: Any = None,
    config: Config | None = None,
) -> tuple[TrackState, Tracked]:
    """Follows one face through consecutive frames, one after the other.

    Args:
        model: detector and landmark model.
        frames: RGB, 0 to 255; may be padded with zeros beyond `size`. Bytes are faster. As
            `FlatFrames` they make one program serve clips of all sizes; values are the same, but
            for the rounding of the first guess of `base`.
        valid: false for frames that only fill the array up: they leave the state as it is, and
            their rows of the result mean nothing. By default all frames count.
        state: after the frames before; by default these are the first.
        size: height and width of the pictures, px; by default all of `frames`.
        plan: of flat frames, for the detector: see `detect_faces`.
        config: settings; by default the model's own.
    Returns:
        The state for the next frames, and the outcome of each frame: `Tracked` with a leading
        axis t. Derivatives pass through the fits from frame to frame, as `fit_landmarks` has them;
        where a face is lost, found or rejected is a choice without a derivative.
    Raises:
        ValueError: `frames` are not RGB images, or `valid` has not one entry a frame, or flat
            frames have no plan.
    Reference:
        Specification 01, B.5.
    """
    valid = _check_frames(frames, valid)
    config = complete_config(model, config)
    state = start_track(model.clnf) if state is None else state
    size = _size_of(frames, size)
    return call_in_turn(_track, model, state, frames, valid, size, plan, config)


def _track(
    model: Model,
    state: TrackState,
    frames: Frames,
    valid: Bool[Array, " t"],
    size: Int[Array, "2"],
    plan: Any,
    config: Config,
) -> tuple[TrackState, Tracked]:
    pixels, picture = _pixels_of(frames), _picture_in(frames)
    # Of all frames at once: in the loop XLA would compute each frame's border pixel by pixel.
    luma = luma_of(frames)

    def step(state: TrackState, inputs: tuple[Array, Array, Array]) -> tuple[TrackState, Tracked]:
        frame, padded, live = inputs
        image = picture(frame)
        if isinstance(image, FlatImage):
            padded = FlatGray(padded, image.size, image.pitch)
        start = select(live, state, pause_track(state))
        after, tracked = track_bordered_frame(model, start, image, padded, size, plan, config)
        return select(live, after, state), tracked

    return lax.scan(step, state, (pixels, luma, valid))


def luma_of(frames: Frames) -> Shaped[Array, "t h2 w2"] | Shaped[Array, "t l"]:
    """Luma of all frames, with a border, or row after row of flat ones: see `fit.border_luma`."""
    if isinstance(frames, FlatFrames):
        return finite_luma(to_gray(frames.pixels))
    return border_luma(to_gray(frames))


def _pixels_of(frames: Frames) -> Array:
    """What a loop over frames goes through."""
    return frames.pixels if isinstance(frames, FlatFrames) else frames


def _picture_in(frames: Frames) -> Callable[[Array], Picture]:
    """Makes a picture of one frame's pixels."""
    if isinstance(frames, FlatFrames):
        return lambda pixels: FlatImage(pixels, frames.size, frames.pitch)
    return lambda pixels: pixels


def _size_of(frames: Frames, size: Int[Array, "2"] | None) -> Int[Array, "2"]:
    if isinstance(frames, FlatFrames):
        return frames.size
    return jnp.asarray(frames.shape[1:3] if size is None else size, jnp.int32)


def measure_clip(
    model: Model,
    person: Person,
    frames: Frames,
    tracked: Tracked,
    camera: Camera,
    *,
    valid: Bool[Array, " t"] | None = None,
    keep: Callable[[ClipFace], Any] = lambda face: face,
    config: Config | None = None,
) -> tuple[Person, Any]:
    """The second half of `analyze_clip`: everything after the landmarks.

    Args:
        person: history; `start_person(model)` before the first frame.
        frames: RGB, 0 to 255, flat or not.
        tracked: result of `track_clip` on `frames`.
        camera: intrinsics.
        valid: as in `track_clip`. Where it is false `tracked.fit.success` must be false too, as it
            is in the result of `track_clip`.
        keep: what of a frame's face is kept, under `jax.vmap`; by default all.
        config: settings; by default the model's own.
    Returns:
        What is known about the person, and a `ClipFace`, or what `keep` makes of it, with a leading
        axis t.
    Reference:
        Specification 03, C.2.
    """
    valid = _check_frames(frames, valid)
    config = complete_config(model, config)
    picture = _picture_in(frames)

    def step(_, inputs: tuple) -> tuple[None, Face]:
        frame, tracked = inputs
        return None, analyze_frame(
            *(model, picture(frame), tracked.fit, camera),
            success=tracked.success,
            skip_rejected=True,
            config=config,
        )

    _, faces = lax.scan(step, None, (_pixels_of(frames), tracked))
    person, results = adapt_to_person_at_once(model, person, faces, valid, config=config)
    return person, jax.vmap(keep)(results)


def analyze_clip(
    model: Model,
    frames: Frames,
    camera: Camera,
    *,
    valid: Bool[Array, " t"] | None = None,
    state: ClipState | None = None,
    size: Int[Array, "2"] | None = None,
    plan: Any = None,
    config: Config | None = None,
) -> tuple[ClipState, ClipFace]:
    """Tracks and analyses consecutive frames of a clip with one face.

    Then `finish_clip` gives the action units. The two are `jaxface.analyze_video` as pure functions
    of arrays: all but the action units to the last bit where yours are compiled with
    `jaxface.compiler_options()` and take the camera as an argument. Of one that is a constant of
    the program XLA computes quotients ahead, and gaze and points in 3D differ by a rounding. The
    first guess of `base` rounds otherwise in arrays than in `FlatFrames`, as `analyze_video` lays
    them: there landmarks may differ by the noise of the fit.
    A long clip may be given in pieces, each with the state after the one before, or with `valid`,
    so that clips of several lengths share one program.

    Args:
        model: detector, landmark model and analyser.
        frames: RGB, 0 to 255; may be padded with zeros beyond `size`, or flat: see `track_clip`.
            Bytes are faster.
        camera: intrinsics, px.
        valid: false for frames that only fill the array up: they leave the state as it is, and
            their rows of the result mean nothing. By default all frames count.
        state: after the frames before; by default these are the first.
        size: height and width of the pictures, px; by default all of `frames`.
        plan: of flat frames, for the detector: see `detect_faces`.
        config: settings; by default the model's own.
    Returns:
        The state for the next frames, and for each frame what `clip_frame` gives: `ClipFace` with a
        leading axis t. Its aligned faces and FHOG take 170 kB a frame, unless the function that
        you compile leaves them out of its result. Derivatives are those of `track_clip` and
        `analyze_frame`; what is learnt about the person is constant under differentiation.
    Raises:
        ValueError: `frames` are not RGB images, or `valid` has not one entry a frame, or flat
            frames have no plan.
    Reference:
        Specification 01, B.5; specification 03, C.2.
    """
    valid = _check_frames(frames, valid)
    config = complete_config(model, config)
    state = start_clip(model) if state is None else state
    size = _size_of(frames, size)
    return call_in_turn(_analyze, model, state, frames, camera, valid, size, plan, config)


def _analyze(
    model: Model,
    state: ClipState,
    frames: Frames,
    camera: Camera,
    valid: Bool[Array, " t"],
    size: Int[Array, "2"],
    plan: Any,
    config: Config,
) -> tuple[ClipState, ClipFace]:
    track, tracked = _track(model, state.track, frames, valid, size, plan, config)
    person, faces = measure_clip(
        model, state.person, frames, tracked, camera, valid=valid, config=config
    )
    return ClipState(track=track, person=person), faces


def finish_clip(
    model: Model,
    state: ClipState,
    faces: ClipFace,
    *,
    valid: Bool[Array, " t"] | None = None,
    config: Config | None = None,
) -> ClipFace:
    """The action units of a whole clip, once all its frames are analysed.

    Predicts the clip's start again with what is known about the person at its end, takes the
    person's own zero level, and smooths over time, as `jaxface.analyze_video` does.

    Args:
        model: that analysed the clip.
        state: after its last frame.
        faces: of all its frames, joined where the clip was given in pieces.
        valid: as in `analyze_clip`.
        config: settings; by default the model's own.
    Returns:
        The faces with `intensity`, 0 to 5, and `presence` as they are in an `Analysis`, to 1e-5;
        zero where `valid` is false. For derivatives see `jaxface.analyze.finish_action_units`.
    Raises:
        ValueError: `valid` has not one entry a frame.
    Reference:
        Specification 03, C.5.
    """
    config = complete_config(model, config)
    dynamic = not config.static_action_units
    units = model.analyser.video if dynamic else model.analyser.image
    intensity, presence = finish_action_units(
        units,
        faces.intensity,
        faces.presence,
        faces.face.scores,
        baseline_medians(state.person.baseline),
        faces.face.accepted,
        _check_valid(len(faces.intensity), valid),
        dynamic=dynamic,
    )
    return eqx.tree_at(lambda f: (f.intensity, f.presence), faces, (intensity, presence))


def _check_frames(frames: Frames, valid: Bool[Array, " t"] | None) -> Bool[Array, " t"]:
    """Which frames count, or a ValueError where `frames` have not the shape of RGB images."""
    if not isinstance(frames, FlatFrames) and (frames.ndim != 4 or frames.shape[-1] != 3):
        raise ValueError(
            f"frames: expected RGB images of shape (t, h, w, 3), got shape {frames.shape}: "
            "give a single one to jaxface.clip_frame, map several clips with jax.vmap"
        )
    return _check_valid(len(frames), valid)


def _check_valid(count: int, valid: Bool[Array, " t"] | None) -> Bool[Array, " t"]:
    if valid is None:
        return jnp.ones(count, bool)
    if valid.shape != (count,):
        raise ValueError(
            f"valid: expected shape ({count},), an entry for each frame, got shape {valid.shape}"
        )
    return valid
