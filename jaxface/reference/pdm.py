"""Point distribution model in float64: shapes, Jacobians, updates and two ways to fit it.

A PDM is its mean (n 3), components (m n 3) and eigenvalues (m,), mm, head frame. A pose is
scale (px per mm), rotation (Euler angles, rad), translation (px); `local` holds the m
coefficients. Jacobians have x and y rows interleaved: (2 n, 6 + m).
"""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from .head_pose import euler_to_matrix

Floats = NDArray[np.floating]

FLOAT32_EPSILON = 1.1920929e-7  # the smallest pivot that OpenCV's Cholesky accepts


@dataclasses.dataclass(frozen=True)
class PDM:
    mean_shape: Floats
    components: Floats
    eigenvalues: Floats


@dataclasses.dataclass(frozen=True)
class Parameters:
    scale: float
    rotation: Floats
    translation: Floats
    local: Floats


def shape_3d(pdm: PDM, local: Floats) -> Floats:
    """Shape (n 3), mm: specification 02, B.2."""
    shape = pdm.mean_shape.copy()
    for weight, component in zip(local, pdm.components, strict=True):
        shape += weight * component
    return shape


def project(shape: Floats, pose: Parameters) -> Floats:
    """Weak-perspective image (n 2) of a shape, px."""
    matrix = euler_to_matrix(pose.rotation)
    return pose.scale * shape @ matrix[:2].T + pose.translation


def shape_2d(pdm: PDM, parameters: Parameters) -> Floats:
    """Landmarks (n 2), px."""
    return project(shape_3d(pdm, parameters.local), parameters)


def from_box(pdm: PDM, box: Floats, rotation: Floats) -> Parameters:
    """Mean shape under `rotation`, scaled and moved onto a box x0 y0 x1 y1: B.3."""
    turned = pdm.mean_shape @ euler_to_matrix(rotation).T
    low, high = turned[:, :2].min(axis=0), turned[:, :2].max(axis=0)
    corner, size = box[:2], box[2:] - box[:2]
    scale = float(np.mean(size / (high - low)))
    translation = corner + size / 2 - scale * (low + high) / 2
    return Parameters(
        scale, np.asarray(rotation, float), translation, np.zeros(len(pdm.components))
    )


def jacobian(pdm: PDM, parameters: Parameters, *, rigid: bool) -> Floats:
    """Derivative of the landmarks (2 n, 6 or 6 + m) for a turn in object space: B.4."""
    s, matrix = parameters.scale, euler_to_matrix(parameters.rotation)
    rows = []
    for i, (x, y, z) in enumerate(shape_3d(pdm, parameters.local)):
        for axis in range(2):
            r1, r2, r3 = matrix[axis]
            row = [x * r1 + y * r2 + z * r3]
            row += [s * (y * r3 - z * r2), -s * (x * r3 - z * r1), s * (x * r2 - y * r1)]
            row += [1.0, 0.0] if axis == 0 else [0.0, 1.0]
            if not rigid:
                row += list(s * pdm.components[:, i] @ matrix[axis])
            rows.append(row)
    return np.array(rows)


def update(parameters: Parameters, delta: Floats) -> Parameters:
    """Adds a step; the turn is orthonormalised in object space: B.5."""
    wx, wy, wz = delta[1:4]
    turn = np.array([[1, -wz, wy], [wz, 1, -wx], [-wy, wx, 1]])
    u, _, vt = np.linalg.svd(turn)
    turn = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    matrix = euler_to_matrix(parameters.rotation) @ turn
    local = parameters.local.copy()
    if len(delta) > 6:
        local += delta[6:]
    # Kept in float32 between steps, as in OpenFace: kernel cells turn on the last bits.
    return Parameters(
        scale=float(np.float32(parameters.scale + delta[0])),
        rotation=single(matrix_to_euler(matrix)),
        translation=single(parameters.translation + delta[4:6]),
        local=single(local),
    )


def single(values: Floats) -> Floats:
    """Rounds to float32 and back."""
    return values.astype(np.float32).astype(np.float64)


def matrix_to_euler(matrix: Floats) -> Floats:
    """Euler angles by the quaternion; all 0 where it does not exist: B.1."""
    r = matrix
    if 1 + np.trace(r) <= 0 or not np.isfinite(r).all():
        return np.zeros(3)
    q0 = math.sqrt(1 + np.trace(r)) / 2
    q1 = (r[2, 1] - r[1, 2]) / (4 * q0)
    q2 = (r[0, 2] - r[2, 0]) / (4 * q0)
    q3 = (r[1, 0] - r[0, 1]) / (4 * q0)
    yaw = math.asin(min(max(2 * (q0 * q2 + q1 * q3), -1.0), 1.0))
    pitch = math.atan2(2 * (q0 * q1 - q2 * q3), q0**2 - q1**2 - q2**2 + q3**2)
    roll = math.atan2(2 * (q0 * q3 - q1 * q2), q0**2 + q1**2 - q2**2 - q3**2)
    return np.array([pitch, yaw, roll])


def clamp(pdm: PDM, local: Floats) -> Floats:
    """Keeps each coefficient within three standard deviations: B.6."""
    limit = 3 * np.sqrt(pdm.eigenvalues)
    return single(np.clip(local, -limit, limit))


def solve_spd(a: Floats, b: Floats) -> Floats:
    """Cholesky solve; zeros when a pivot is under float32's epsilon: B.7."""
    size = len(b)
    lower = np.zeros_like(a)
    for i in range(size):
        pivot = a[i, i] - lower[i, :i] @ lower[i, :i]
        if not pivot >= FLOAT32_EPSILON:
            return np.zeros(size)
        lower[i, i] = math.sqrt(pivot)
        lower[i + 1 :, i] = (a[i + 1 :, i] - lower[i + 1 :, :i] @ lower[i, :i]) / lower[i, i]
    forward = np.zeros(size)
    for i in range(size):
        forward[i] = (b[i] - lower[i, :i] @ forward[:i]) / lower[i, i]
    solution = np.zeros(size)
    for i in reversed(range(size)):
        solution[i] = (forward[i] - lower[i + 1 :, i] @ solution[i + 1 :]) / lower[i, i]
    return solution


def fit_to_landmarks(pdm: PDM, landmarks: Floats) -> Parameters:
    """Fits pose and coefficients to points (n 2); a point with x exactly 0 is missing: B.7."""
    present = landmarks[:, 0] != 0
    target = landmarks[present]
    seen = PDM(pdm.mean_shape[present], pdm.components[:, present], pdm.eigenvalues)
    low, high = target.min(axis=0), target.max(axis=0)
    flat = seen.mean_shape[:, :2]
    parameters = Parameters(
        scale=float(np.mean((high - low) / (flat.max(axis=0) - flat.min(axis=0)))),
        rotation=np.zeros(3),
        translation=(low + high) / 2,
        local=np.zeros(len(pdm.eigenvalues)),
    )
    precision = np.concatenate([np.zeros(6), 1 / pdm.eigenvalues])
    error = np.linalg.norm(shape_2d(seen, parameters) - target)
    misses = 0
    for _ in range(1000):
        old_shape = shape_3d(seen, parameters.local)
        residual = (target - project(old_shape, parameters)).ravel()
        j = jacobian(seen, parameters, rigid=False)
        pull = precision * np.concatenate([np.zeros(6), parameters.local])
        delta = solve_spd(j.T @ j + np.diag(precision), j.T @ residual - pull)
        parameters = update(parameters, 0.75 * delta)
        # The new pose with the old shape, as in OpenFace: it lags by one step.
        new_error = np.linalg.norm(project(old_shape, parameters) - target)
        if 0.999 * error < new_error:
            misses += 1
            if misses == 3:
                break
        error = new_error
    return parameters
