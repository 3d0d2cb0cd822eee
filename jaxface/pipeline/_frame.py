"""One face of one frame: everything that is measured from its landmarks."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, UInt8

from ..analyze import (
    AlignConfig,
    Gaze,
    Scores,
    align_face,
    estimate_gaze,
    estimate_head_pose,
    extract_fhog,
    geometry_descriptor,
    is_tracked,
    label_presence,
    landmarks_to_camera,
    no_gaze,
    score_action_units,
)
from ..fit import (
    AnyCLNF,
    fit_pdm_to_landmarks,
    fitted_points,
    report_fit,
    reported_pdm,
    shape_3d,
)
from ..models import Config, Model, complete_config
from ..ops import call_in_turn
from ..types import Camera, Fit, FlatImage, Image, Landmarks, PDMParameters

Picture = Image | UInt8[Array, "h w 3"] | FlatImage  # RGB, 0 to 255


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


def check_image(image: Picture) -> None:
    """Raises a ValueError unless `image` has the shape of one RGB image."""
    if isinstance(image, FlatImage):
        return
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(
            f"image must be one RGB image of shape (h, w, 3), got shape {image.shape}: "
            "stack a grey image three times, give a clip to jaxface.analyze_clip"
        )


def analyze_frame(
    model: Model,
    image: Picture,
    fit: Fit,
    camera: Camera,
    *,
    success: Bool[Array, ""] | None = None,
    skip_rejected: bool = False,
    config: Config | None = None,
) -> Face:
    """Measures pose, gaze, appearance and action-unit scores of one fitted face.

    Differentiable by image, fit, camera and weights. What is rounded or chosen has the derivative
    of the smooth computation beside it: see `align_face` and `extract_fhog`; where
    `config.align.smooth` is set the derivative of the scores is exact. Head pose, gaze and
    geometry have their own. Zero by design: the mask, `success` and `accepted`, and all that is
    measured of a face that is not tracked or is skipped. A pixel that is not finite counts as 0
    and spoils nobody's derivative.

    Args:
        model: analyser, and the PDMs of the fit.
        image: RGB, 0 to 255, bytes or floats, that `fit` was made on. As a `FlatImage` it makes
            one program serve pictures of all sizes; values and derivatives are the same.
        fit: landmarks and parameters.
        camera: intrinsics.
        success: what is reported, and whether gaze is given; by default the validator's verdict.
        skip_rejected: take the face of a rejected fit as black, as in videos.
        config: settings; by default the model's own.
    Reference:
        Specification 03, A to D.
    """
    check_image(image)
    config = complete_config(model, config)
    success = fit.success if success is None else success
    return call_in_turn(_analyze, model, image, fit, camera, success, skip_rejected, config)


def _analyze(
    model: Model,
    image: Picture,
    fit: Fit,
    camera: Camera,
    success: Bool[Array, ""],
    skip_rejected: bool,
    config: Config,
) -> Face:
    found, fit = fitted_points(model.clnf, fit), report_fit(model.clnf, fit)
    landmarks_3d, head_pose, gaze = pose_and_gaze(model.clnf, fit, camera, success)
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


@jax.named_scope("pose_gaze")
def pose_and_gaze(
    clnf: AnyCLNF, fit: Fit, camera: Camera, success: Bool[Array, ""]
) -> tuple[Float[Array, "n 3"], Float[Array, "6"], Gaze]:
    """Landmarks in the camera frame, head pose and gaze of a fit as it is reported."""
    shape = shape_3d(reported_pdm(clnf), fit.parameters.local)
    landmarks_3d = landmarks_to_camera(shape, fit.landmarks, fit.parameters, camera)
    head_pose = estimate_head_pose(shape, fit.landmarks, fit.parameters, camera)
    return landmarks_3d, head_pose, _gaze(clnf, fit, landmarks_3d, head_pose, camera, success)


def _gaze(
    clnf: AnyCLNF,
    fit: Fit,
    landmarks_3d: Float[Array, "n 3"],
    head_pose: Float[Array, "6"],
    camera: Camera,
    success: Bool[Array, ""],
) -> Gaze:
    """Gaze from the two eye models; zeros where the frame failed or the model has no eyes."""
    eyes = clnf.scheme.eyes
    if eyes is None:
        return no_gaze(landmarks_3d.dtype)
    parts = clnf.parts
    order = [[part.name for part in parts].index(name) for name in eyes.parts]
    left, right = (fit.parts[i] for i in order)
    shapes = [shape_3d(parts[i].model.pdm, fit.parts[i].parameters.local) for i in order]
    gaze = estimate_gaze(
        (left, right),
        (shapes[0], shapes[1]),
        landmarks_3d,
        head_pose,
        camera,
        corners=eyes.corners,
    )
    kept = (jnp.where(success, gaze.gaze, 0), jnp.where(success, gaze.gaze_angle, 0))
    return eqx.tree_at(lambda g: (g.gaze, g.gaze_angle), gaze, kept)


def _appearance(
    model: Model,
    image: Picture,
    fit: Fit,
    skip_rejected: bool,
    config: AlignConfig | None,
) -> tuple[Float[Array, "s s 3"], Float[Array, "r c 31"], Float[Array, " g"]]:
    """Aligned face, FHOG and geometry; all zero where a rejected fit is skipped."""
    pdm = model.analyser.pdm
    config = model.analyser.align if config is None else config

    def draw(landmarks: Landmarks) -> tuple[Float[Array, "s s 3"], Float[Array, " g"]]:
        refitted = fit_pdm_to_landmarks(pdm, landmarks, converge=config.smooth)
        face = align_face(image, landmarks, refitted, pdm, model.clnf.scheme, config=config)
        return face.image, geometry_descriptor(pdm, refitted)

    def blank(_) -> tuple[Float[Array, "s s 3"], Float[Array, " g"]]:
        side, features = config.size, pdm.mean_shape.size + pdm.eigenvalues.size
        dtype = fit.landmarks.dtype
        return jnp.zeros((side, side, 3), dtype), jnp.zeros(features, dtype)

    tracked = is_tracked(fit.landmarks, fit.parameters.scale)
    # The branch also keeps the warp apart from FHOG: fused, each pixel is sampled 20 times over.
    drawn = (tracked & fit.success) if skip_rejected else tracked
    # Under `vmap` both branches run: landmarks that are not numbers must not spoil derivatives.
    landmarks = jnp.where(drawn, fit.landmarks, 0)
    with jax.named_scope("align"):
        aligned, geometry = lax.cond(drawn, draw, blank, landmarks)
    with jax.named_scope("fhog"):
        return aligned, extract_fhog(aligned, smooth=config.smooth), geometry


def single_image(face: Face, model: Model) -> ClipFace:
    """Action units of a face that stands for itself: clipped, neither adapted nor smoothed.

    Args:
        face: measured with `config.static_action_units`.
    Reference:
        Specification 03, C.7. An intensity at its limit, 0 or 5, and presence have no derivative;
        `face.scores` have.
    """
    presence = label_presence(model.analyser.image.presence, face.scores.presence)
    intensity = jnp.clip(face.scores.intensity, 0, 5)
    return ClipFace(face=face, intensity=intensity, presence=presence)
