"""A clip with one face, frame by frame: tracking, then what is learnt about the person."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..analyze import (
    STORED,
    ActionUnits,
    Baseline,
    OnlineCorrection,
    Scores,
    baseline_medians,
    correct_online,
    init_baseline,
    init_online_correction,
    label_presence,
    subtract_medians,
    update_baseline,
    update_baseline_at_once,
)
from ..detect import detect_faces, largest_face
from ..fit import border_luma
from ..models import Config, Model, complete_config
from ..ops import call_in_turn, select, to_gray
from ..track import Tracked, TrackState, start_track, track_bordered
from ..types import Bordered, Box, Camera, FivePoints, FlatImage
from ._frame import ClipFace, Face, Picture, analyze_frame, check_image


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
    image: Picture,
    *,
    size: Int[Array, "2"] | None = None,
    plan: Any = None,
    config: Config | None = None,
) -> tuple[TrackState, Tracked]:
    """Follows one face into the next frame of a video; detects it first, and after a loss.

    Args:
        model: detector and landmark model.
        state: history; `start_track(model.clnf)` before the first frame.
        image: RGB, 0 to 255; may be padded with zeros beyond `size`, or flat. Bytes are faster.
        size: height and width of the picture, px; by default all of `image`.
        plan: of a flat image, for the detector: see `detect_faces`.
        config: settings; by default the model's own.
    Returns:
        The state for the next frame, and this frame's outcome.
    Raises:
        ValueError: `image` is not one RGB image, or a flat one has no plan.
    Reference:
        Specification 01, B.5.
    """
    check_image(image)
    config = complete_config(model, config)
    size = size_of(image, size)
    padded = border_luma(to_gray(image))
    return track_bordered_frame(model, state, image, padded, size, plan, config)


def size_of(image: Picture, size: Int[Array, "2"] | None) -> Int[Array, "2"]:
    """Height and width of a picture, px: the given ones, or all of it; a flat one has its own."""
    if isinstance(image, FlatImage):
        return image.size
    return jnp.asarray(image.shape[:2] if size is None else size, jnp.int32)


def track_bordered_frame(
    model: Model,
    state: TrackState,
    image: Picture,
    padded: Bordered,
    size: Int[Array, "2"],
    plan: Any,
    config: Config,
) -> tuple[TrackState, Tracked]:
    """`track_frame`, whose luma with its border is there already: see `fit.border_luma`."""
    return call_in_turn(_track_frame, model, state, image, padded, size, plan, config)


def _track_frame(
    model: Model,
    state: TrackState,
    image: Picture,
    padded: Bordered,
    size: Int[Array, "2"],
    plan: Any,
    config: Config,
) -> tuple[TrackState, Tracked]:
    def find_face() -> tuple[Box, FivePoints, Bool[Array, ""]]:
        picture = image
        if not isinstance(picture, FlatImage):
            picture = picture.astype(model.clnf.main.pdm.mean_shape.dtype)
        settings = {"size": size, "plan": plan, "config": config.detect}
        return largest_face(detect_faces(model.detector, picture, **settings))

    with jax.named_scope("track"):
        return track_bordered(model.clnf, state, padded, find_face, size=size, config=config.fit)


def start_person(model: Model, *, counts: np.dtype = np.dtype(np.int32)) -> Person:
    """State before anything is known about the person.

    Args:
        counts: of the histograms, see `jaxface.analyze.init_baseline`.
    """
    analyser = model.analyser
    pdm = analyser.pdm
    units = max(len(heads.intensity.names) for heads in (analyser.video, analyser.image))
    return Person(
        baseline=init_baseline(
            geometry_size=pdm.mean_shape.size + pdm.eigenvalues.size,
            dtype=np.dtype(pdm.mean_shape.dtype),
            counts=counts,
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
    image: Picture,
    camera: Camera,
    *,
    size: Int[Array, "2"] | None = None,
    plan: Any = None,
    config: Config | None = None,
) -> tuple[ClipState, ClipFace]:
    """Tracks and analyses the next frame of a clip with one face.

    With `config.online` the action units are ready to use, as OpenFace shows them for a webcam.
    Without, they are raw until `jaxface.analyze_video` has seen the whole clip.

    Args:
        state: history; `start_clip(model)` before the first frame.
        image: RGB, 0 to 255; may be padded with zeros beyond `size`, or flat. Bytes are faster.
        camera: intrinsics.
        size: height and width of the picture, px; by default all of `image`.
        plan: of a flat image, for the detector: see `detect_faces`.
        config: settings; by default the model's own.
    Reference:
        Specification 01, B.5; specification 03, C.2.
    """
    config = complete_config(model, config)
    check_image(image)
    size = size_of(image, size)
    return call_in_turn(_clip_frame, model, state, image, camera, size, plan, config)


def _clip_frame(
    model: Model,
    state: ClipState,
    image: Picture,
    camera: Camera,
    size: Int[Array, "2"],
    plan: Any,
    config: Config,
) -> tuple[ClipState, ClipFace]:
    padded = border_luma(to_gray(image))
    track, tracked = _track_frame(model, state.track, image, padded, size, plan, config)
    person, face = measure_tracked(model, state.person, image, tracked, camera, config=config)
    return ClipState(track=track, person=person), face


def measure_tracked(
    model: Model,
    person: Person,
    image: Picture,
    tracked: Tracked,
    camera: Camera,
    *,
    config: Config | None = None,
) -> tuple[Person, ClipFace]:
    """The second half of `clip_frame`: everything after the landmarks.

    It is `analyze_frame` and `adapt_to_person`: learns the person's neutral face and predicts the
    action units of this frame.

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
    Returns:
        What is known about the person after the frame, and the face with its action units: raw, or
        corrected online. Those of the first 3000 accepted frames lack the person's medians where
        nothing is corrected online: `jaxface.analyze_video` predicts them again at the end.
    Reference:
        Specification 03, C.2.
    """
    config = complete_config(model, config)
    units = model.analyser.image if config.static_action_units else model.analyser.video
    accepted = person.accepted + face.accepted.astype(jnp.int32)
    baseline, scores, online = person.baseline, face.scores, person.online
    if not config.static_action_units:
        baseline = update_baseline(baseline, face.fhog, face.geometry, face.accepted)

        def adapted(scores: Scores) -> Scores:
            return subtract_medians(units, scores, baseline_medians(baseline))

        # Up to here the second pass over the clip predicts again, with the final medians.
        wanted = config.online | (accepted > STORED)
        scores = lax.cond(wanted, adapted, lambda s: s, scores)
    result = _predicted(units, face, scores)
    if config.online:
        online, intensity = correct_online(online, scores.intensity, face.accepted)
        result = eqx.tree_at(lambda r: r.intensity, result, intensity)
    return Person(baseline=baseline, online=online, accepted=accepted), result


@jax.named_scope("action_units")
def adapt_to_person_at_once(
    model: Model,
    person: Person,
    faces: Face,
    valid: Bool[Array, " t"],
    *,
    config: Config | None = None,
) -> tuple[Person, ClipFace]:
    """Learns from consecutive frames what `adapt_to_person` learns from one after the other.

    Only where something is corrected online, or after a clip's first 3000 accepted frames, do the
    action units of a frame depend on what was learnt before. Elsewhere all frames are counted at
    once.

    Args:
        person: history; `start_person(model)` before the first frame.
        faces: measured on the frames, with a leading axis t.
        valid: false for frames that only fill the arrays up; they leave the person as it was, and
            their action units mean nothing.
    Returns:
        As `adapt_to_person`; the faces' action units have a leading axis t.
    Reference:
        Specification 03, C.2.
    """
    config = complete_config(model, config)
    if config.online:
        return _adapt_in_turn(model, person, faces, valid, config)
    units = model.analyser.image if config.static_action_units else model.analyser.video
    baseline, scores = person.baseline, faces.scores
    accepted = person.accepted + jnp.cumsum(faces.accepted & valid, dtype=jnp.int32)
    if not config.static_action_units:
        baseline, medians = _learn(baseline, faces, valid, accepted[-1] > STORED)

        def adapted(inputs: tuple) -> Scores:
            scores, medians, late = inputs
            return select(late, subtract_medians(units, scores, medians), scores)

        late = accepted > STORED
        scores = lax.cond(
            late[-1], lambda x: lax.map(adapted, x), lambda x: x[0], (scores, medians, late)
        )
    result = jax.vmap(lambda face, scores: _predicted(units, face, scores))(faces, scores)
    return Person(baseline=baseline, online=person.online, accepted=accepted[-1]), result


def _adapt_in_turn(
    model: Model, person: Person, faces: Face, valid: Bool[Array, " t"], config: Config
) -> tuple[Person, ClipFace]:
    def step(person: Person, inputs: tuple[Face, Bool[Array, ""]]) -> tuple[Person, ClipFace]:
        face, live = inputs
        after, result = adapt_to_person(model, person, face, config=config)
        return choose_person(live, after, person), result

    return lax.scan(step, person, (faces, valid))


def _learn(
    baseline: Baseline, faces: Face, valid: Bool[Array, " t"], in_turn: Bool[Array, ""]
) -> tuple[Baseline, Float[Array, "t d"]]:
    """Counts frames, and gives the medians after each; `in_turn` false: at once, without medians.

    No branch holds the histograms: XLA copies what goes into one and comes out changed.
    """
    count = len(valid)
    # All constant by design; reverse mode does not pass a loop of unknown length.
    frames = lax.stop_gradient((faces.fhog, faces.geometry, faces.accepted))
    baseline = lax.stop_gradient(baseline)

    def step(k: Int[Array, ""], carry: tuple) -> tuple:
        baseline, medians = carry
        fhog, geometry, accepted, live = (
            lax.dynamic_slice_in_dim(x, k, 1) for x in (*frames, valid)
        )
        after = update_baseline_at_once(baseline, fhog, geometry, accepted, live)
        stale = (k == 0) | (after.frames % 2 == 1)  # only odd frames enter the medians
        row = lax.cond(
            stale, lambda: baseline_medians(after), lambda: medians[jnp.maximum(k - 1, 0)]
        )
        return after, medians.at[k].set(row)

    medians = jnp.zeros((count, baseline.latest.size), baseline.latest.dtype)
    steps = jnp.where(in_turn, count, 0)
    baseline, medians = lax.fori_loop(0, steps, step, (baseline, medians))
    return update_baseline_at_once(baseline, *frames, valid & ~in_turn), medians


def _predicted(units: ActionUnits, face: Face, scores: Scores) -> ClipFace:
    """A face with raw action units from the scores; zeros where it was not accepted."""
    return ClipFace(
        face=face,
        intensity=jnp.where(face.accepted, scores.intensity, 0),
        presence=label_presence(units.presence, scores.presence) & face.accepted,
    )
