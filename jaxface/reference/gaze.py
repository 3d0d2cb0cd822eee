"""Gaze in float64, from eye points and face points that are already in the camera frame."""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

EYE_CORNERS = ((36, 39), (42, 45))
EYEBALL_OFFSET = np.array([0.0, -3.5, 7.0])  # mm, head frame
EYEBALL_RADIUS = 12.0  # mm


def eyeball_centre(landmarks_3d: Floats, side: int, head_matrix: Floats) -> Floats:
    """Centre of the eyeball, mm; side 0 is the eye on the left of the image."""
    a, b = EYE_CORNERS[side]
    return (landmarks_3d[a] + landmarks_3d[b]) / 2 + head_matrix @ EYEBALL_OFFSET


def gaze_of_eye(eye_points: Floats, centre: Floats) -> Floats:
    """Unit vector (3,) from 28 eye points and the eyeball's centre: specification 03, D.4."""
    iris = eye_points[:8].mean(axis=0)
    d = iris / np.linalg.norm(iris)
    a = d @ d
    b = -2 * d @ centre
    c = centre @ centre - EYEBALL_RADIUS**2
    discriminant = b * b - 4 * a * c
    if discriminant < 0:
        hit = np.array([0.0, 0.0, -1.0])
    else:
        hit = d * (-b - math.sqrt(discriminant)) / 2 * a
    return (hit - centre) / np.linalg.norm(hit - centre)


def gaze_angle(gaze: Floats) -> Floats:
    """Angles (2,) of the mean of two gaze vectors (2, 3): to the right, down; rad."""
    x, y, z = (gaze[0] + gaze[1]) / 2
    return np.array([math.atan2(x, -z), math.atan2(y, -z)])
