"""Gaze direction from the fitted eye models and the head pose."""

import equinox as eqx
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ..ops import euler_to_matrix, rotate
from ..types import Camera, PartFit
from ._head_pose import landmarks_to_camera

_EyeCorners = tuple[tuple[int, int], tuple[int, int]]
_EYEBALL_OFFSET = (0.0, -3.5, 7.0)  # mm from the middle of the corners, head frame
_EYEBALL_RADIUS = 12.0  # mm
_IRIS = 8  # the first points of an eye model are the iris ring


class Gaze(eqx.Module):
    """Gaze of both eyes, first the eye on the left of the image."""

    gaze: Float[Array, "2 3"]  # unit vectors, camera frame
    gaze_angle: Float[Array, "2"]  # mean of both eyes: to the right, down; rad
    eye_landmarks: Float[Array, "e 2"]  # px, left eye's points then right eye's
    eye_landmarks_3d: Float[Array, "e 3"]  # camera frame, mm


def estimate_gaze(
    eyes: tuple[PartFit, PartFit],
    eye_shapes: tuple[Float[Array, "p 3"], Float[Array, "p 3"]],
    landmarks_3d: Float[Array, "n 3"],
    head_pose: Float[Array, "6"],
    camera: Camera,
    *,
    corners: _EyeCorners = ((36, 39), (42, 45)),
) -> Gaze:
    """Estimates where both eyes look.

    The line of sight to the iris centre meets a sphere around the eyeball centre, which
    follows from the eye corners and the head's rotation; gaze points from the eyeball centre
    to that meeting point.

    Args:
        eyes: fits of the 28-point eye models, left in the image first.
        eye_shapes: their PDM shapes, mm.
        landmarks_3d: all landmarks in the camera frame, mm.
        head_pose: from `estimate_head_pose`.
        camera: intrinsics, px.
        corners: landmarks at the corners of each eye; see `LandmarkScheme.eyes`.

    Returns:
        Gaze; vectors and angles are 0 for an eye that was never fitted, and have no derivative
        there. Elsewhere it is exact, and piecewise: large where the line of sight just meets the
        eyeball's edge; where it misses, that of OpenFace's stand-in, by the eyeball alone.

    Reference:
        Specification 03, D.4. Differs: the intersection is written without the cancellation
        of the quadratic formula.
    """
    points = [
        landmarks_to_camera(shape, eye.landmarks, eye.parameters, camera)
        for eye, shape in zip(eyes, eye_shapes, strict=True)
    ]
    offset = jnp.asarray([_EYEBALL_OFFSET], head_pose.dtype)
    offset = rotate(euler_to_matrix(head_pose[3:]), offset)[0]
    gaze = []
    for eye_points, (a, b) in zip(points, corners, strict=True):
        centre = (landmarks_3d[a] + landmarks_3d[b]) / 2 + offset
        gaze.append(_gaze_of_eye(jnp.mean(eye_points[:_IRIS], axis=0), centre))
    return Gaze(
        gaze=jnp.stack(gaze),
        gaze_angle=_gaze_angle((gaze[0] + gaze[1]) / 2),
        eye_landmarks=jnp.concatenate([eye.landmarks for eye in eyes]),
        eye_landmarks_3d=jnp.concatenate(points),
    )


def no_gaze(dtype: DTypeLike) -> Gaze:
    """What stands in for the gaze of a model that has no eyes: zeros, and no eye landmarks."""
    return Gaze(
        gaze=jnp.zeros((2, 3), dtype),
        gaze_angle=jnp.zeros(2, dtype),
        eye_landmarks=jnp.zeros((0, 2), dtype),
        eye_landmarks_3d=jnp.zeros((0, 3), dtype),
    )


def _gaze_of_eye(iris: Float[Array, "3"], eyeball: Float[Array, "3"]) -> Float[Array, "3"]:
    """Gives the unit vector from the eyeball's centre to its near surface, seen along `iris`."""
    fitted = jnp.any(iris != 0)
    sight = _normalise(jnp.where(fitted, iris, 1))
    along = jnp.sum(sight * eyeball)
    aside = eyeball - along * sight
    square = _EYEBALL_RADIUS**2 - jnp.sum(aside * aside)
    hits = square > 0
    near = along - jnp.sqrt(jnp.where(hits, square, 1))
    # A miss keeps OpenFace's stand-in, which is a point and not a direction.
    miss = jnp.asarray([0.0, 0.0, -1.0], iris.dtype)
    vector = jnp.where(hits, near * sight, miss) - eyeball
    fitted = fitted & jnp.any(vector != 0) & jnp.all(jnp.isfinite(vector))
    return jnp.where(fitted, _normalise(jnp.where(fitted, vector, 1)), 0)


def _gaze_angle(mean: Float[Array, "3"]) -> Float[Array, "2"]:
    x, y, z = jnp.where(jnp.any(mean != 0), mean, jnp.asarray([0.0, 0.0, -1.0], mean.dtype))
    return jnp.stack([jnp.arctan2(x, -z), jnp.arctan2(y, -z)])


def _normalise(vector: Float[Array, "3"]) -> Float[Array, "3"]:
    return vector / jnp.sqrt(jnp.sum(vector * vector))
