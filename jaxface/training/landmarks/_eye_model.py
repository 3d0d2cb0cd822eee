"""The 28 points of an eye: numbering, shape model and labels.

Points 0 to 7 are the rim of the iris, 8 to 19 the lids (8 and 14 the corners, 9 to 13 the upper
lid), 20 to 27 the rim of the pupil. All this is the eye on the left of a frontal picture, the
person's right one; the other is its mirror image.
"""

import numpy as np

from ...fit import PDM
from ..data import EYES, PIECES, eyeball, iris_points
from ..render import Pictures, Sampler, gaze_direction, lids_follow, random_expression
from ._pdm import principal_components

EYE = 1  # among the eyes of a sample: the person's right one
MAIN_POINTS = ((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47))  # left, right of the picture
PART_POINTS = (8, 10, 12, 14, 16, 18)
POINTS = 28
IRIS, LIDS, PUPIL = slice(0, 8), slice(8, 20), slice(20, 28)
# Points of a sample's ring, which starts at the right and runs downwards.
_IRIS_FROM_RING = (np.arange(8) + 4) % 8
_PUPIL_FROM_RING = (3 - np.arange(8)) % 8
_PUPIL = 2.6 / 5.9  # radius, of the iris's: pupils differ, so theirs is a middling one
MIRRORED_EYE = np.concatenate(
    [(4 - np.arange(8)) % 8, 8 + (6 - np.arange(12)) % 12, 20 + (2 - np.arange(8)) % 8]
)
_PITCH, _YAW = np.radians((10, 18))  # standard deviations of the gaze
_OPEN = 0.16  # gap of the lids, of the eye's width, from which the iris shows


def eye_points(rings: np.ndarray, lids: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The 28 points of eyes.

    Args:
        rings: (e, 9, d) centre and ring of the iris.
        lids: (e, 12, d) points of the lids, evenly spaced.
        landmarks: (e, 6, d) of the 68; they take the place of every second lid point.
    """
    centre, ring = rings[:, :1], rings[:, 1:]
    contour = lids.copy()
    contour[:, ::2] = landmarks
    pupil = centre + _PUPIL * (ring[:, _PUPIL_FROM_RING] - centre)
    return np.concatenate([ring[:, _IRIS_FROM_RING], contour, pupil], axis=1)


def eye_labels(pictures: Pictures) -> tuple[np.ndarray, np.ndarray]:
    """Eye points (p, 28, 2), px, in pictures, and which of them are shown (p, 28)."""
    corners = pictures.landmarks[:, list(MAIN_POINTS[0])]
    points = eye_points(pictures.irises[:, EYE], pictures.lids[:, EYE], corners)
    shown = np.ones(points.shape[:2], bool)
    shown[:, LIDS] = np.repeat(pictures.visible[:, list(MAIN_POINTS[0])], 2, axis=1)
    width = np.linalg.norm(points[:, 8] - points[:, 14], axis=-1)
    gap = np.linalg.norm(points[:, 11] - points[:, 17], axis=-1)
    open_ = (gap > _OPEN * width) & pictures.visible[:, list(MAIN_POINTS[0])].all(axis=1)
    shown[:, IRIS] = shown[:, PUPIL] = open_[:, None]
    return points.astype(np.float32), shown


def eye_shapes(sampler: Sampler, rng: np.random.Generator, count: int) -> np.ndarray:
    """Eye points (count, 28, 3), mm, head frame, of made-up heads that look about."""
    head, lids = sampler.tools.head, sampler.lids[EYE]
    corners = head.landmarks[list(MAIN_POINTS[0])]
    needed = np.unique(np.concatenate([lids, corners, np.arange(*PIECES[EYES[EYE]])]))
    identity, expressions = head.identity_basis[:, needed], head.expression_basis[:, needed]
    vertices = np.zeros_like(head.mean)
    shapes = []
    for _ in range(count):
        pitch, yaw = rng.normal(0, _PITCH), rng.normal(0, _YAW)
        weights = lids_follow(head, random_expression(rng, head), pitch, yaw)
        person = rng.normal(size=len(identity)).astype(np.float32)
        moved = np.tensordot(person, identity, 1) + np.tensordot(weights, expressions, 1)
        vertices[needed] = head.mean[needed] + moved
        centre, radius = eyeball(vertices, EYES[EYE])
        ring = iris_points(centre, radius, gaze_direction(pitch, yaw))
        shapes.append(eye_points(ring[None], vertices[lids][None], vertices[corners][None])[0])
    return np.stack(shapes)


def train_eye_pdm(
    sampler: Sampler, *, modes: int = 10, count: int = 2000, seed: int = 0
) -> tuple[PDM, float]:
    """The shape model of the eye on the left of the picture, and the variance that it keeps."""
    shapes = eye_shapes(sampler, np.random.default_rng([seed, 28]), count)
    shapes = shapes - shapes[:, LIDS].mean(axis=1, keepdims=True)
    mean = shapes.mean(axis=0)
    size = np.sum(shapes * mean, axis=(1, 2)) / np.sum(shapes**2, axis=(1, 2))
    return principal_components(shapes * size[:, None, None], modes)


def mirror_eye_pdm(pdm: PDM) -> PDM:
    """The shape model of the other eye."""
    flip = np.array([-1, 1, 1], np.float32)
    return PDM(
        mean_shape=(pdm.mean_shape * flip[None])[MIRRORED_EYE],
        components=(pdm.components * flip[None, None])[:, MIRRORED_EYE],
        eigenvalues=pdm.eigenvalues,
    )
