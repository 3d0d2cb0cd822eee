"""Tracking several faces through a video, each in a slot that gives its `face_id`."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..detect import detect_faces, no_faces
from ..fit import bounding_box
from ..models import Config, Model, complete_config
from ..ops import call_in_turn, select, to_gray
from ..track import TrackState, start_track, track_box
from ..types import Box, Camera, Detections, FivePoints, FlatGray, Gray
from ._clip import size_of
from ._frame import ClipFace, Picture, analyze_frame, check_image, single_image

SLOTS = 4
_EVERY = 8  # frames between detections while a slot is free
_PATIENCE = 4  # failures in a row after which a slot is freed
_OVERLAP = 0.5


class SeveralState(eqx.Module):
    """History of several faces; arrays of `tracks` have one row per slot."""

    frame: Int[Array, ""]
    tracks: TrackState
    active: Bool[Array, " slots"]


class SeveralFaces(eqx.Module):
    """One frame's faces, one row per slot."""

    faces: ClipFace
    active: Bool[Array, " slots"]  # rows that hold a face


def start_several(model: Model) -> SeveralState:
    """State before the first frame: all slots free."""
    track = start_track(model.clnf)
    return SeveralState(
        frame=jnp.zeros((), jnp.int32),
        tracks=jax.tree.map(lambda x: jnp.stack([x] * SLOTS), track),
        active=jnp.zeros(SLOTS, bool),
    )


def pause_several(model: Model, state: SeveralState) -> SeveralState:
    """A state in which a frame costs next to nothing, for frames that only fill up a batch."""
    return SeveralState(
        frame=jnp.ones_like(state.frame),
        tracks=start_several(model).tracks,
        active=jnp.zeros_like(state.active),
    )


def overlap_measure(boxes: Float[Array, "f 4"], others: Float[Array, "s 4"]) -> Float[Array, "f s"]:
    """Intersection over symmetric difference, OpenFace's measure for the same face.

    Reference:
        Specification 01, B.5: the denominator subtracts the intersection twice.
    """
    low = jnp.maximum(boxes[:, None, :2], others[None, :, :2])
    high = jnp.minimum(boxes[:, None, 2:], others[None, :, 2:])
    intersection = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
    area, other = (jnp.prod(b[:, 2:] - b[:, :2], axis=-1) for b in (boxes, others))
    difference = area[:, None] + other[None] - 2 * intersection
    return intersection / jnp.where(difference > 0, difference, 1)


def _new_faces(
    model: Model,
    state: SeveralState,
    image: Picture,
    size: Int[Array, "2"],
    plan: Any,
    config: Config,
) -> tuple[Float[Array, "f 6"], Float[Array, "f 5 2"], Bool[Array, " f"]]:
    """Boxes and points of detected faces, and which of them no slot follows yet.

    Runs the detector on every eighth frame only.
    """
    boxes = jax.vmap(lambda t: bounding_box(model.clnf.main.pdm, t.fit.parameters))(state.tracks)
    boxes = jnp.where(state.active[:, None], boxes, 0)

    def detect() -> Detections:
        return detect_faces(model.detector, image, size=size, plan=plan, config=config.detect)

    def nothing() -> Detections:
        return no_faces(model.detector, image, plan=plan, config=config.detect)

    wanted = (state.frame % _EVERY == 0) & ~jnp.all(state.active)
    found = lax.cond(wanted, detect, nothing)
    known = jnp.any(overlap_measure(found.boxes, boxes) > _OVERLAP, axis=1)
    return found.sized_boxes, found.points, found.valid & ~known


def several_frame(
    model: Model,
    state: SeveralState,
    image: Picture,
    camera: Camera,
    *,
    size: Int[Array, "2"] | None = None,
    plan: Any = None,
    config: Config | None = None,
) -> tuple[SeveralState, SeveralFaces]:
    """Tracks and analyses up to four faces in the next frame of a video.

    Args:
        state: history; `start_several(model)` before the first frame.
        image: RGB, 0 to 255; may be padded with zeros beyond `size`, or flat.
        camera: intrinsics.
        size: height and width of the picture, px; by default all of `image`.
        plan: of a flat image, for the detector: see `detect_faces`.
        config: settings; by default the model's own, with the action units of the image model.
    Reference:
        Specification 01, B.5 (there `FaceLandmarkVidMulti`); specification 03, E.5.
    """
    check_image(image)
    config = complete_config(model, config, static_action_units=True)
    size = size_of(image, size)
    return call_in_turn(_several_frame, model, state, image, camera, size, plan, config)


def _several_frame(
    model: Model,
    state: SeveralState,
    image: Picture,
    camera: Camera,
    size: Int[Array, "2"],
    plan: Any,
    config: Config,
) -> tuple[SeveralState, SeveralFaces]:
    gray = to_gray(image)
    boxes, points, unused = _new_faces(model, state, image, size, plan, config)

    def slot(unused, inputs):
        track, active = inputs
        active = active & (track.failures <= _PATIENCE)
        first = jnp.argmax(unused)
        fresh = ~active & jnp.any(unused)
        unused = unused & ~(fresh & (jnp.arange(unused.shape[0]) == first))

        def follow(track: TrackState) -> TrackState:
            face = boxes[first], points[first]
            return _follow(model, track, gray, face, fresh, size, config)

        idle = select(active, track, start_track(model.clnf))
        track = lax.cond(active | fresh, follow, lambda t: t, idle)
        return unused, (track, active | fresh)

    _, (tracks, active) = lax.scan(slot, unused, (state.tracks, state.active))

    def measure(_, track: TrackState) -> tuple[None, ClipFace]:
        face = analyze_frame(model, image, track.fit, camera, config=config)
        return None, single_image(face, model)

    _, faces = lax.scan(measure, None, tracks)
    state = SeveralState(frame=state.frame + 1, tracks=tracks, active=active)
    return state, SeveralFaces(faces=faces, active=active)


def _follow(
    model: Model,
    track: TrackState,
    gray: Gray | FlatGray,
    face: tuple[Box, FivePoints],
    fresh: Bool[Array, ""],
    size: Int[Array, "2"],
    config: Config,
) -> TrackState:
    with jax.named_scope("track"):
        return track_box(
            *(model.clnf, track, gray, face[0], fresh),
            size=size,
            config=config.fit,
            points=face[1],
        )
