"""How sure the measures of a face are: the fit's covariance through pose, gaze and action units."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from ..fit import landmark_uncertainty, propagate_covariance, reported_pdm, shape_2d
from ..models import Config, Model, complete_config
from ..ops import to_gray
from ..types import Camera, Fit, Image, PartFit, PDMParameters
from ._frame import analyze_frame, check_image, pose_and_gaze


class FaceUncertainty(eqx.Module):
    """Covariances of a face's measures. Standard deviations are the roots of the diagonals."""

    landmarks: Float[Array, "n 2 2"]  # px^2, of each landmark by itself
    head_pose: Float[Array, "6 6"]  # mm, then rad; as `Face.head_pose`
    gaze_angle: Float[Array, "2 2"]  # rad^2; zeros where the model has no eyes
    intensity: Float[Array, "u u"]  # of action units, as `Face.scores`


def face_uncertainty(
    model: Model,
    image: Image | UInt8[Array, "h w 3"],
    fit: Fit,
    camera: Camera,
    *,
    calibration: Float[Array, ""] | float | None = None,
    samples: int = 64,
    config: Config | None = None,
) -> FaceUncertainty:
    """Propagates `landmark_uncertainty` to pose, gaze and action units.

    Pose and gaze to first order; the errors of the main model and of each eye are taken as
    independent. Action units from samples of the landmarks, as FHOG is linear for less than they
    are uncertain by. What is given is what the landmarks alone make uncertain: the action units'
    regressors, the camera's intrinsics and the eyes' anatomy have errors of their own. Derivatives
    of the covariances follow those samples.

    Args:
        model: analyser, and the landmark model that made the fit.
        image: RGB, 0 to 255, that `fit` was made on.
        fit: as for `analyze_frame`.
        camera: intrinsics.
        calibration: see `landmark_uncertainty`.
        samples: of the landmarks, for action units: each costs an `analyze_frame`.
        config: settings; by default the model's own.
    Returns:
        Covariances, finite. The action units' are zero where a face was never tracked.
    """
    check_image(image)
    config = complete_config(model, config)
    image = image.astype(fit.landmarks.dtype)
    gray = to_gray(image)
    found = landmark_uncertainty(model.clnf, gray, fit, calibration=calibration, config=config.fit)
    values = (fit.parameters, *(part.parameters for part in fit.parts))

    seen = jnp.ones((), bool)

    def geometry(values: tuple[PDMParameters, ...]) -> tuple[Array, Array]:
        moved = _with_parameters(model, fit, values)
        _, head_pose, gaze = pose_and_gaze(model.clnf, moved, camera, seen)
        return head_pose, gaze.gaze_angle

    def intensity(main: PDMParameters) -> Array:
        moved = _with_parameters(model, fit, (main, *values[1:]))
        face = analyze_frame(model, image, moved, camera, success=seen, config=config)
        return face.scores.intensity

    blocks = _block_diagonal((found.parameters, *found.parts))
    geometric = propagate_covariance(geometry, values, blocks)
    return FaceUncertainty(
        landmarks=found.landmarks,
        head_pose=geometric[:6, :6],
        gaze_angle=geometric[6:, 6:],
        intensity=propagate_covariance(intensity, values[0], found.parameters, samples=samples),
    )


def _with_parameters(model: Model, fit: Fit, values: tuple[PDMParameters, ...]) -> Fit:
    """The fit with other parameters of the main model and the parts, and their landmarks."""
    main, *others = values
    parts = tuple(
        PartFit(parameters=other, landmarks=shape_2d(part.model.pdm, other))
        for part, other in zip(model.clnf.parts, others, strict=True)
    )
    landmarks = shape_2d(reported_pdm(model.clnf), main)
    return dataclasses.replace(fit, parameters=main, landmarks=landmarks, parts=parts)


def _block_diagonal(blocks: tuple[Float[Array, "_ _"], ...]) -> Float[Array, "k k"]:
    size = sum(len(block) for block in blocks)
    rows, start = [], 0
    for block in blocks:
        rows.append(jnp.pad(block, ((0, 0), (start, size - start - len(block)))))
        start += len(block)
    return jnp.concatenate(rows)
