"""Rotations (Euler, axis-angle, matrix) and the pinhole camera.

Euler angles are (pitch, yaw, roll), rad, and mean Rx @ Ry @ Rz. Every function keeps the
dtype of its input and has finite derivatives for finite input.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._types import Camera

_TINY = 1e-12  # keeps square roots and quotients differentiable at 0


def euler_to_matrix(rotation: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Gives the rotation matrix Rx @ Ry @ Rz.

    Args:
        rotation: pitch, yaw, roll, rad.

    Returns:
        A proper rotation.

    Reference:
        Specification 02, B.1.
    """
    s1, s2, s3 = jnp.sin(rotation)
    c1, c2, c3 = jnp.cos(rotation)
    rows = (
        (c2 * c3, -c2 * s3, s2),
        (c1 * s3 + c3 * s1 * s2, c1 * c3 - s1 * s2 * s3, -c2 * s1),
        (s1 * s3 - c1 * c3 * s2, c3 * s1 + c1 * s2 * s3, c1 * c2),
    )
    return jnp.stack([jnp.stack(row) for row in rows])


def matrix_to_euler(matrix: Float[Array, "3 3"]) -> Float[Array, "3"]:
    """Gives the Euler angles of a rotation matrix, by way of its quaternion.

    The quaternion form has no solution for a half turn (trace -1) and beyond; the angles are
    then all 0, as they are for input that is not finite.

    Args:
        matrix: a proper rotation.

    Returns:
        Pitch, yaw, roll, rad.

    Reference:
        Specification 02, B.1 and quirk 14.
    """
    r = matrix
    trace = 1 + r[0, 0] + r[1, 1] + r[2, 2]
    solvable = (trace > _TINY) & jnp.all(jnp.isfinite(r))
    r = jnp.where(solvable, r, jnp.eye(3, dtype=r.dtype))
    q0 = jnp.sqrt(1 + r[0, 0] + r[1, 1] + r[2, 2]) / 2
    q1 = (r[2, 1] - r[1, 2]) / (4 * q0)
    q2 = (r[0, 2] - r[2, 0]) / (4 * q0)
    q3 = (r[1, 0] - r[0, 1]) / (4 * q0)
    t = jnp.clip(2 * (q0 * q2 + q1 * q3), -1, 1)
    # asin written with atan2: its slope at +-90 degrees of yaw stays finite.
    yaw = jnp.arctan2(t, jnp.sqrt(jnp.maximum((1 - t) * (1 + t), _TINY)))
    pitch = jnp.arctan2(2 * (q0 * q1 - q2 * q3), q0 * q0 - q1 * q1 - q2 * q2 + q3 * q3)
    roll = jnp.arctan2(2 * (q0 * q3 - q1 * q2), q0 * q0 + q1 * q1 - q2 * q2 - q3 * q3)
    return jnp.where(solvable, jnp.stack([pitch, yaw, roll]), 0)


def axis_angle_to_matrix(axis_angle: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Gives the rotation by |v| rad about v (Rodrigues).

    Args:
        axis_angle: v, rad.

    Returns:
        A proper rotation; the identity for v = 0.

    Reference:
        Specification 03, conventions, Rod(v).
    """
    square = jnp.sum(axis_angle * axis_angle)
    small = square < 1e-6
    angle = jnp.sqrt(jnp.where(small, 1, square))
    sine = jnp.where(small, 1 - square / 6, jnp.sin(angle) / angle)
    # 2 sin^2(a/2) is 1 - cos(a) without its cancellation.
    half = jnp.sin(angle / 2) / angle
    cosine = jnp.where(small, 0.5 - square / 24, 2 * half * half)
    k = skew(axis_angle)
    kk = jnp.matmul(k, k, precision=lax.Precision.HIGHEST)
    return jnp.eye(3, dtype=axis_angle.dtype) + sine * k + cosine * kk


def skew(vector: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Gives the cross-product matrix [v]x, so that [v]x @ u = v x u."""
    x, y, z = vector
    zero = jnp.zeros_like(x)
    rows = ((zero, -z, y), (z, zero, -x), (-y, x, zero))
    return jnp.stack([jnp.stack(row) for row in rows])


def rotate(matrix: Float[Array, "3 3"], points: Float[Array, "n 3"]) -> Float[Array, "n 3"]:
    """Applies a rotation to each point (row)."""
    return jnp.matmul(points, matrix.T, precision=lax.Precision.HIGHEST)


def project_pinhole(points: Float[Array, "n 3"], camera: Camera) -> Float[Array, "n 2"]:
    """Projects points in front of the camera with a pinhole model without distortion.

    Args:
        points: camera frame, mm, z > 0.
        camera: intrinsics, px.

    Returns:
        Image points, px.
    """
    x, y, z = points.T
    return jnp.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy], axis=-1)
