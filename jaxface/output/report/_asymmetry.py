"""Left against right: distances between landmarks in the head's own frame, mm."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .._rows import Table

_POINTS = 68


class Measure(NamedTuple):
    """A difference between the left and the right of the picture; 0 of a symmetric face."""

    key: str
    name: str
    formula: str
    words: str


MEASURES = (
    Measure(
        "mouth_height",
        "mouth corner, lower",
        "y48 − y54",
        "how much lower the left corner of the mouth lies than the right one",
    ),
    Measure(
        "mouth_width",
        "mouth corner, further out",
        "−x48 − x54",
        "how much further from the midline the left corner of the mouth lies than the right one",
    ),
    Measure(
        "brow_height",
        "brow, higher",
        "mean(y22 … y26) − mean(y17 … y21)",
        "how much higher the left brow lies than the right one",
    ),
    Measure(
        "eye_opening",
        "eye, wider open",
        "(y40 + y41 − y37 − y38)/2 − (y46 + y47 − y43 − y44)/2",
        "how much wider the lids of the left eye stand apart than those of the right one",
    ),
)


def asymmetry(face: Table) -> Float[np.ndarray, "n 4"] | None:
    """Differences between left and right, those of `MEASURES`.

    Args:
        face: rows.
    Returns:
        mm, left of the picture minus right; NaN where there is no face. None where the columns
        lack: they need 68 landmarks, in 2 and 3 dimensions, and the parameters of the shape.
    """
    shapes = upright_shapes(face)
    if shapes is None:
        return None
    x, y = shapes[..., 0], shapes[..., 1]

    def opening(eye: int) -> np.ndarray:
        return (y[:, eye + 4] + y[:, eye + 5] - y[:, eye + 1] - y[:, eye + 2]) / 2

    found = [
        y[:, 48] - y[:, 54],
        -x[:, 48] - x[:, 54],
        y[:, 22:27].mean(axis=1) - y[:, 17:22].mean(axis=1),
        opening(36) - opening(42),
    ]
    return np.stack(found, axis=1)


def upright_shapes(face: Table) -> Float[np.ndarray, "n 68 2"] | None:
    """Faces as they are seen from the front.

    A fit places the shape S of the head in the picture by its rotation R, scale s and translation:
    (R S) is (x - tx)/s, (y - ty)/s and, from the depths, Z up to a constant. Turned back by R, so
    that a turn of the head is no asymmetry; then by what roll is left, so that the line through
    the middles of the eyes is level. 0 is the middle between the eyes, x to the right of the
    picture, y down.

    Args:
        face: rows.
    Returns:
        mm; NaN where there is no face. None where columns lack.
    """
    if face.landmarks.shape[1:] != (_POINTS, 2) or face.landmarks_3d.shape[1:] != (_POINTS, 3):
        return None
    if face.rotation.shape[1] != 3 or not np.isfinite(face.scale).any():
        return None
    placed = face.success & (face.scale > 0)
    scale = np.where(placed, face.scale, 1).astype(np.float64)
    depth = face.landmarks_3d[..., 2].astype(np.float64)
    turned = np.concatenate(
        [face.landmarks.astype(np.float64) / scale[:, None, None], depth[..., None]], axis=2
    )
    turned = turned - turned.mean(axis=1, keepdims=True)
    shape = np.einsum("nki,nij->nkj", turned, _rotations(face.rotation.astype(np.float64)))
    left, right = shape[:, 36:42, :2].mean(axis=1), shape[:, 42:48, :2].mean(axis=1)
    apart = right - left
    with np.errstate(invalid="ignore", divide="ignore"):
        along = apart / np.linalg.norm(apart, axis=1, keepdims=True)
    axes = np.stack([along, np.stack([-along[:, 1], along[:, 0]], axis=1)], axis=2)
    level = np.einsum("nki,nij->nkj", shape[..., :2] - ((left + right) / 2)[:, None], axes)
    return np.where(placed[:, None, None], level, np.nan)


def _rotations(angles: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3 3"]:
    """Rx @ Ry @ Rz of pitch, yaw and roll, rad."""
    (sx, sy, sz), (cx, cy, cz) = np.sin(angles).T, np.cos(angles).T
    one, zero = np.ones_like(sx), np.zeros_like(sx)

    def matrix(*entries: np.ndarray) -> np.ndarray:
        return np.stack(entries, axis=1).reshape(-1, 3, 3)

    pitch = matrix(one, zero, zero, zero, cx, -sx, zero, sx, cx)
    yaw = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    roll = matrix(cz, -sz, zero, sz, cz, zero, zero, zero, one)
    return pitch @ yaw @ roll
