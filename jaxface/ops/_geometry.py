"""Rotations (Euler, axis-angle, matrix), plane similarities and the pinhole camera.

Euler angles are (pitch, yaw, roll), rad, and mean Rx @ Ry @ Rz. Every function keeps the
dtype of its input and has finite derivatives for finite input.
"""

import functools
import operator

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..types import Camera

_TINY = 1e-12  # keeps square roots and quotients differentiable at 0
_ALMOST_ONE = 1 - 2.0**-23


# Each of the nine entries of Rx @ Ry @ Rz is a sum of two products of three of these values: sin of
# pitch, yaw, roll (0 to 2), their cos (3 to 5), and 1 (6). The second is fused with the first.
_FACTORS = (
    ((6, 6, 6, 5, 3, 6, 0, 3, 6), (4, 4, 1, 3, 0, 4, 3, 5, 3)),
    ((6, 6, 6, 0, 5, 6, 2, 1, 6), (6, 6, 6, 6, 1, 6, 5, 6, 6)),
    ((6, 6, 6, 1, 6, 6, 6, 2, 6), (5, 2, 6, 2, 2, 0, 1, 0, 4)),
)
_SELECTED = np.eye(7)[np.array(_FACTORS)]
_SIGNS = np.array([[0, 0, 0, 1, 1, 0, 1, 1, 0], [1, -1, 1, 1, -1, -1, -1, 1, 1]])


def small_product(a: Float[Array, "*n i j"], b: Float[Array, "j k"]) -> Float[Array, "*n i k"]:
    """Matrix product for tiny j: XLA fuses it into its neighbours, as it does not a library's."""
    left = a[..., :, :, None]
    return jnp.sum(left * jnp.expand_dims(b, tuple(range(left.ndim - b.ndim))), axis=-2)


def euler_to_matrix(rotation: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Gives the rotation matrix Rx @ Ry @ Rz.

    Args:
        rotation: pitch, yaw, roll, rad.

    Returns:
        A proper rotation.

    Reference:
        Specification 02, B.1.
    """
    # Few operations and one kernel: this is inlined dozens of times into one program.
    dtype = rotation.dtype
    values = jnp.concatenate([jnp.sin(rotation), jnp.cos(rotation), jnp.ones(1, dtype)])
    selected, signs = jnp.asarray(_SELECTED, dtype), jnp.asarray(_SIGNS, dtype)
    first, second, third = jnp.sum(selected * values[None, None, None], axis=-1)
    return jnp.sum(signs * first * second * third, axis=0).reshape(3, 3)


def matrix_to_euler(matrix: Float[Array, "3 3"]) -> Float[Array, "3"]:
    """Gives the Euler angles of a rotation matrix.

    OpenFace goes by way of the quaternion, which has no solution for a half turn (trace -1) and
    beyond; the angles are then all 0, as they are for input that is not finite.

    Args:
        matrix: a proper rotation.

    Returns:
        Pitch, yaw, roll, rad.

    Reference:
        Specification 02, B.1 and F, quirk 14.
    """
    return entries_to_euler([[matrix[i, j] for j in range(3)] for i in range(3)])


def entries_to_euler(entries: list[list[Float[Array, ""]]]) -> Float[Array, "3"]:
    """`matrix_to_euler` of a matrix that was never put together.

    Written out, because XLA makes each reduction over a small matrix a loop of its own.
    """
    trace = entries[0][0] + entries[1][1] + entries[2][2]
    finite = [jnp.isfinite(entry) for row in entries for entry in row]
    solvable = (1 + trace > _TINY) & functools.reduce(operator.and_, finite)

    def entry(i: int, j: int) -> Float[Array, ""]:
        return jnp.where(solvable, entries[i][j], 1 if i == j else 0)

    across = jnp.stack([-entry(1, 2), -entry(0, 1)])
    along = jnp.stack([entry(2, 2), entry(0, 0)])
    pitch, roll = jnp.arctan2(across, along)
    # Short of 1, so that the derivative of asin stays finite.
    yaw = jnp.arcsin(jnp.clip(entry(0, 2), -_ALMOST_ONE, _ALMOST_ONE))
    return jnp.stack([pitch, yaw, roll])


def axis_angle_to_matrix(axis_angle: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Gives the rotation by |v| rad about v (Rodrigues).

    Args:
        axis_angle: v, rad.

    Returns:
        A proper rotation; the identity for v = 0.

    Reference:
        Specification 03, 0.1.
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


def similarity_sums(
    points: Float[Array, "n 2"], target: Float[Array, "n 2"]
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Sums over two centred point sets that give the similarity from one to the other.

    The best proper rotation has the angle of the first two: in two dimensions that is what the
    singular value decomposition gives after its test for a reflection (Kabsch 1976). The best
    scale in least squares is their length over the third; the ratio of RMS radii is the root of
    the fourth over the third.

    Returns:
        Sums of dot products, of cross products, of squares of `points`, of squares of `target`.
    """
    cosine = jnp.sum(points * target)
    sine = jnp.sum(points[:, 0] * target[:, 1] - points[:, 1] * target[:, 0])
    return cosine, sine, jnp.sum(points * points), jnp.sum(target * target)


def similarity_matrix(a: Float[Array, ""], b: Float[Array, ""]) -> Float[Array, "2 2"]:
    """The plane's turn by the angle of (a, b), times their length."""
    return jnp.stack([a, -b, b, a]).reshape(2, 2)


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
