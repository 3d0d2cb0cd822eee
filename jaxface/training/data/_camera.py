"""Rotations, which SciPy computes, and the camera that samples are seen through.

Frames and signs are those of the whole package: x right, y down, z away from the camera, Euler
angles (pitch, yaw, roll), rad, applied as Rx @ Ry @ Rz. SciPy names this order "XYZ": each turn is
about an axis that the turns before it have moved.
"""

import dataclasses

import numpy as np


def euler_to_matrix(rotation: np.ndarray) -> np.ndarray:
    """Rotation matrices Rx @ Ry @ Rz (..., 3, 3) of pitch, yaw, roll (..., 3), rad."""
    from scipy.spatial.transform import Rotation

    turns = Rotation.from_euler("XYZ", np.reshape(rotation, (-1, 3)))
    return turns.as_matrix().reshape(*np.shape(rotation), 3).astype(np.float32)


def matrix_to_euler(matrix: np.ndarray) -> np.ndarray:
    """Pitch, yaw, roll (..., 3), rad, of rotation matrices (..., 3, 3).

    The yaw lies within +-90 degrees.
    """
    from scipy.spatial.transform import Rotation

    angles = Rotation.from_matrix(np.reshape(matrix, (-1, 3, 3))).as_euler("XYZ")
    return angles.reshape(np.shape(matrix)[:-1]).astype(np.float32)


def best_rotation(
    source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """The rotation matrix (3, 3), float64, that takes points nearest to others.

    Args:
        source, target: (k, 3), around their common centre.
        weights: (k,) of the squared distances; all alike by default.
    """
    from scipy.spatial.transform import Rotation

    return Rotation.align_vectors(target, source, weights=weights)[0].as_matrix()


@dataclasses.dataclass(frozen=True)
class View:
    """Pose of a head and the camera in front of it.

    A point X of the head frame (mm) goes to Y = rotation @ (X - centre) and from there to
    scale / (1 + Y_z / distance) * Y_xy + translation. `distance` may be infinite (weak
    perspective).
    """

    rotation: np.ndarray  # (3, 3)
    scale: float  # px per mm at the centre of the head
    translation: np.ndarray  # (2,) px
    centre: np.ndarray  # (3,) mm, head frame
    distance: float = np.inf  # mm, from the camera to the centre

    def turn(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 3) of the head frame in axes aligned with the camera, mm."""
        return (points - self.centre) @ self.rotation.T.astype(points.dtype)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Image (n, 3) of points (n, 3) of the head frame: x, y in px, and the depth in mm."""
        turned = self.turn(points)
        factor = self.scale / (1 + turned[:, 2:] / self.distance)
        return np.concatenate([turned[:, :2] * factor + self.translation, turned[:, 2:]], axis=1)

    @property
    def euler(self) -> np.ndarray:
        """Pitch, yaw, roll, rad."""
        return matrix_to_euler(self.rotation)
