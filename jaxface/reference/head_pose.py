"""Head pose in float64: perspective-n-point, and the points' places in the camera frame.

A camera is (fx, fy, cx, cy), px. Euler angles are pitch, yaw, roll, rad.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Intrinsics = tuple[float, float, float, float]


def euler_to_matrix(rotation: Floats) -> Floats:
    """Rx @ Ry @ Rz."""
    pitch, yaw, roll = rotation
    rx = [[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]]
    ry = [[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]]
    rz = [[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]]
    return np.array(rx) @ np.array(ry) @ np.array(rz)


def matrix_to_euler(matrix: Floats) -> Floats:
    """Direct reading of the angles; equal to the quaternion form short of a half turn."""
    yaw = math.asin(min(max(matrix[0, 2], -1.0), 1.0))
    pitch = math.atan2(-matrix[1, 2], matrix[2, 2])
    roll = math.atan2(-matrix[0, 1], matrix[0, 0])
    return np.array([pitch, yaw, roll])


def axis_angle_to_matrix(vector: Floats) -> Floats:
    """Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    if angle < 2.2e-16:
        return np.eye(3)
    x, y, z = vector / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * k + (1 - math.cos(angle)) * k @ k


def project(shape_3d: Floats, vector: Floats, camera: Intrinsics) -> Floats:
    """Pinhole image (n 2) of a shape (n 3); `vector` is an axis-angle turn, then a shift."""
    fx, fy, cx, cy = camera
    posed = shape_3d @ axis_angle_to_matrix(vector[:3]).T + vector[3:]
    return np.stack(
        [fx * posed[:, 0] / posed[:, 2] + cx, fy * posed[:, 1] / posed[:, 2] + cy], axis=-1
    )


def estimate_head_pose(
    shape_3d: Floats,
    landmarks: Floats,
    scale: float,
    rotation: Floats,
    translation: Floats,
    camera: Intrinsics,
) -> Floats:
    """Tx Ty Tz mm and Euler angles, rad: specification 03, D.1.

    Levenberg-Marquardt with a Jacobian by central differences.
    """
    if scale <= 0 or not np.any(landmarks):
        return np.zeros(6)
    fx, fy, cx, cy = camera
    z = fx / scale
    x = (translation[0] - cx) / fx * z
    y = (translation[1] - cy) / fy * z
    # The Euler angles stand in for an axis-angle vector here, as in OpenFace.
    vector = np.array([*rotation, x, y, z], float)

    def residual_of(vector: Floats) -> Floats:
        return (project(shape_3d, vector, camera) - landmarks).ravel()

    damping = 1e-3
    residual = residual_of(vector)
    for _ in range(60):
        jacobian = np.zeros((residual.size, 6))
        for i in range(6):
            h = 1e-6 if i < 3 else 1e-4
            up, down = vector.copy(), vector.copy()
            up[i] += h
            down[i] -= h
            jacobian[:, i] = (residual_of(up) - residual_of(down)) / (2 * h)
        normal = jacobian.T @ jacobian
        normal += damping * np.diag(np.diag(normal))
        trial = vector - np.linalg.solve(normal, jacobian.T @ residual)
        trial_residual = residual_of(trial)
        if trial_residual @ trial_residual > residual @ residual:
            damping *= 10
            continue
        moved = np.linalg.norm(trial - vector) / np.linalg.norm(vector)
        vector, residual = trial, trial_residual
        damping = max(damping / 10, 1e-16)
        if moved < 1e-12:
            break
    return np.concatenate([vector[3:], matrix_to_euler(axis_angle_to_matrix(vector[:3]))])


def head_pose_wrt_camera(head_pose: Floats) -> Floats:
    """Pose relative to the line of sight: specification 03, D.2."""
    x, y, z = head_pose[:3]
    pitch = math.atan2(y, math.hypot(x, z))
    yaw = -math.atan2(x, math.hypot(y, z))
    matrix = euler_to_matrix(np.array([pitch, yaw, 0.0])) @ euler_to_matrix(head_pose[3:])
    return np.concatenate([head_pose[:3], matrix_to_euler(matrix)])


def landmarks_to_camera(
    shape_3d: Floats, landmarks: Floats, scale: float, rotation: Floats, camera: Intrinsics
) -> Floats:
    """Points (n 3) in the camera frame, mm: specification 03, D.3."""
    fx, fy, cx, cy = camera
    turned = shape_3d @ euler_to_matrix(rotation).T
    points = np.zeros_like(turned)
    for i, (x, y) in enumerate(landmarks):
        z = fx / scale + turned[i, 2]
        points[i] = z * (x - cx) / fx, z * (y - cy) / fy, z
    return points
