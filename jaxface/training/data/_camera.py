"""Rotations and the camera that samples are seen through, in NumPy.

Frames and signs are those of the whole package: x right, y down, z away from the camera, Euler
angles (pitch, yaw, roll), rad, applied as Rx @ Ry @ Rz.
"""

import dataclasses

import numpy as np


def euler_to_matrix(rotation: np.ndarray) -> np.ndarray:
    """Rotation matrix Rx @ Ry @ Rz of pitch, yaw, roll (rad)."""
    (a, b, c), (sa, sb, sc) = np.cos(rotation), np.sin(rotation)
    x = np.array([[1, 0, 0], [0, a, -sa], [0, sa, a]])
    y = np.array([[b, 0, sb], [0, 1, 0], [-sb, 0, b]])
    z = np.array([[c, -sc, 0], [sc, c, 0], [0, 0, 1]])
    return (x @ y @ z).astype(np.float32)


def matrix_to_euler(matrix: np.ndarray) -> np.ndarray:
    """Pitch, yaw, roll (rad) of a rotation matrix; the yaw lies within +-90 degrees."""
    yaw = np.arcsin(np.clip(matrix[0, 2], -1, 1))
    pitch = np.arctan2(-matrix[1, 2], matrix[2, 2])
    roll = np.arctan2(-matrix[0, 1], matrix[0, 0])
    return np.array([pitch, yaw, roll], np.float32)


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
