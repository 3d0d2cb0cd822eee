"""Which groups of columns a CSV is to have."""

import dataclasses
from typing import NamedTuple

import numpy as np

from ._rows import Rows, Table


class ColumnChoice(NamedTuple):
    """Groups of columns that OpenFace writes on request, in the order of its details file."""

    gaze: bool = True  # with the landmarks of the eyes
    action_units: bool = True
    landmarks: bool = True  # px
    landmarks_3d: bool = True  # mm
    head_pose: bool = True
    parameters: bool = True  # of the shape model


# The fields of `Table` that belong to each.
_FIELDS: tuple[tuple[str, ...], ...] = (
    ("gaze", "gaze_angle", "eye_landmarks", "eye_landmarks_3d"),
    ("au_intensity", "au_presence"),
    ("landmarks",),
    ("landmarks_3d",),
    ("head_pose",),
    ("scale", "rotation", "translation", "local"),
)


def choose_columns(table: Rows, choice: ColumnChoice) -> Rows:
    """The same rows with some groups of columns alone.

    Args:
        table: the rows.
        choice: groups that stay.
    Returns:
        A table in which the fields of the other groups have no width, as those of a model that
        does not know them; `scale` is NaN there.
    Reference:
        Specification 03, E.4.
    """
    dropped: dict[str, np.ndarray] = {}
    for kept, fields in zip(choice, _FIELDS, strict=True):
        for name in () if kept else fields:
            values = getattr(table, name)
            dropped[name] = np.full_like(values, np.nan) if values.ndim == 1 else values[:, :0]
    return dataclasses.replace(table, **dropped) if dropped else table


def columns_of(table: Table) -> ColumnChoice:
    """Which groups of columns a table has.

    Args:
        table: the rows.
    Returns:
        True for each group of which some field has a width.
    """
    return ColumnChoice(*(any(_is_there(table, name) for name in fields) for fields in _FIELDS))


def _is_there(table: Table, name: str) -> bool:
    values = getattr(table, name)
    return values.ndim > 1 and values.shape[1] > 0  # `scale` is there when the rotation is
