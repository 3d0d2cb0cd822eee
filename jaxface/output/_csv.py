"""CSV files, byte for byte as OpenFace's."""

import dataclasses
import itertools
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Float

from ._atomic import OutputFile, make_folder, output_errors
from ._columns import (
    CsvKind,
    Layout,
    check_kind,
    column_groups,
    layout_of,
    names_of,
    row_format,
    to_values,
    unit_groups,
)
from ._rows import NO_UNITS, OPENFACE_UNITS, Table, UnitNames, join_tables

ActionUnitRow = tuple[Float[np.ndarray, " u"], Float[np.ndarray, " c"]]  # intensity, presence

_BLOCK = 64  # rows turned into Python numbers at a time


def csv_lines(
    table: Table, kind: CsvKind = "video", *, units: UnitNames = OPENFACE_UNITS
) -> Iterator[bytes]:
    """Formats rows as lines of a CSV.

    Args:
        table: the rows. Without action units the lines end before their columns.
        kind: whose CSV.
        units: the table's action units.
    Returns:
        One line after another, each with its line end; no header.
    Raises:
        ValueError: unknown kind, or other action units than the table's.
    """
    groups = column_groups(kind, layout_of(table, units))
    line = row_format(groups) + "\n"
    for start in range(0, len(table), _BLOCK):
        for row in to_values(table[start : start + _BLOCK], groups).tolist():
            yield (line % tuple(row)).encode("ascii")


def write_csv(
    path: str | Path,
    table: Table,
    *,
    kind: CsvKind = "video",
    units: UnitNames = OPENFACE_UNITS,
) -> Path:
    """Writes a whole table.

    Args:
        path: the file, replaced only when the new one is complete.
        table: the rows.
        kind: whose CSV.
        units: the table's action units.
    Returns:
        The path.
    Raises:
        OutputError: it cannot be written; what was there before is untouched.
    """
    file = OutputFile(Path(path))
    try:
        file.write(_header(kind, layout_of(table, units)))
        for line in csv_lines(table, kind, units=units):
            file.write(line)
        return file.commit()
    except BaseException:
        file.discard()
        raise


class CsvWriter:
    """Writes a CSV row by row, in memory that does not grow with the clip.

    A clip's action units are known only at its end (specification 03, C.5, step 4): rows may come
    without them, and `finish` then appends them in a second pass. The file appears under its
    name only at `finish`. As a context manager it discards what was not finished.
    """

    def __init__(
        self, path: str | Path, *, kind: CsvKind = "video", units: UnitNames = OPENFACE_UNITS
    ):
        """Prepares a file; nothing is created before the first row.

        Args:
            path: the file.
            kind: whose CSV.
            units: action units of the rows, if they have any.
        """
        check_kind(kind)  # before any frame is analysed
        self.path = Path(path)
        self.rows = 0
        self._kind: CsvKind = kind
        self._units = units
        self._layout = Layout()  # of the rows, known with the first
        self._spool: IO[bytes] | None = None
        self._pending: list[Table] = []  # formatted together, which is faster
        self._complete: bool | None = None  # the rows carry their action units; None before any

    def __enter__(self) -> "CsvWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.discard()

    def write(self, row: Table) -> None:
        """Appends a few rows, which are formatted later with those after them: this is faster than
        `write_table` for single rows. See there."""
        self._check(_complete(row))
        self._pending.append(row)
        self.rows += len(row)
        if len(self._pending) == _BLOCK:
            self._flush()

    def write_table(self, table: Table) -> None:
        """Appends rows.

        Args:
            table: the rows; with action units or, like all other rows, without.
        Raises:
            ValueError: some rows have action units and others do not.
            OutputError: they cannot be stored.
        """
        self._check(_complete(table))
        self._flush()
        self._store(table)
        self.rows += len(table)

    def finish(self, action_units: Iterable[ActionUnitRow] | None = None) -> Path | None:
        """Completes the file and gives it its name.

        Args:
            action_units: intensity and presence of every row that came without; None if the
                rows have them already, or if there are none at all.
        Returns:
            The path, or None where there was no row: as OpenFace, no file is written then.
        Raises:
            ValueError: not one entry per row, or the rows have action units already.
            OutputError: it cannot be written; what was there before is untouched.
        """
        if self._complete and action_units is not None:
            raise ValueError("action_units: expected None, the rows have them already")
        self._flush()
        if self._spool is None:
            return None
        file = OutputFile(self.path)
        try:
            known = self._units if self._complete or action_units is not None else NO_UNITS
            file.write(_header(self._kind, dataclasses.replace(self._layout, units=known)))
            for line in self._completed_lines(self._spool, action_units):
                file.write(line)
            path = file.commit()
        except BaseException:
            file.discard()
            raise
        self.discard()
        return path

    def discard(self) -> None:
        """Drops what was written so far. A finished file stays."""
        self._pending = []
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _check(self, complete: bool) -> None:
        if self._complete is None:
            self._complete = complete
        if complete != self._complete:
            raise ValueError("rows: expected action units in all of them or in none, got a mixture")

    def _flush(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, []
            self._store(join_tables(pending))

    def _store(self, table: Table) -> None:
        self._layout = layout_of(table, self._units)
        if self._spool is None:
            make_folder(self.path.parent)
            with output_errors(self.path):
                # On the same disk, and without a name: it vanishes with the process.
                self._spool = tempfile.TemporaryFile(dir=self.path.parent)
        with output_errors(self.path):
            self._spool.write(b"".join(csv_lines(table, self._kind, units=self._units)))

    def _completed_lines(
        self, spool: IO[bytes], action_units: Iterable[ActionUnitRow] | None
    ) -> Iterator[bytes]:
        with output_errors(self.path):
            spool.seek(0)
        if action_units is None:
            yield from spool
            return
        format = row_format(unit_groups(self._kind, self._units))
        tail = (", " if format else "") + format + "\n"
        for line, unit in itertools.zip_longest(spool, action_units):
            if line is None or unit is None:
                raise ValueError(f"action_units: expected one entry for each of {self.rows} rows")
            intensity, presence = unit
            values = np.concatenate([intensity, presence], dtype=np.float64).tolist()
            yield line[:-1] + (tail % tuple(values)).encode("ascii")


def _complete(table: Table) -> bool:
    """Whether rows have their action units."""
    return bool(table.au_intensity.shape[1] or table.au_presence.shape[1])


def _header(kind: CsvKind, layout: Layout) -> bytes:
    return (", ".join(names_of(column_groups(kind, layout))) + "\n").encode("ascii")
