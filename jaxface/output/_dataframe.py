"""Results as a pandas table."""

from typing import TYPE_CHECKING

from ._columns import CsvKind, column_groups, layout_of, names_of, to_values
from ._rows import OPENFACE_UNITS, Table, UnitNames

if TYPE_CHECKING:
    import pandas as pd

_INTEGERS = ("frame", "face_id", "success", "face")


def to_dataframe(
    table: Table, *, kind: CsvKind = "video", units: UnitNames = OPENFACE_UNITS
) -> "pd.DataFrame":
    """Turns a table into a pandas DataFrame with OpenFace's column names.

    Args:
        table: the rows.
        kind: whose columns; they differ in the first few.
        units: the table's action units.
    Returns:
        One row per face and frame, at full precision. Counters and success are integers.
    """
    import pandas as pd  # here, because it takes longer to import than all the rest

    groups = column_groups(kind, layout_of(table, units))
    frame = pd.DataFrame(to_values(table, groups), columns=pd.Index(names_of(groups)))
    return frame.astype({name: "int64" for name in _INTEGERS if name in frame.columns})
