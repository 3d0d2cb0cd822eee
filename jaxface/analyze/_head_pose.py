"""Head pose from the fitted 2-D landmarks and the 3-D shape, by perspective-n-point."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..ops import (
    axis_angle_to_matrix,
    euler_to_matrix,
    matrix_to_euler,
    project_pinhole,
    rotate,
    solve_spd,
)
from ..types import Camera, Landmarks, PDMParameters

_ITERATIONS = 12  # 4 to 6 accepted steps settle a face; the rest are spare
_DAMPING = 1e-3  # at the start; x10 on a rejected step, /10 on an accepted one
_ALLOWANCE = 1e-5
_MIN_DEPTH = 1e-2  # in radii of the shape; keeps a wild trial step finite


def estimate_head_pose(
    shape_3d: Float[Array, "n 3"],
    landmarks: Landmarks,
    parameters: PDMParameters,
    camera: Camera,
) -> Float[Array, "6"]:
    """Estimates where the head is and how it is turned.

    Minimises the squared pixel error of the pinhole projection of `shape_3d` over rotation
    and translation, starting from the weak-perspective pose of the fit.

    Args:
        shape_3d: the PDM's shape, head frame, mm.
        landmarks: detected points, px.
        parameters: of the fit that gave both.
        camera: intrinsics, px.

    Returns:
        Tx Ty Tz of the head's origin in the camera frame, mm, then its Euler angles, rad. All
        0 where there was never a detection (every landmark 0, or a scale that is not positive).
        Its derivative is that of the steps, which have converged: by shape, landmarks and camera
        it is the minimum's, by `parameters`, which only start it, nearly 0. It is piecewise where
        a point comes within a hundredth of the head's radius of the camera, where the trace of
        the rotation or the sine of its yaw reaches the end of its range, and by what is tracked.

    Reference:
        Specification 03, D.1. Differs: the number of steps is fixed, and the start uses the
        Euler angles' own rotation.
    """
    tracked = is_tracked(landmarks, parameters.scale)
    zero = jnp.zeros_like(camera.fx)
    # Without a face it solves a problem with a known answer, so that nothing there is NaN.
    depth = camera.fx / jnp.where(tracked, parameters.scale, 1)
    ray = (parameters.translation - _centre(camera)) / jnp.stack([camera.fx, camera.fy])
    ray = jnp.where(tracked, ray, 0)
    start = jnp.append(ray, zero + 1) * depth
    matrix = euler_to_matrix(jnp.where(tracked, parameters.rotation, 0))
    posed = rotate(matrix, shape_3d) + start[None]
    landmarks = jnp.where(tracked, landmarks, project_pinhole(posed, camera))

    matrix, translation = _solve_pnp(shape_3d, landmarks, camera, matrix, start)
    pose = jnp.concatenate([translation, matrix_to_euler(matrix)])
    return jnp.where(tracked & jnp.all(jnp.isfinite(pose)), pose, 0)


def head_pose_wrt_camera(head_pose: Float[Array, "6"]) -> Float[Array, "6"]:
    """Turns a head pose into one relative to the line of sight to the head.

    A head that looks into the camera has almost no rotation in the result, wherever it is; none
    where it is straight beside, above or below the optical axis.

    Args:
        head_pose: from `estimate_head_pose`.

    Returns:
        The same translation, mm, and the relative Euler angles, rad. The derivative is exact, but
        for a head within 1e-6 mm of an axis beside the camera, where the line of sight has none.

    Reference:
        Specification 03, D.2.
    """
    x, y, z = head_pose[:3]
    pitch = _angle(y, x * x + z * z)
    yaw = -_angle(x, y * y + z * z)
    sight = euler_to_matrix(jnp.stack([pitch, yaw, jnp.zeros_like(yaw)]))
    matrix = jnp.matmul(sight, euler_to_matrix(head_pose[3:]), precision=lax.Precision.HIGHEST)
    return jnp.concatenate([head_pose[:3], matrix_to_euler(matrix)])


def landmarks_to_camera(
    shape_3d: Float[Array, "n 3"],
    landmarks: Landmarks,
    parameters: PDMParameters,
    camera: Camera,
) -> Float[Array, "n 3"]:
    """Places the landmarks in the camera frame, each on its own line of sight.

    Args:
        shape_3d: the PDM's shape (face or eye), head frame, mm.
        landmarks: detected points of the same model, px.
        parameters: of the fit that gave both.
        camera: intrinsics, px.

    Returns:
        Points in the camera frame, mm; all 0, without a derivative, where there was never a
        detection, elsewhere with an exact one.

    Reference:
        Specification 03, D.3.
    """
    tracked = is_tracked(landmarks, parameters.scale)
    mean_depth = camera.fx / jnp.where(tracked, parameters.scale, 1)
    # What is not a number must not reach the derivative either.
    landmarks = jnp.where(tracked, landmarks, 0)
    rotation = jnp.where(tracked, parameters.rotation, 0)
    z = mean_depth + rotate(euler_to_matrix(rotation), shape_3d)[:, 2]
    x = z * ((landmarks[:, 0] - camera.cx) / camera.fx)
    y = z * ((landmarks[:, 1] - camera.cy) / camera.fy)
    return jnp.where(tracked, jnp.stack([x, y, z], axis=-1), 0)


def is_tracked(landmarks: Landmarks, scale: Float[Array, ""]) -> Bool[Array, ""]:
    """Tells whether a fit has ever been made: some landmark is not 0 and the scale is positive."""
    finite = jnp.all(jnp.isfinite(landmarks)) & jnp.isfinite(scale)
    return finite & jnp.any(landmarks != 0) & (scale > 0)


def _centre(camera: Camera) -> Float[Array, "2"]:
    return jnp.stack([camera.cx, camera.cy])


def _angle(opposite: Float[Array, ""], adjacent_square: Float[Array, ""]) -> Float[Array, ""]:
    """Gives atan2(opposite, sqrt(adjacent_square)) with a derivative at the origin."""
    return jnp.arctan2(opposite, jnp.sqrt(jnp.maximum(adjacent_square, 1e-12)))


def _solve_pnp(
    shape_3d: Float[Array, "n 3"],
    landmarks: Landmarks,
    camera: Camera,
    matrix: Float[Array, "3 3"],
    translation: Float[Array, "3"],
) -> tuple[Float[Array, "3 3"], Float[Array, "3"]]:
    """Runs Levenberg-Marquardt on rotation and translation.

    Lengths are in radii of the shape and the head frame is moved to the shape's centre, which
    makes the normal matrix well conditioned for float32.
    """
    centre = jnp.mean(shape_3d, axis=0)
    points = shape_3d - centre[None]
    radius = jnp.sqrt(jnp.mean(jnp.sum(points * points, axis=1)))
    points = points / radius
    focal = jnp.stack([camera.fx, camera.fy])[None]
    # One unit of residual is about one radius of the face in the image.
    unit = camera.fx * radius / translation[2]
    observed = (landmarks - _centre(camera)[None]) / unit
    focal = focal / unit
    position = (translation + rotate(matrix, centre[None])[0]) / radius

    def step(_, carry):
        matrix, position, error, damping = carry
        residual, jacobian = _linearise(points, observed, focal, matrix, position)
        delta = _damped_step(jacobian, residual, damping)
        turn = axis_angle_to_matrix(delta[:3])
        trial_matrix = jnp.matmul(turn, matrix, precision=lax.Precision.HIGHEST)
        trial_position = position + delta[3:]
        trial = _project(points, focal, trial_matrix, trial_position) - observed
        trial_error = jnp.sum(trial * trial)
        # The allowance lets the last steps through, whose gain float32 cannot see.
        better = trial_error <= error * (1 + _ALLOWANCE)
        matrix = jnp.where(better, trial_matrix, matrix)
        position = jnp.where(better, trial_position, position)
        error = jnp.where(better, trial_error, error)
        return matrix, position, error, jnp.where(better, damping / 10, damping * 10)

    residual = _project(points, focal, matrix, position) - observed
    carry = (matrix, position, jnp.sum(residual * residual), jnp.full_like(radius, _DAMPING))
    matrix, position, _, _ = lax.fori_loop(0, _ITERATIONS, step, carry)
    return matrix, position * radius - rotate(matrix, centre[None])[0]


def _project(
    points: Float[Array, "n 3"],
    focal: Float[Array, "1 2"],
    matrix: Float[Array, "3 3"],
    position: Float[Array, "3"],
) -> Float[Array, "n 2"]:
    posed = rotate(matrix, points) + position[None]
    return focal * posed[:, :2] / jnp.maximum(posed[:, 2:], _MIN_DEPTH)


def _linearise(
    points: Float[Array, "n 3"],
    observed: Float[Array, "n 2"],
    focal: Float[Array, "1 2"],
    matrix: Float[Array, "3 3"],
    position: Float[Array, "3"],
) -> tuple[Float[Array, " k"], Float[Array, "k 6"]]:
    """Gives residual and Jacobian for a small turn of the camera frame's axes and a shift."""
    turned = rotate(matrix, points)
    posed = turned + position[None]
    z = jnp.maximum(posed[:, 2], _MIN_DEPTH)
    u, v = posed[:, 0] / z, posed[:, 1] / z
    fx, fy = focal[0]
    zero = jnp.zeros_like(z)
    # d(u, v) / d(position); a turn w moves the point by w x turned.
    du = jnp.stack([fx / z, zero, -fx * u / z], axis=-1)
    dv = jnp.stack([zero, fy / z, -fy * v / z], axis=-1)
    shift = jnp.concatenate([du, dv])
    turn = jnp.cross(jnp.concatenate([turned, turned]), shift)
    residual = jnp.concatenate([fx * u - observed[:, 0], fy * v - observed[:, 1]])
    return residual, jnp.concatenate([turn, shift], axis=-1)


def _damped_step(
    jacobian: Float[Array, "k 6"], residual: Float[Array, " k"], damping: Float[Array, ""]
) -> Float[Array, "6"]:
    highest = lax.Precision.HIGHEST
    normal = jnp.matmul(jacobian.T, jacobian, precision=highest)
    normal = normal * (1 + damping * jnp.eye(6, dtype=normal.dtype))
    return -solve_spd(normal, jnp.matmul(jacobian.T, residual, precision=highest))
