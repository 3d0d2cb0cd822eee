"""OpenFace's CSV columns: their names, order and number of decimals, and nowhere else.

A model with other landmarks, shape coefficients or action units than OpenFace's has as many columns
of them.

Reference: specification 03, E.4.
"""

import dataclasses
import math
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from ..types import MULTI_PIE_68
from ._rows import NO_UNITS, OPENFACE_UNITS, Table, UnitNames

# FeatureExtraction, FaceLandmarkVidMulti and FaceLandmarkImg.
CsvKind = Literal["video", "multi_face", "image"]
_KINDS = ("video", "multi_face", "image")
KEYS = ("frame", "face_id", "timestamp", "confidence", "success")  # what tells rows apart
_TYPES = {"frame": np.int64, "face_id": np.int64, "timestamp": np.float64, "success": np.bool_}
_TYPES |= {"au_intensity": np.float64, "au_presence": np.float64}  # OpenFace holds other floats
# as float32, and prints those.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Which columns a table has beside those that tell the rows apart.

    A group that is false, or 0, is left out, as OpenFace does without its option.
    """

    # Fields that tell the rows apart and have columns; None: those of OpenFace 2.2.0's CSV.
    keys: tuple[str, ...] | None = None
    gaze: bool = True
    gaze_angle: bool = True
    eye_landmarks: int = MULTI_PIE_68.eye_count
    eye_landmarks_3d: int = MULTI_PIE_68.eye_count
    head_pose: bool = True
    landmarks: int = MULTI_PIE_68.count
    landmarks_3d: int = MULTI_PIE_68.count
    parameters: bool = True
    modes: int = 34  # shape coefficients
    units: UnitNames = OPENFACE_UNITS


class Group(NamedTuple):
    """The columns of one field of a table, of which there may be none."""

    field: str
    names: tuple[str, ...]
    formats: tuple[str, ...]  # of each column
    shape: tuple[int, ...]  # of the field in one row
    planar: bool = False  # all x, then all y, then all z
    fill: float = np.nan  # what a field of a single number holds that has no column


def layout_of(table: Table, units: UnitNames = OPENFACE_UNITS) -> Layout:
    """The columns of a table.

    Args:
        table: the rows.
        units: names of its action units, if it has any.
    Raises:
        ValueError: `units` has not one name for each column.
    """
    widths = (table.au_intensity.shape[1], table.au_presence.shape[1])
    expected = (len(units.intensity), len(units.presence))
    if widths not in (expected, (0, 0)):
        raise ValueError(f"units: expected {widths[0]} and {widths[1]} names, got {expected}")
    return Layout(
        gaze=table.gaze.shape[1] > 0,
        gaze_angle=table.gaze_angle.shape[1] > 0,
        eye_landmarks=table.eye_landmarks.shape[1],
        eye_landmarks_3d=table.eye_landmarks_3d.shape[1],
        head_pose=table.head_pose.shape[1] > 0,
        landmarks=table.landmarks.shape[1],
        landmarks_3d=table.landmarks_3d.shape[1],
        parameters=table.rotation.shape[1] > 0,
        modes=table.local.shape[1],
        units=units if widths == expected else NO_UNITS,
    )


def check_kind(kind: CsvKind) -> None:
    """Raises a ValueError for an unknown kind."""
    if kind not in _KINDS:
        raise ValueError(f"kind: expected one of {', '.join(_KINDS)}, got {kind!r}")


def column_groups(kind: CsvKind, layout: Layout = Layout()) -> tuple[Group, ...]:
    """All columns, in their order.

    Args:
        kind: whose CSV.
        layout: which columns beside the first few.
    Returns:
        One group for each field of `Table`, in the order of its fields.
    Raises:
        ValueError: unknown kind.
    """
    check_kind(kind)
    return (*_key(kind, layout.keys), *_body(layout), *unit_groups(kind, layout.units))


def _key(kind: CsvKind, keys: tuple[str, ...] | None) -> tuple[Group, ...]:
    image = kind == "image"
    if keys is None:
        keys = ("face_id", "confidence") if image else KEYS
    names = {"face_id": "face"} if image else {}

    def key(field: str, decimals: str, fill: float = np.nan) -> Group:
        found = (names.get(field, field),) if field in keys else ()
        return _group(field, found, decimals, fill=fill)

    return (
        key("frame", "%d", 1.0),
        key("face_id", "%d", 0.0),
        key("timestamp", "%.3f", 0.0),
        key("confidence", "%.3f" if image else "%.2f"),
        key("success", "%d", 1.0),
    )


def _body(layout: Layout) -> tuple[Group, ...]:
    gaze = tuple(f"gaze_{eye}_{axis}" for eye in "01" for axis in "xyz") if layout.gaze else ()
    angle = ("gaze_angle_x", "gaze_angle_y") if layout.gaze_angle else ()
    pose = tuple(f"pose_{kind}{axis}" for kind in "TR" for axis in "xyz")
    pose = pose if layout.head_pose else ()
    scale, rotation, move = (
        names if layout.parameters else ()
        for names in (("p_scale",), ("p_rx", "p_ry", "p_rz"), ("p_tx", "p_ty"))
    )
    modes = tuple(f"p_{i}" for i in range(layout.modes))
    head_pose = Group("head_pose", pose, (*["%.1f"] * 3, *["%.3f"] * 3)[: len(pose)], (len(pose),))
    return (
        _group("gaze", gaze, "%.6f", (len(gaze) // 3, 3)),
        _group("gaze_angle", angle, "%.3f", (len(angle),)),
        _points("eye_landmarks", "eye_lmk_", "xy", layout.eye_landmarks),
        _points("eye_landmarks_3d", "eye_lmk_", "XYZ", layout.eye_landmarks_3d),
        head_pose,
        _points("landmarks", "", "xy", layout.landmarks),
        _points("landmarks_3d", "", "XYZ", layout.landmarks_3d),
        _group("scale", scale, "%.3f"),
        _group("rotation", rotation, "%.3f", (len(rotation),)),
        _group("translation", move, "%.3f", (len(move),)),
        _group("local", modes, "%.3f", (len(modes),)),
    )


def unit_groups(kind: CsvKind, units: UnitNames = OPENFACE_UNITS) -> tuple[Group, Group]:
    """The columns of the action units.

    Args:
        kind: whose CSV; FeatureExtraction prints presence with two decimals.
        units: which of them.
    """
    intensity = tuple(f"{name}_r" for name in units.intensity)
    presence = tuple(f"{name}_c" for name in units.presence)
    decimals = "%.2f" if kind == "video" else "%.1f"
    return (
        _group("au_intensity", intensity, "%.2f", (len(intensity),)),
        _group("au_presence", presence, decimals, (len(presence),)),
    )


def _group(
    field: str,
    names: tuple[str, ...],
    decimals: str,
    shape: tuple[int, ...] = (),
    *,
    fill: float = np.nan,
) -> Group:
    return Group(field, names, (decimals,) * len(names), shape, fill=fill)


def _points(field: str, prefix: str, axes: str, count: int) -> Group:
    names = tuple(f"{prefix}{axis}_{i}" for axis in axes for i in range(count))
    return Group(field, names, ("%.1f",) * len(names), (count, len(axes)), planar=True)


def column_names(
    kind: CsvKind,
    *,
    units: UnitNames | None = OPENFACE_UNITS,
    modes: int = Layout.modes,
    landmarks: int = MULTI_PIE_68.count,
    eye_landmarks: int = MULTI_PIE_68.eye_count,
) -> list[str]:
    """Column names of a CSV.

    Args:
        kind: whose CSV.
        units: action units with columns; None for none.
        modes: number of shape coefficients.
        landmarks: of the face.
        eye_landmarks: of both eyes; a model without has no columns of them.
    Returns:
        714 names for OpenFace's numbers, 711 for images, or 35 fewer without units.
    """
    layout = Layout(
        eye_landmarks=eye_landmarks,
        eye_landmarks_3d=eye_landmarks,
        landmarks=landmarks,
        landmarks_3d=landmarks,
        modes=modes,
        units=NO_UNITS if units is None else units,
    )
    return names_of(column_groups(kind, layout))


def names_of(groups: tuple[Group, ...]) -> list[str]:
    """Names of the columns."""
    return [name for group in groups for name in group.names]


def row_format(groups: tuple[Group, ...]) -> str:
    """The % format of one row of the given columns, without a line end."""
    return ", ".join(format for group in groups for format in group.formats)


def to_values(table: Table, groups: tuple[Group, ...]) -> Float[np.ndarray, "n columns"]:
    """Values of some columns of a table.

    Args:
        table: the rows.
        groups: which columns.
    Returns:
        float64 in column order. All but the timestamp and the action units are exact float32
        values, as OpenFace's.
    """
    blocks = [np.zeros((len(table), 0))]
    for group in groups:
        if not group.names:
            continue
        values = getattr(table, group.field)
        if group.field not in _TYPES:
            values = np.asarray(values, np.float32)
        values = np.asarray(values, np.float64)
        if group.planar:
            values = np.swapaxes(values, 1, 2)
        blocks.append(values.reshape(len(table), len(group.names)))
    return np.concatenate(blocks, axis=1)


def from_values(values: Float[np.ndarray, "n columns"], groups: tuple[Group, ...]) -> Table:
    """The table that has some values: the inverse of `to_values`.

    Args:
        values: all columns of the groups.
        groups: all groups of a kind.
    """
    columns, at = {}, 0
    for group in groups:
        some = values[:, at : at + len(group.names)]
        at += len(group.names)
        if len(group.names) < math.prod(group.shape):
            some = np.full((len(values), 1), group.fill)
        if group.planar:
            some = np.swapaxes(some.reshape(len(values), *group.shape[::-1]), 1, 2)
        kind = usual_type(group.field)
        with np.errstate(over="ignore"):  # beyond float32 is infinity, as in C
            columns[group.field] = some.reshape(len(values), *group.shape).astype(kind)
    return Table(**columns)


def usual_type(field: str) -> np.dtype:
    """What the values of a field are, unless a file says otherwise."""
    return np.dtype(_TYPES.get(field, np.float32))


def empty_table(layout: Layout) -> Table:
    """A table without rows."""
    groups = column_groups("video", layout)
    return from_values(np.zeros((0, len(names_of(groups)))), groups)
