"""One frame through all stages: pure functions of a model, a state and an image."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt8

from ..analyze import (
    AlignConfig,
    Baseline,
    Gaze,
    OnlineCorrection,
    Scores,
    align_face,
    baseline_medians,
    correct_online,
    estimate_gaze,
    estimate_head_pose,
    extract_fhog,
    geometry_descriptor,
    init_baseline,
    init_online_correction,
    is_tracked,
    label_presence,
    landmarks_to_camera,
    score_action_units,
    subtract_medians,
    update_baseline,
)
from ..detect import DetectConfig, detect_faces, largest_face
from ..fit import (
    CLNF,
    FitConfig,
    fit_config,
    fit_pdm_to_landmarks,
    fitted_points,
    prepare_clnf,
    report_fit,
    reported_pdm,
    shape_3d,
)
from ..models import Model
from ..ops import select, to_gray
from ..track import Tracked, TrackState, start_track, track_landmarks
from ..types import Box, Camera, Fit, FivePoints, Image, PDMParameters

# For a detector of our own. At OpenFace's factor of 0.709 it misses faces whose size lies between
# two levels of the pyramid; the last threshold takes back the false faces of the other levels.
_OWN_DETECT = DetectConfig(factor=0.84, thresholds=(0.6, 0.7, 0.75))
_STORED = 3000  # successful frames that the second pass over a clip covers (specification 03, C.5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of all stages. `default_config(model)` gives OpenFace's."""

    detect: DetectConfig = DetectConfig()
    fit: FitConfig = FitConfig()
    align: AlignConfig = AlignConfig()
    static_action_units: bool = False  # the image model, not adapted to the person
    online: bool = False  # action units corrected while a live video runs


def default_config(
    model: Model,
    *,
    wild: bool = False,
    multi_view: bool | None = None,
    static_action_units: bool = False,
) -> Config:
    """OpenFace's settings for a model; those that suit it better for one of our own.

    Args:
        model: decides between the settings of CLNF and of CE-CLM.
        wild: settings for difficult still images (OpenFace's `-wild`).
        multi_view: start still images from 11 rotations (OpenFace's `-multi_view`); the default
            depends on the model.
        static_action_units: action units without adapting to the person (`-au_static`).
    """
    fit = fit_config(model.clnf, wild=wild, multi_view=multi_view)
    detect = DetectConfig() if model.clnf.reported is None else _OWN_DETECT
    return Config(detect=detect, fit=fit, static_action_units=static_action_units)


def prepare_model(model: Model, config: Config) -> Model:
    """Adds what a configuration needs beyond the default one; see `fit.prepare_clnf`."""
    clnf = prepare_clnf(model.clnf, config.fit)
    return model if clnf is model.clnf else eqx.tree_at(lambda m: m.clnf, model, clnf)


class Face(eqx.Module):
    """Everything measured on one face in one frame."""

    success: Bool[Array, ""]  # as OpenFace reports it
    accepted: Bool[Array, ""]  # by the validator; action units of a clip follow this one
    confidence: Float[Array, ""]  # 0 to 1
    landmarks: Float[Array, "n 2"]  # px
    landmarks_3d: Float[Array, "n 3"]  # camera frame, mm
    parameters: PDMParameters
    head_pose: Float[Array, "6"]  # Tx Ty Tz mm, Rx Ry Rz rad
    gaze: Gaze
    aligned: Float[Array, "s s 3"]  # RGB, 0 to 255
    fhog: Float[Array, "r c 31"]
    geometry: Float[Array, " g"]
    scores: Scores  # action units before the person's medians are subtracted


class ClipFace(eqx.Module):
    """A face of a clip, with the action units predicted at its time."""

    face: Face
    intensity: Float[Array, " u"]  # raw, or corrected online
    presence: Bool[Array, " c"]


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
    config: Config = Config(),
) -> tuple[TrackState, Tracked]:
    """Follows one face into the next frame of a video; detects it first, and after a loss.

    Args:
        model: detector and landmark model.
        state: history; `start_track(model.clnf)` before the first frame.
        image: RGB, 0 to 255; may be padded with zeros beyond `size`. Bytes are faster.
        size: height and width of the picture, px; by default all of `image`.
    Returns:
        The state for the next frame, and this frame's outcome.
    Raises:
        ValueError: `image` is not one RGB image.
    Reference:
        Specification 01, B.5.
    """
    check_image(image)
    size = jnp.asarray(image.shape[:2] if size is None else size)

    def find_face() -> tuple[Box, FivePoints, Bool[Array, ""]]:
        floats = image.astype(model.clnf.main.pdm.mean_shape.dtype)
        return largest_face(detect_faces(model.detector, floats, size=size, config=config.detect))

    with jax.named_scope("track"):
        return track_landmarks(
            model.clnf, state, to_gray(image), find_face, size=size, config=config.fit
        )


def check_image(image: Image | UInt8[Array, "h w 3"]) -> None:
    """Raises a ValueError unless `image` has the shape of one RGB image."""
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(
            f"image must be one RGB image of shape (h, w, 3), got shape {image.shape}: "
            "stack a grey image three times, give batches to jaxface.analyze_video or jax.vmap"
        )


def analyze_frame(
    model: Model,
    image: Image,
    fit: Fit,
    camera: Camera,
    *,
    success: Bool[Array, ""] | None = None,
    skip_rejected: bool = False,
    config: Config = Config(),
) -> Face:
    """Measures pose, gaze, appearance and action-unit scores of one fitted face.

    Args:
        model: analyser, and the PDMs of the fit.
        image: RGB, 0 to 255, that `fit` was made on.
        fit: landmarks and parameters.
        camera: intrinsics.
        success: what is reported, and whether gaze is given; by default the validator's verdict.
        skip_rejected: take the face of a rejected fit as black, as in videos.
    Reference:
        Specification 03, A to D.
    """
    check_image(image)
    success = fit.success if success is None else success
    found, fit = fitted_points(model.clnf, fit), report_fit(model.clnf, fit)
    shape = shape_3d(reported_pdm(model.clnf), fit.parameters.local)
    with jax.named_scope("pose_gaze"):
        landmarks_3d = landmarks_to_camera(shape, fit.landmarks, fit.parameters, camera)
        head_pose = estimate_head_pose(shape, fit.landmarks, fit.parameters, camera)
        gaze = _gaze(model.clnf, fit, landmarks_3d, head_pose, camera, success)
    aligned, fhog, geometry = _appearance(model, image, found, skip_rejected, config.align)
    units = model.analyser.image if config.static_action_units else model.analyser.video
    with jax.named_scope("action_units"):
        scores = score_action_units(units, fhog, geometry)
    return Face(
        success=success,
        accepted=fit.success,
        confidence=fit.confidence,
        landmarks=fit.landmarks,
        landmarks_3d=landmarks_3d,
        parameters=fit.parameters,
        head_pose=head_pose,
        gaze=gaze,
        aligned=aligned,
        fhog=fhog,
        geometry=geometry,
        scores=scores,
    )


def _gaze(
    clnf: CLNF,
    fit: Fit,
    landmarks_3d: Float[Array, "n 3"],
    head_pose: Float[Array, "6"],
    camera: Camera,
    success: Bool[Array, ""],
) -> Gaze:
    """Gaze from the two eye models; zero vectors where the frame failed."""
    names = [part.name for part in clnf.parts]
    order = [names.index(name) for name in ("left_eye_28", "right_eye_28")]
    left, right = (fit.parts[i] for i in order)
    shapes = [shape_3d(clnf.parts[i].model.pdm, fit.parts[i].parameters.local) for i in order]
    gaze = estimate_gaze((left, right), (shapes[0], shapes[1]), landmarks_3d, head_pose, camera)
    kept = (jnp.where(success, gaze.gaze, 0), jnp.where(success, gaze.gaze_angle, 0))
    return eqx.tree_at(lambda g: (g.gaze, g.gaze_angle), gaze, kept)


def _appearance(
    model: Model, image: Image, fit: Fit, skip_rejected: bool, config: AlignConfig
) -> tuple[Float[Array, "s s 3"], Float[Array, "r c 31"], Float[Array, " g"]]:
    """Aligned face, FHOG and geometry; all zero where a rejected fit is skipped."""
    pdm = model.analyser.pdm

    def draw(fit: Fit) -> tuple[Float[Array, "s s 3"], Float[Array, " g"]]:
        refitted = fit_pdm_to_landmarks(pdm, fit.landmarks)
        face = align_face(image, fit.landmarks, refitted, pdm, model.clnf.triangles, config=config)
        return face.image, geometry_descriptor(pdm, refitted)

    def blank(_) -> tuple[Float[Array, "s s 3"], Float[Array, " g"]]:
        side, features = config.size, pdm.mean_shape.size + pdm.eigenvalues.size
        return jnp.zeros((side, side, 3), image.dtype), jnp.zeros(features, image.dtype)

    tracked = is_tracked(fit.landmarks, fit.parameters.scale)
    # The branch also keeps the warp apart from FHOG: fused, each pixel is sampled 20 times over.
    drawn = (tracked & fit.success) if skip_rejected else tracked
    with jax.named_scope("align"):
        aligned, geometry = lax.cond(drawn, draw, blank, fit)
    with jax.named_scope("fhog"):
        return aligned, extract_fhog(aligned), geometry


def start_person(model: Model) -> Person:
    """State before anything is known about the person."""
    analyser = model.analyser
    pdm = analyser.pdm
    units = max(len(heads.intensity.names) for heads in (analyser.video, analyser.image))
    return Person(
        baseline=init_baseline(geometry_size=pdm.mean_shape.size + pdm.eigenvalues.size),
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
    config: Config = Config(),
) -> tuple[ClipState, ClipFace]:
    """Tracks and analyses the next frame of a clip with one face.

    With `config.online` the action units are ready to use, as OpenFace shows them for a webcam.
    Without, they are raw until `jaxface.analyze_video` has seen the whole clip.

    Args:
        state: history; `start_clip(model)` before the first frame.
        image: RGB, 0 to 255; may be padded with zeros beyond `size`. Bytes are faster.
        camera: intrinsics.
        size: height and width of the picture, px; by default all of `image`.
    Reference:
        Specification 01, B.5; specification 03, C.2.
    """
    track, tracked = track_frame(model, state.track, image, size=size, config=config)
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
    config: Config = Config(),
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
    model: Model, person: Person, face: Face, *, config: Config = Config()
) -> tuple[Person, ClipFace]:
    """Learns the person's neutral face from one more frame and predicts its action units.

    Args:
        person: history; `start_person(model)` before the first frame.
        face: measured on the frame.
    Reference:
        Specification 03, C.2.
    """
    units = model.analyser.image if config.static_action_units else model.analyser.video
    accepted = person.accepted + face.accepted
    baseline, scores, online = person.baseline, face.scores, person.online
    if not config.static_action_units:
        baseline = update_baseline(baseline, face.fhog, face.geometry, face.accepted)
        # Up to here the second pass over the clip predicts again, with the final medians.
        wanted = config.online | (accepted > _STORED)
        medians = lax.cond(wanted, baseline_medians, lambda b: jnp.zeros_like(units.mean), baseline)
        scores = subtract_medians(units, scores, medians)
    intensity = jnp.where(face.accepted, scores.intensity, 0)
    presence = label_presence(units.presence, scores.presence) & face.accepted
    if config.online:
        online, intensity = correct_online(online, scores.intensity, face.accepted)
    person = Person(baseline=baseline, online=online, accepted=accepted)
    return person, ClipFace(face=face, intensity=intensity, presence=presence)


def single_image(face: Face, model: Model) -> ClipFace:
    """Action units of a face that stands for itself: clipped, neither adapted nor smoothed.

    Args:
        face: measured with `config.static_action_units`.
    Reference:
        Specification 03, C.7.
    """
    presence = label_presence(model.analyser.image.presence, face.scores.presence)
    intensity = jnp.clip(face.scores.intensity, 0, np.float32(5))
    return ClipFace(face=face, intensity=intensity, presence=presence)
