"""Several clips with one face each, stepped together through their frames: lanes.

A frame of one clip is thousands of small operations in a row, whatever the device. The same
operations on many clips at once cost little more, on an accelerator next to nothing more.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt8

from ..detect import detect_faces, largest_face
from ..fit import border_luma
from ..models import Config, Model, complete_config
from ..ops import select, to_gray
from ..track import Tracked, TrackState, start_track, take_frames, track_bordered_lanes
from ..types import Box, Camera, FivePoints
from ._clip import ClipState, Person, adapt_to_person_at_once, pause_track, start_clip
from ._frame import ClipFace, Face, analyze_frame

LaneFrames = Float[Array, "b t h w 3"] | UInt8[Array, "b t h w 3"]  # RGB, 0 to 255
Tree = TypeVar("Tree")


def track_lanes(
    model: Model,
    frames: LaneFrames,
    *,
    valid: Bool[Array, "b t"] | None = None,
    states: TrackState | None = None,
    sizes: Int[Array, "b 2"] | None = None,
    config: Config | None = None,
) -> tuple[TrackState, Tracked]:
    """`track_clip` for several clips that step together, each a lane.

    A lane gives what `track_clip` gives for its clip, within the noise of the fit: 0.02 px in the
    mean. It does not depend on what the other lanes hold. `jax.vmap` of `track_clip` gives the
    same, but computes one clip after the other.

    Args:
        model: detector and landmark model.
        frames: RGB, 0 to 255; may be padded with zeros beyond `sizes`. Bytes are faster.
        valid: false for frames that only fill the array up: they leave their lane's state as it
            is, and their rows of the result mean nothing. By default all frames count.
        states: after the frames before, one row per lane; by default these are the first.
        sizes: height and width of each clip's pictures, px; by default all of `frames`.
        config: settings; by default the model's own.
    Returns:
        The states for the next frames, and the outcome of each frame, [lane, frame]. Derivatives
        are those of `track_clip`.
    Raises:
        ValueError: `frames` are not RGB images of several clips, or `valid` does not fit them.
    Reference:
        Specification 01, B.5.
    """
    valid = _check_lanes(frames, valid)
    config = complete_config(model, config)
    lanes, count = frames.shape[:2]
    states = same_for_lanes(start_track(model.clnf), lanes) if states is None else states
    sizes = _whole_frames(frames) if sizes is None else sizes
    pool = frames.reshape(-1, *frames.shape[2:])
    padded = border_luma(to_gray(pool))

    def step(states: TrackState, index: Int[Array, ""]) -> tuple[TrackState, Tracked]:
        rows = jnp.arange(lanes, dtype=jnp.int32) * count + index
        live = lax.dynamic_index_in_dim(valid, index, 1, keepdims=False)

        def find_face(lane: Int[Array, ""]) -> tuple[Box, FivePoints, Bool[Array, ""]]:
            image = lax.dynamic_index_in_dim(pool, lane * count + index, keepdims=False)
            floats = image.astype(model.clnf.main.pdm.mean_shape.dtype)
            found = detect_faces(model.detector, floats, size=sizes[lane], config=config.detect)
            return largest_face(found)

        start = jax.vmap(select)(live, states, jax.vmap(pause_track)(states))
        after, tracked = track_bordered_lanes(
            *(model.clnf, start, take_frames(padded, rows), find_face),
            sizes=sizes,
            config=config.fit,
        )
        return jax.vmap(select)(live, after, states), tracked

    with jax.named_scope("track"):
        states, tracked = lax.scan(step, states, jnp.arange(count, dtype=jnp.int32))
    return states, jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), tracked)


def measure_lanes(
    model: Model,
    persons: Person,
    frames: LaneFrames,
    tracked: Tracked,
    cameras: Camera,
    *,
    valid: Bool[Array, "b t"] | None = None,
    keep: Any = lambda face: face,
    config: Config | None = None,
) -> tuple[Person, Any]:
    """`measure_clip` for several clips: frames all at once, persons one after the other.

    Args:
        persons: histories, one row per lane.
        frames: RGB, 0 to 255.
        tracked: result of `track_lanes` on `frames`.
        cameras: intrinsics, one row per lane.
        valid: as in `measure_clip`.
        keep: what of a frame's face is kept, under `jax.vmap`; by default all.
        config: settings; by default the model's own.
    Returns:
        What is known about the persons, and [lane, frame] a `ClipFace`, or what `keep` makes of it.
    Reference:
        Specification 03, C.2.
    """
    valid = _check_lanes(frames, valid)
    config = complete_config(model, config)
    lanes, count = frames.shape[:2]

    def measure(inputs: tuple) -> Face:
        frame, tracked, camera = inputs
        return analyze_frame(
            *(model, frame, tracked.fit, camera),
            success=tracked.success,
            skip_rejected=True,
            config=config,
        )

    def one_by_one(inputs: tuple) -> Face:
        return lax.map(measure, inputs)

    cameras = jax.tree.map(lambda leaf: jnp.repeat(leaf, count, axis=0), cameras)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (frames, tracked))
    # A CPU has nothing from a batch; elsewhere a frame by itself fills a fraction of the device.
    faces = lax.platform_dependent((*flat, cameras), cpu=one_by_one, default=jax.vmap(measure))
    by_lane = jax.tree.map(lambda leaf: leaf.reshape(lanes, count, *leaf.shape[1:]), faces)

    def adapt(inputs: tuple) -> tuple[Person, Any]:
        person, results = adapt_to_person_at_once(model, *inputs, config=config)
        return person, jax.vmap(keep)(results)

    # Histograms are large: those of all lanes are never selected from, as under `jax.vmap`.
    return lax.map(adapt, (persons, by_lane, valid))


def analyze_lanes(
    model: Model,
    frames: LaneFrames,
    cameras: Camera,
    *,
    valid: Bool[Array, "b t"] | None = None,
    states: ClipState | None = None,
    sizes: Int[Array, "b 2"] | None = None,
    config: Config | None = None,
) -> tuple[ClipState, ClipFace]:
    """`analyze_clip` for several clips that step together, each a lane.

    `jax.vmap` of `finish_clip` then gives the action units. Long clips are given in pieces, each
    with the states after the one before; a lane whose clip ends goes on with another clip where
    its row of the states is that of `start_clip`. Under `shard_map` each device takes some lanes.

    Args:
        model: detector, landmark model and analyser.
        frames: RGB, 0 to 255; may be padded with zeros beyond `sizes`. Bytes are faster.
        cameras: intrinsics, px, one row per lane.
        valid: as in `track_lanes`.
        states: after the frames before, one row per lane; by default these are the first.
        sizes: height and width of each clip's pictures, px; by default all of `frames`.
        config: settings; by default the model's own.
    Returns:
        The states for the next frames, and for each frame what `clip_frame` gives, [lane, frame].
        Derivatives are those of `track_clip` and `analyze_frame`; what is learnt about the persons
        is constant under differentiation.
    Raises:
        ValueError: `frames` are not RGB images of several clips, or `valid` does not fit them.
    Reference:
        Specification 01, B.5; specification 03, C.2.
    """
    valid = _check_lanes(frames, valid)
    config = complete_config(model, config)
    states = same_for_lanes(start_clip(model), frames.shape[0]) if states is None else states
    settings: Any = {"valid": valid, "config": config}
    track, tracked = track_lanes(model, frames, states=states.track, sizes=sizes, **settings)
    persons, faces = measure_lanes(model, states.person, frames, tracked, cameras, **settings)
    return ClipState(track=track, person=persons), faces


def same_for_lanes(tree: Tree, lanes: int) -> Tree:
    """A pytree of arrays with a leading axis of lanes, all alike."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (lanes, *jnp.shape(leaf))), tree)


def _whole_frames(frames: LaneFrames) -> Int[Array, "b 2"]:
    return jnp.tile(jnp.asarray(frames.shape[2:4], jnp.int32)[None], (frames.shape[0], 1))


def _check_lanes(frames: LaneFrames, valid: Bool[Array, "b t"] | None) -> Bool[Array, "b t"]:
    """Which frames count, or a ValueError where the shapes are not those of several clips."""
    if frames.ndim != 5 or frames.shape[-1] != 3:
        raise ValueError(
            "frames: expected RGB images of several clips of shape (b, t, h, w, 3), got shape "
            f"{frames.shape}: give a single clip to jaxface.track_clip or jaxface.analyze_clip"
        )
    if valid is None:
        return jnp.ones(frames.shape[:2], bool)
    if valid.shape != frames.shape[:2]:
        raise ValueError(
            f"valid: expected shape {frames.shape[:2]}, an entry for each lane and frame, "
            f"got shape {valid.shape}"
        )
    return valid
