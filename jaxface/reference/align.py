"""Face alignment as written in specification 03, A: PDM refit, similarity warp and face mask."""

import math

import numpy as np

RIGID_POINTS = (
    *(1, 2, 3, 4, 12, 13, 14, 15, 27, 28, 29, 31),
    *(32, 33, 34, 35, 36, 39, 40, 41, 42, 45, 46, 47),
)
RAISED_POINTS = (0, 16, *range(17, 27))


def rotation_from_euler(euler):
    """Rx @ Ry @ Rz of (pitch, yaw, roll), rad."""
    s1, s2, s3 = np.sin(euler)
    c1, c2, c3 = np.cos(euler)
    return np.array(
        [
            [c2 * c3, -c2 * s3, s2],
            [c1 * s3 + c3 * s1 * s2, c1 * c3 - s1 * s2 * s3, -c2 * s1],
            [s1 * s3 - c1 * c3 * s2, c3 * s1 + c1 * s2 * s3, c1 * c2],
        ]
    )


def euler_from_rotation(r):
    """Inverse of `rotation_from_euler`, through the quaternion."""
    q0 = math.sqrt(1 + r[0, 0] + r[1, 1] + r[2, 2]) / 2
    q1 = (r[2, 1] - r[1, 2]) / (4 * q0)
    q2 = (r[0, 2] - r[2, 0]) / (4 * q0)
    q3 = (r[1, 0] - r[0, 1]) / (4 * q0)
    yaw = math.asin(min(max(2 * (q0 * q2 + q1 * q3), -1), 1))
    pitch = math.atan2(2 * (q0 * q1 - q2 * q3), q0**2 - q1**2 - q2**2 + q3**2)
    roll = math.atan2(2 * (q0 * q3 - q1 * q2), q0**2 + q1**2 - q2**2 - q3**2)
    return np.array([pitch, yaw, roll])


def nearest_rotation(matrix):
    """Closest rotation matrix: U diag(1, 1, det(U Vt)) Vt."""
    u, _, vt = np.linalg.svd(matrix)
    return u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt


def pdm_jacobian(scale, rotation, shape, components):
    """Derivatives (2n, 6 + m) of the projected points, all x rows before all y rows.

    Columns: scale, three small rotations, two translations, then the shape coefficients.
    """
    n, m = len(shape), len(components)
    jacobian = np.zeros((2 * n, 6 + m))
    for axis in range(2):
        r0, r1, r2 = rotation[axis]
        for i, (x, y, z) in enumerate(shape):
            row = jacobian[axis * n + i]
            row[0] = x * r0 + y * r1 + z * r2
            row[1] = scale * (y * r2 - z * r1)
            row[2] = -scale * (x * r2 - z * r0)
            row[3] = scale * (x * r1 - y * r0)
            row[4 + axis] = 1
            row[6:] = scale * (components[:, i] @ rotation[axis])
    return jacobian


def refit_pdm(mean_shape, components, eigenvalues, landmarks, max_iterations=1000):
    """PDM parameters (scale, euler 3, translation 2, local m) of 2-D landmarks (n, 2); A.1."""
    visible = landmarks[:, 0] != 0
    target = np.asarray(landmarks, np.float64)[visible]
    mean, modes = mean_shape[visible], components[:, visible]
    size = np.ptp(target, axis=0) / np.ptp(mean[:, :2], axis=0)
    scale, euler = size.mean(), np.zeros(3)
    translation = (target.min(axis=0) + target.max(axis=0)) / 2
    local = np.zeros(len(modes))
    penalty = np.concatenate([np.zeros(6), 1 / eigenvalues])

    def residual(shape):
        rotation = rotation_from_euler(euler)
        return target - (scale * shape @ rotation[:2].T + translation)

    previous, worse = np.linalg.norm(residual(mean)), 0
    for _ in range(max_iterations):
        shape = mean + np.tensordot(local, modes, 1)
        rotation = rotation_from_euler(euler)
        jacobian = pdm_jacobian(scale, rotation, shape, modes)
        gradient = jacobian.T @ residual(shape).T.ravel()
        gradient[6:] -= penalty[6:] * local
        step = 0.75 * np.linalg.solve(jacobian.T @ jacobian + np.diag(penalty), gradient)
        scale, translation = scale + step[0], translation + step[4:6]
        a, b, c = step[1:4]
        small = nearest_rotation(np.array([[1, -c, b], [c, 1, -a], [-b, a, 1]]))
        euler = euler_from_rotation(rotation @ small)
        local = local + step[6:]
        error = np.linalg.norm(residual(shape))  # the new pose with the old shape, as in A.1.5e
        if 0.999 * previous < error:
            worse += 1
            if worse == 3:
                break
        previous = error
    return scale, euler, translation, local


def similarity(source, target):
    """Matrix (2, 2) of the rotation and scale that best map points `source` to `target`; A.2."""
    source = source - source.mean(axis=0)
    target = target - target.mean(axis=0)
    spread_source = math.sqrt((source**2).sum() / len(source))
    spread_target = math.sqrt((target**2).sum() / len(target))
    u, _, vt = np.linalg.svd((source / spread_source).T @ (target / spread_target))
    sign = 1 if np.linalg.det(vt.T @ u.T) > 0 else -1
    return spread_target / spread_source * (vt.T @ np.diag([1, sign]) @ u.T)


def alignment_matrix(landmarks, translation, mean_shape, size=112, scale=0.7):
    """Frame-to-aligned affine matrix (2, 3), float32."""
    points = list(RIGID_POINTS)
    source = np.asarray(landmarks, np.float64)[points]
    linear = similarity(source, scale * np.asarray(mean_shape, np.float64)[points, :2])
    offset = size // 2 - linear @ np.asarray(translation, np.float64)
    return np.column_stack([linear, offset]).astype(np.float32)


def warp_affine(image, matrix, size=112):
    """OpenCV 3.4's 8-bit bilinear warp, border 0; `image` (h, w, c) uint8, `matrix` (2, 3)."""
    (a, b, c), (d, e, f) = matrix.astype(np.float64)
    inverse = 1 / (a * e - b * d)
    m00, m01, m10, m11 = e * inverse, -b * inverse, -d * inverse, a * inverse
    m02, m12 = -m00 * c - m01 * f, -m10 * c - m11 * f
    height, width, channels = image.shape
    out = np.zeros((size, size, channels), np.uint8)

    def pixel(y, x):
        if 0 <= y < height and 0 <= x < width:
            return image[y, x].astype(np.int64)
        return np.zeros(channels, np.int64)

    for y in range(size):
        row_x = int(np.rint((m01 * y + m02) * 1024)) + 16
        row_y = int(np.rint((m11 * y + m12) * 1024)) + 16
        for x in range(size):
            px = (row_x + int(np.rint(m00 * x * 1024))) >> 5
            py = (row_y + int(np.rint(m10 * x * 1024))) >> 5
            ix, fx, iy, fy = px >> 5, px & 31, py >> 5, py & 31
            total = (32 - fx) * (32 - fy) * pixel(iy, ix) + fx * (32 - fy) * pixel(iy, ix + 1)
            total += (32 - fx) * fy * pixel(iy + 1, ix) + fx * fy * pixel(iy + 1, ix + 1)
            out[y, x] = (total + 512) >> 10
    return out


def _same_side(point, vertex, edge_start, edge_end):
    def cross(p):
        along, across = edge_end - edge_start, p - edge_start
        return along[0] * across[1] - across[0] * along[1]

    return cross(point) * cross(vertex) >= 0


def face_mask(landmarks, matrix, triangles, size=112, scale=0.7):
    """Pixels (size, size) in at least one triangle of the landmarks mapped by `matrix`; A.3."""
    points = np.asarray(landmarks, np.float64) @ matrix[:, :2].T.astype(np.float64) + matrix[:, 2]
    points[list(RAISED_POINTS), 1] -= 30 / 0.7 * scale
    mask = np.zeros((size, size), bool)
    for i, j, k in triangles:
        corners = points[[i, j, k]]
        low = np.clip(np.ceil(corners.min(axis=0)), 0, size).astype(int)
        high = np.clip(np.floor(corners.max(axis=0)), -1, size - 1).astype(int)
        for y in range(low[1], high[1] + 1):
            for x in range(low[0], high[0] + 1):
                a, b, c = corners
                pixel = np.array([x, y], np.float64)
                mask[y, x] |= (
                    _same_side(pixel, a, b, c)
                    and _same_side(pixel, b, a, c)
                    and _same_side(pixel, c, a, b)
                )
    return mask
