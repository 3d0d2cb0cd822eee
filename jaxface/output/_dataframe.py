"""Results as a pandas table."""

from typing import TYPE_CHECKING

from ._columns import CsvKind, au_values, base_values, column_names
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

    known = None if table.au_intensity is None or table.au_presence is None else units
    names = column_names(kind, units=known, modes=table.local.shape[-1])
    base = base_values(table, kind)
    frame = pd.DataFrame(base, columns=pd.Index(names[: base.shape[1]]))
    if table.au_intensity is not None and table.au_presence is not None:
        values = au_values(table.au_intensity, table.au_presence)
        frame = frame.join(pd.DataFrame(values, columns=pd.Index(names[base.shape[1] :])))
    return frame.astype({name: "int64" for name in _INTEGERS if name in frame.columns})
