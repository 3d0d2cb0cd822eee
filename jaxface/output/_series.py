"""What is plotted of a result: curves over time or over faces, in the units that people read."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ._columns import CsvKind
from ._rows import Table


class Curve(NamedTuple):
    """One value of each row."""

    name: str
    values: Float[np.ndarray, " n"]  # NaN where there is no face


class Curves(NamedTuple):
    """Curves that share an axis."""

    title: str
    unit: str
    curves: tuple[Curve, ...]


class Axis(NamedTuple):
    """What curves are drawn over."""

    name: str
    values: Float[np.ndarray, " n"]


def one_face(rows: Table, face: int | None) -> Table:
    """The rows of one face.

    Args:
        rows: of a clip.
        face: its `face_id`; None takes the one that was found in the most rows.
    Raises:
        ValueError: there is no such face.
    """
    ids = np.unique(rows.face_id)
    if face is None:
        found = [int(rows.success[rows.face_id == i].sum()) for i in ids]
        if not found:
            return rows
        face = int(ids[int(np.argmax(found))])
    if face not in ids:
        known = ", ".join(map(str, ids.tolist())) or "none"
        raise ValueError(f"face: expected the face_id of a row ({known}), got {face!r}")
    return rows[rows.face_id == face]


def axis_of(rows: Table, kind: CsvKind) -> Axis:
    """Time, or the number of the frame where times do not grow; of an image the number of the
    face."""
    if kind == "image":
        return Axis("face", np.asarray(rows.face_id, np.float64))
    times = np.asarray(rows.timestamp, np.float64)
    if len(times) < 2 or (np.diff(times) > 0).all():
        return Axis("time [s]", times)
    return Axis("frame", np.asarray(rows.frame, np.float64))


def curves_of(rows: Table) -> tuple[Curves, ...]:
    """Head, gaze and confidence, as far as the columns are there; NaN in rows without a face."""
    found = np.asarray(rows.success, bool)
    groups: list[Curves] = []
    if rows.head_pose.shape[1]:
        pose = np.asarray(rows.head_pose, np.float64)
        angles, place = np.degrees(pose[:, 3:]), pose[:, :3]
        groups.append(_group("head", "deg", ("pitch", "yaw", "roll"), angles, found))
        groups.append(_group("head", "mm", ("x", "y", "z"), place, found))
    if rows.gaze_angle.shape[1]:
        looks = np.degrees(np.asarray(rows.gaze_angle, np.float64))
        groups.append(_group("gaze", "deg", ("right", "down"), looks, found))
    confidence = Curve("confidence", np.asarray(rows.confidence, np.float64))
    groups.append(Curves("confidence", "", (confidence,)))
    return tuple(groups)


def intensities_of(rows: Table) -> Float[np.ndarray, "n u"]:
    """Action units, NaN in rows without a face."""
    found = np.asarray(rows.success, bool)[:, None]
    return np.where(found, np.asarray(rows.au_intensity, np.float64), np.nan)


def _group(
    title: str,
    unit: str,
    names: tuple[str, ...],
    values: Float[np.ndarray, "n k"],
    found: Bool[np.ndarray, " n"],
) -> Curves:
    columns = np.where(found[:, None], np.asarray(values, np.float64), np.nan).T
    return Curves(title, unit, tuple(map(Curve, names, columns)))
