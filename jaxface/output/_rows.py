"""Results of one face in one frame, as NumPy arrays on the host, and tables of them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

# Alphabetical, as in OpenFace's CSV. AU28 has no intensity model.
INTENSITY_NAMES = (
    *("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU10", "AU12"),
    *("AU14", "AU15", "AU17", "AU20", "AU23", "AU25", "AU26", "AU45"),
)
PRESENCE_NAMES = (*INTENSITY_NAMES[:-1], "AU28", "AU45")


class UnitNames(NamedTuple):
    """The action units that a model knows: what it cannot tell has no column."""

    intensity: tuple[str, ...] = INTENSITY_NAMES
    presence: tuple[str, ...] = PRESENCE_NAMES


OPENFACE_UNITS = UnitNames()
NO_UNITS = UnitNames((), ())


class FaceRow(NamedTuple):
    """One face in one frame. Coordinate frames and units are those of `jaxface.types`."""

    frame: int  # from 1
    face_id: int  # from 0
    timestamp: float  # s
    confidence: float  # 0 to 1
    success: bool
    gaze: Float[np.ndarray, "2 3"]  # unit vectors, camera frame; image-left eye first
    gaze_angle: Float[np.ndarray, "2"]  # rad, x then y
    eye_landmarks: Float[np.ndarray, "56 2"]  # px, 28 of the image-left eye first
    eye_landmarks_3d: Float[np.ndarray, "56 3"]  # mm, camera frame
    head_pose: Float[np.ndarray, "6"]  # Tx Ty Tz mm, Rx Ry Rz rad
    landmarks: Float[np.ndarray, "68 2"]  # px
    landmarks_3d: Float[np.ndarray, "68 3"]  # mm, camera frame
    scale: float  # px per mm
    rotation: Float[np.ndarray, "3"]  # pitch yaw roll, rad
    translation: Float[np.ndarray, "2"]  # px
    local: Float[np.ndarray, " m"]  # shape coefficients, mm
    au_intensity: Float[np.ndarray, " u"] | None = None  # 0 to 5; None while streaming
    au_presence: Float[np.ndarray, " c"] | None = None  # 0 or 1; None while streaming


class Table(NamedTuple):
    """Rows stacked field by field: every array has the rows as its first axis."""

    frame: Int[np.ndarray, " n"]
    face_id: Int[np.ndarray, " n"]
    timestamp: Float[np.ndarray, " n"]
    confidence: Float[np.ndarray, " n"]
    success: Bool[np.ndarray, " n"]
    gaze: Float[np.ndarray, "n 2 3"]
    gaze_angle: Float[np.ndarray, "n 2"]
    eye_landmarks: Float[np.ndarray, "n 56 2"]
    eye_landmarks_3d: Float[np.ndarray, "n 56 3"]
    head_pose: Float[np.ndarray, "n 6"]
    landmarks: Float[np.ndarray, "n 68 2"]
    landmarks_3d: Float[np.ndarray, "n 68 3"]
    scale: Float[np.ndarray, " n"]
    rotation: Float[np.ndarray, "n 3"]
    translation: Float[np.ndarray, "n 2"]
    local: Float[np.ndarray, "n m"]
    au_intensity: Float[np.ndarray, "n u"] | None = None
    au_presence: Float[np.ndarray, "n c"] | None = None


def stack_rows(rows: Iterable[FaceRow]) -> Table:
    """Stacks rows into a table.

    Args:
        rows: at least one; all of them with action units or all without.
    Returns:
        The table, rows in the order given.
    Raises:
        ValueError: no row, or only some rows have action units.
    """
    columns: list[Sequence[object]] = list(zip(*rows, strict=True))
    if not columns:
        raise ValueError("rows: expected at least one row, got none")
    return Table._make(_stack(name, values) for name, values in zip(Table._fields, columns))


def rows_of(table: Table) -> Iterator[FaceRow]:
    """Takes a table apart again.

    Args:
        table: the rows.
    Returns:
        One row after another.
    """
    for i in range(len(table.frame)):
        yield FaceRow._make(None if column is None else column[i] for column in table)


def _stack(name: str, values: Sequence[object]) -> np.ndarray | None:
    missing = sum(value is None for value in values)
    if missing == len(values):
        return None
    if missing:
        raise ValueError(f"{name}: expected in all rows or in none, missing in {missing}")
    return np.stack([np.asarray(value) for value in values])
