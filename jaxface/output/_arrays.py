"""Arrays of a result file as a table, once they are what they should be."""

from pathlib import Path

import numpy as np

from ..errors import InputError
from ._columns import CsvKind, Group, column_groups, layout_of
from ._rows import FIELDS, Table, UnitNames

_AGAIN = "write or copy the file again"
# Bytes that a file may unpack to, however small it is: 13 hours at 30 frames/s without a face, the
# only results that pack so well.
_MOST = 2**32
_RATIO = 100  # else this times its size

# What the values of a field may be, as NumPy's `dtype.kind`; of the others floats.
_KINDS = {"frame": "iu", "face_id": "iu", "success": "b"}
_WORDS = {"iu": "integers", "b": "true or false", "f": "floats"}


def to_table(path: Path, arrays: dict[str, np.ndarray], kind: CsvKind, units: UnitNames) -> Table:
    """Checks arrays by name and makes them a table.

    Args:
        path: the file they are from, for messages.
        arrays: one for each field of `Table`.
        kind: whose rows they are.
        units: names of their action units.
    Raises:
        InputError: one is missing, or has another type or shape than its field.
    """
    for group in column_groups(kind):
        if group.field not in arrays:
            raise InputError(path, f"an array {group.field!r}", "none", _AGAIN)
        _check(path, group, arrays[group.field], len(arrays["frame"]))
    table = Table(**{name: _signed(arrays[name]) for name in FIELDS})
    try:
        layout = layout_of(table, units)
    except ValueError as error:
        expected = f"{len(units.intensity)} and {len(units.presence)} action units"
        raise InputError(path, expected, str(error), _AGAIN) from error
    for group in column_groups(kind, layout):
        shape = getattr(table, group.field).shape
        if shape[1:] != group.shape:
            expected = f"{group.field!r} of shape {(len(table), *group.shape)}"
            raise InputError(path, expected, str(shape), _AGAIN)
    return table


def check_kind_of(path: Path, field: str, dtype: np.dtype) -> None:
    """Raises an InputError where the values of a field are of another kind."""
    kinds = _KINDS.get(field, "f")
    if dtype.kind not in kinds or dtype.itemsize > 8:
        raise InputError(path, f"{_WORDS[kinds]} in {field!r}", f"values of {dtype}", _AGAIN)


def check_size(path: Path, unpacked: int) -> None:
    """Refuses a file that would fill the memory, though it is small itself.

    Args:
        path: the file.
        unpacked: bytes of its arrays.
    """
    most = max(_MOST, _RATIO * path.stat().st_size)
    if unpacked > most:
        got = f"one that unpacks to {unpacked / 2**30:.2g} GiB"
        raise InputError(path, f"a file of at most {most / 2**30:.2g} GiB", got, _AGAIN)


def _signed(values: np.ndarray) -> np.ndarray:
    """Counters as a table has them, whatever another program made of them."""
    return values.astype(np.int64) if values.dtype.kind == "u" else values


def _check(path: Path, group: Group, values: np.ndarray, rows: int) -> None:
    """Refuses another type, number of axes, of rows or of coordinates."""
    check_kind_of(path, group.field, values.dtype)
    wanted = group.shape[-1:] if len(group.shape) > 1 else ()
    axes = values.ndim == 1 + len(group.shape)
    if not axes or len(values) != rows or (wanted and values.shape[-1:] != wanted):
        shape = ", ".join(["n", *("k" for _ in group.shape[:1]), *map(str, wanted)])
        got = str(values.shape)
        raise InputError(path, f"{group.field!r} of shape ({shape}), n = {rows}", got, _AGAIN)
