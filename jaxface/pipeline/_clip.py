"""A clip with one face, frame by frame: tracking, then what is learnt about the person."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int, Shaped, UInt8

from ..analyze import (
    STORED,
    Baseline,
    OnlineCorrection,
    baseline_medians,
    correct_online,
    init_baseline,
    init_online_correction,
    label_presence,
    subtract_medians,
    update_baseline,
)
from ..detect import detect_faces, largest_face
from ..fit import border_luma
from ..models import Config, Model, complete_config
from ..ops import call_in_turn, select, to_gray
from ..track import Tracked, TrackState, start_track, track_bordered
from ..types import Box, Camera, FivePoints, Image
from ._frame import ClipFace, Face, analyze_frame, check_image


class Person(eqx.Module):
    """What was learnt about the person in a clip."""

    baseline: Baseline
    online: OnlineCorrection
    accepted: Int[Array, ""]  # frames so far


class ClipState(eqx.Module):
    """History of a clip with one face."""

    track: TrackState
    person: Person


def track_frame(
    model: Model,
    state: TrackState,
    image: Image | UInt8[Array, "h w 3"],
    *,
    size: Int[Array, "2"] | None = None,
    config: Config | None = None,
) -> tuple[TrackState, Tracked]:
    """Follows one face into the next frame of a video; detects it first, and after a loss.

    Args:
        model: detector and landmark model.
        state: history; `start_track(model.clnf)` before the first frame.
        image: RGB, 0 to 255; may be padded with zeros beyond `size`. Bytes are faster.
        size: height and width of the picture, px; by default all of `image`.
        config: settings; by default the model's own.
    Returns:
        The state for the next frame, and this frame's outcome.
    Raises:
        ValueError: `image` is not one RGB image.
    Reference:
        Specification 01, B.5.
    """
    check_image(image)
    config = complete_config(model, config)
    size = jnp.asarray(image.shape[:2] if size is None else size, jnp.int32)
    return track_bordered_frame(model, state, image, border_luma(to_gray(image)), size, config)


def track_bordered_frame(
    model: Model,
    state: TrackState,
    image: Image | UInt8[Array, "h w 3"],
    padded: Shaped[Array, "h2 w2"],
    size: Int[Array, "2"],
    config: Config,
) -> tuple[TrackState, Tracked]:
    """`track_frame`, whose luma with its border is there already: see `fit.border_luma`."""
    return call_in_turn(_track_frame, model, state, image, padded, size, config)


def _track_frame(
    model: Model,
    state: TrackState,
    image: Image | UInt8[Array, "h w 3"],
    padded: Shaped[Array, "h2 w2"],
    size: Int[Array, "2"],
    config: Config,
) -> tuple[TrackState, Tracked]:
    def find_face() -> tuple[Box, FivePoints, Bool[Array, ""]]:
        floats = image.astype(model.clnf.main.pdm.mean_shape.dtype)
        return largest_face(detect_faces(model.detector, floats, size=size, config=config.detect))

    with jax.named_scope("track"):
        return track_bordered(model.clnf, state, padded, find_face, size=size, config=config.fit)


def start_person(model: Model) -> Person:
    """State before anything is known about the person."""
    analyser = model.analyser
    pdm = analyser.pdm
    units = max(len(heads.intensity.names) for heads in (analyser.video, analyser.image))
    return Person(
        baseline=init_baseline(
            geometry_size=pdm.mean_shape.size + pdm.eigenvalues.size,
            dtype=np.dtype(pdm.mean_shape.dtype),
        ),
        online=init_online_correction(units),
        accepted=jnp.zeros((), jnp.int32),
    )


def start_clip(model: Model) -> ClipState:
    """State before the first frame of a clip."""
    return ClipState(track=start_track(model.clnf), person=start_person(model))


def pause_track(state: TrackState) -> TrackState:
    """A state in which a frame costs next to nothing, for frames that only fill up a batch."""
    return eqx.tree_at(
        lambda t: (t.initialised, t.failures, t.fit.success),
        state,
        (jnp.zeros((), bool), jnp.zeros((), jnp.int32), jnp.zeros((), bool)),
    )


def choose_person(live: Bool[Array, ""], person: Person, before: Person) -> Person:
    """`person` where `live`, else `before`, which differs by one rejected frame only.

    Such a frame leaves the histograms as they are: they are large, and so not selected.
    """

    def small(p: Person) -> tuple:
        return p.online, p.accepted, p.baseline.frames, p.baseline.latest

    return eqx.tree_at(small, person, select(live, small(person), small(before)))


def clip_frame(
    model: Model,
    state: ClipState,
    image: Image | UInt8[Array, "h w 3"],
    camera: Camera,
    *,
    size: Int[Array, "2"] | None = None,
    config: Config | None = None,
) -> tuple[ClipState, ClipFace]:
    """Tracks and analyses the next frame of a clip with one face.

    With `config.online` the action units are ready to use, as OpenFace shows them for a webcam.
    Without, they are raw until `jaxface.analyze_video` has seen the whole clip.

    Args:
        state: history; `start_clip(model)` before the first frame.
        image: RGB, 0 to 255; may be padded with zeros beyond `size`. Bytes are faster.
        camera: intrinsics.
        size: height and width of the picture, px; by default all of `image`.
        config: settings; by default the model's own.
    Reference:
        Specification 01, B.5; specification 03, C.2.
    """
    config = complete_config(model, config)
    check_image(image)
    size = jnp.asarray(image.shape[:2] if size is None else size, jnp.int32)
    return call_in_turn(_clip_frame, model, state, image, camera, size, config)


def _clip_frame(
    model: Model,
    state: ClipState,
    image: Image | UInt8[Array, "h w 3"],
    camera: Camera,
    size: Int[Array, "2"],
    config: Config,
) -> tuple[ClipState, ClipFace]:
    padded = border_luma(to_gray(image))
    track, tracked = _track_frame(model, state.track, image, padded, size, config)
    floats = image.astype(tracked.fit.landmarks.dtype)
    person, face = measure_tracked(model, state.person, floats, tracked, camera, config=config)
    return ClipState(track=track, person=person), face


def measure_tracked(
    model: Model,
    person: Person,
    image: Image,
    tracked: Tracked,
    camera: Camera,
    *,
    config: Config | None = None,
) -> tuple[Person, ClipFace]:
    """The second half of `clip_frame`: everything after the landmarks.

    Learns the person's neutral face and predicts the action units of this frame.

    Args:
        person: history; `start_person(model)` before the first frame.
        tracked: result of `track_frame` on `image`.
    Reference:
        Specification 03, C.2.
    """
    face = analyze_frame(
        model,
        image,
        tracked.fit,
        camera,
        success=tracked.success,
        skip_rejected=True,
        config=config,
    )
    return adapt_to_person(model, person, face, config=config)


@jax.named_scope("action_units")
def adapt_to_person(
    model: Model, person: Person, face: Face, *, config: Config | None = None
) -> tuple[Person, ClipFace]:
    """Learns the person's neutral face from one more frame and predicts its action units.

    Args:
        person: history; `start_person(model)` before the first frame.
        face: measured on the frame.
    Reference:
        Specification 03, C.2.
    """
    config = complete_config(model, config)
    units = model.analyser.image if config.static_action_units else model.analyser.video
    accepted = person.accepted + face.accepted.astype(jnp.int32)
    baseline, scores, online = person.baseline, face.scores, person.online
    if not config.static_action_units:
        baseline = update_baseline(baseline, face.fhog, face.geometry, face.accepted)
        # Up to here the second pass over the clip predicts again, with the final medians.
        wanted = config.online | (accepted > STORED)
        medians = lax.cond(wanted, baseline_medians, lambda b: jnp.zeros_like(units.mean), baseline)
        scores = subtract_medians(units, scores, medians)
    intensity = jnp.where(face.accepted, scores.intensity, 0)
    presence = label_presence(units.presence, scores.presence) & face.accepted
    if config.online:
        online, intensity = correct_online(online, scores.intensity, face.accepted)
    person = Person(baseline=baseline, online=online, accepted=accepted)
    return person, ClipFace(face=face, intensity=intensity, presence=presence)
