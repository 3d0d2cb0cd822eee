"""OpenFace's CSV columns: their names, order and number of decimals, and nowhere else.

A model with other shape coefficients or action units than OpenFace's has as many columns of them.

Reference: specification 03, E.4.
"""

import math
from typing import Literal

import numpy as np
from jaxtyping import Float

from ._rows import NO_UNITS, OPENFACE_UNITS, Table, UnitNames

# FeatureExtraction, FaceLandmarkVidMulti and FaceLandmarkImg.
CsvKind = Literal["video", "multi_face", "image"]
_KINDS = ("video", "multi_face", "image")
_MODES = 34  # shape coefficients of OpenFace's model

_Columns = tuple[tuple[tuple[str, ...], str], ...]  # names and the format they share


def _numbered(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}_{i}" for i in range(count))


_SEQUENCE_KEY: _Columns = (
    (("frame", "face_id"), "%d"),
    (("timestamp",), "%.3f"),
    (("confidence",), "%.2f"),
    (("success",), "%d"),
)
_IMAGE_KEY: _Columns = ((("face",), "%d"), (("confidence",), "%.3f"))
_BODY: _Columns = (
    (tuple(f"gaze_{eye}_{axis}" for eye in "01" for axis in "xyz"), "%.6f"),
    (("gaze_angle_x", "gaze_angle_y"), "%.3f"),
    (_numbered("eye_lmk_x", 56) + _numbered("eye_lmk_y", 56), "%.1f"),
    (tuple(name for axis in "XYZ" for name in _numbered(f"eye_lmk_{axis}", 56)), "%.1f"),
    (("pose_Tx", "pose_Ty", "pose_Tz"), "%.1f"),
    (("pose_Rx", "pose_Ry", "pose_Rz"), "%.3f"),
    (_numbered("x", 68) + _numbered("y", 68), "%.1f"),
    (_numbered("X", 68) + _numbered("Y", 68) + _numbered("Z", 68), "%.1f"),
    (("p_scale", "p_rx", "p_ry", "p_rz", "p_tx", "p_ty"), "%.3f"),
)


def base_columns(kind: CsvKind, modes: int = _MODES) -> _Columns:
    """Names and formats of all columns but the action units.

    Args:
        kind: whose CSV.
        modes: number of shape coefficients.
    Returns:
        Groups of names with the format that they share.
    Raises:
        ValueError: unknown kind.
    """
    if kind not in _KINDS:
        raise ValueError(f"kind: expected one of {', '.join(_KINDS)}, got {kind!r}")
    key = _IMAGE_KEY if kind == "image" else _SEQUENCE_KEY
    return (*key, *_BODY, (_numbered("p", modes), "%.3f"))


def au_columns(kind: CsvKind, units: UnitNames = OPENFACE_UNITS) -> _Columns:
    """Names and formats of the action unit columns.

    Args:
        kind: whose CSV; FeatureExtraction prints presence with two decimals.
        units: which of them.
    Returns:
        Groups of names with the format that they share.
    """
    return (
        (tuple(f"{name}_r" for name in units.intensity), "%.2f"),
        (tuple(f"{name}_c" for name in units.presence), "%.2f" if kind == "video" else "%.1f"),
    )


def column_names(
    kind: CsvKind, *, units: UnitNames | None = OPENFACE_UNITS, modes: int = _MODES
) -> list[str]:
    """Column names of a CSV.

    Args:
        kind: whose CSV.
        units: action units with columns; None for none.
        modes: number of shape coefficients.
    Returns:
        714 names for OpenFace's units and modes, 711 for images, or 35 fewer without units.
    """
    groups = base_columns(kind, modes) + au_columns(kind, NO_UNITS if units is None else units)
    return [name for names, _ in groups for name in names]


def base_values(table: Table, kind: CsvKind) -> Float[np.ndarray, "n columns"]:
    """Values of all columns but the action units.

    Args:
        table: the rows.
        kind: whose CSV.
    Returns:
        float64 in column order. All but the timestamp are exact float32 values, as OpenFace's.
    """
    count = len(table.frame)
    if kind == "image":
        key = [table.face_id, _single(table.confidence)]
    else:
        key = [table.frame, table.face_id, table.timestamp, _single(table.confidence)]
        key.append(table.success)
    # OpenFace lists all x, then all y, then all z.
    points = (table.eye_landmarks, table.eye_landmarks_3d, table.landmarks, table.landmarks_3d)
    eye, eye_3d, face, face_3d = (np.swapaxes(p, 1, 2) for p in points)
    body = [table.gaze, table.gaze_angle, eye, eye_3d, table.head_pose, face, face_3d]
    body += [table.scale, table.rotation, table.translation, table.local]
    parts = [np.asarray(part, np.float64) for part in key] + [_single(part) for part in body]
    # Not reshape(count, -1), which cannot tell the columns of a table without rows.
    flat = [part.reshape(count, math.prod(part.shape[1:])) for part in parts]
    return np.concatenate(flat, axis=1)


def au_values(
    intensity: Float[np.ndarray, "... u"], presence: Float[np.ndarray, "... c"]
) -> Float[np.ndarray, "... k"]:
    """Values of the action unit columns.

    Args:
        intensity: 0 to 5.
        presence: 0 or 1.
    Returns:
        float64 in column order.
    """
    return np.concatenate([intensity, presence], axis=-1, dtype=np.float64)


def row_format(groups: _Columns) -> str:
    """The % format of one row of the given columns, without a line end."""
    return ", ".join(format for names, format in groups for _ in names)


def _single(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return np.asarray(values, np.float32).astype(np.float64)
