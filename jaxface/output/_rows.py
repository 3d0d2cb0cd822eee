"""Results as tables of NumPy arrays on the host: the one place that lists their fields."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

# Alphabetical, as in OpenFace's CSV. AU28 has no intensity model.
INTENSITY_NAMES = (
    *("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU10", "AU12"),
    *("AU14", "AU15", "AU17", "AU20", "AU23", "AU25", "AU26", "AU45"),
)
PRESENCE_NAMES = (*INTENSITY_NAMES[:-1], "AU28", "AU45")

Index = int | np.integer | slice | Sequence[int] | Int[np.ndarray, " k"] | Bool[np.ndarray, " n"]
Rows = TypeVar("Rows", bound="Table")  # not typing.Self, which beartype refuses in methods


class UnitNames(NamedTuple):
    """The action units that a model knows: what it cannot tell has no column."""

    intensity: tuple[str, ...] = INTENSITY_NAMES
    presence: tuple[str, ...] = PRESENCE_NAMES


OPENFACE_UNITS = UnitNames()
NO_UNITS = UnitNames((), ())


class Table(eqx.Module):
    """Results of faces in frames, a row each. The first axis of every array is the rows.

    Coordinate frames and units are those of `jaxface.types`. What is not known has no width: a
    model without eyes has `eye_landmarks` of shape (n, 0, 2), rows without action units have
    `au_intensity` of shape (n, 0). `Analysis` adds what belongs to all rows.
    """

    frame: Int[np.ndarray, " n"]  # from 1
    face_id: Int[np.ndarray, " n"]  # from 0
    timestamp: Float[np.ndarray, " n"]  # s
    confidence: Float[np.ndarray, " n"]  # 0 to 1
    success: Bool[np.ndarray, " n"]
    gaze: Float[np.ndarray, "n g 3"]  # 2 unit vectors, image-left eye first; 0 without success
    gaze_angle: Float[np.ndarray, "n ga"]  # 2 angles, rad, to the right and down
    eye_landmarks: Float[np.ndarray, "n e 2"]  # px, those of the image-left eye first
    eye_landmarks_3d: Float[np.ndarray, "n e3 3"]  # mm
    head_pose: Float[np.ndarray, "n pose"]  # Tx Ty Tz mm, Rx Ry Rz rad
    landmarks: Float[np.ndarray, "n l 2"]  # px
    landmarks_3d: Float[np.ndarray, "n l3 3"]  # mm
    scale: Float[np.ndarray, " n"]  # px per mm; NaN where it is not known
    rotation: Float[np.ndarray, "n angles"]  # pitch yaw roll, rad
    translation: Float[np.ndarray, "n axes"]  # px
    local: Float[np.ndarray, "n m"]  # shape coefficients, mm
    au_intensity: Float[np.ndarray, "n u"]  # 0 to 5
    au_presence: Float[np.ndarray, "n c"]  # 0 or 1

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.frame)

    def __getitem__(self: Rows, rows: Index) -> Rows:
        """Some of the rows: one by its number, a slice, a mask, or numbers. One stays a table.

        Raises:
            IndexError: there is no such row, or the mask does not have one entry for each.
            TypeError: `rows` is something else.
        """
        chosen = _chosen(rows, len(self))
        columns = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        arrays = {name: c[chosen] for name, c in columns.items() if isinstance(c, np.ndarray)}
        return dataclasses.replace(self, **arrays)

    def __iter__(self: Rows) -> Iterator[Rows]:
        """Gives one row after the other, each as a table."""
        return (self[i] for i in range(len(self)))


FIELDS = tuple(field.name for field in dataclasses.fields(Table))


def join_tables(tables: Iterable[Table]) -> Table:
    """Puts tables below one another.

    Args:
        tables: at least one; all of them with action units or all without.
    Returns:
        All rows, in the order given.
    Raises:
        ValueError: no table, or columns that differ.
    """
    pieces = list(tables)
    if not pieces:
        raise ValueError("tables: expected at least one, got none")
    columns = {name: [getattr(piece, name) for piece in pieces] for name in FIELDS}
    for name, found in columns.items():
        shapes = {column.shape[1:] for column in found}
        if len(shapes) > 1:
            raise ValueError(f"{name}: expected one shape in all rows, got {sorted(shapes)}")
    return Table(**{name: np.concatenate(found) for name, found in columns.items()})


def _chosen(rows: Index, count: int) -> slice | np.ndarray:
    """An index that keeps the axis of the rows."""
    if isinstance(rows, slice):
        return rows
    if isinstance(rows, (int, np.integer)) and not isinstance(rows, bool):
        if not -count <= rows < count:
            raise IndexError(f"row {rows}: expected one of {count} rows")
        return slice(rows % count, rows % count + 1)
    index = np.asarray(rows)
    if index.size == 0 and index.dtype != bool:
        index = index.astype(int)  # an empty list
    if index.ndim != 1 or index.dtype.kind not in "biu":
        raise TypeError(
            f"rows: expected a number, a slice, numbers or a mask, got {rows!r}: "
            "a column is an attribute, as in analysis.landmarks"
        )
    if index.dtype == bool and len(index) != count:
        raise IndexError(f"rows: expected a mask of {count} entries, got {len(index)}")
    return index
