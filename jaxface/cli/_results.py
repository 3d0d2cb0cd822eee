"""The result files of one input, in the formats that the user wants."""

import contextlib
import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..output import (
    NO_UNITS,
    About,
    CsvKind,
    CsvWriter,
    Record,
    Stored,
    Table,
    TableSpool,
    UnitNames,
    write_npz,
    write_parquet,
)
from ._formats import Format

_UnitRow = tuple[Float[np.ndarray, " u"], Float[np.ndarray, " c"]]  # intensity, presence


class ResultWriter:
    """Writes the rows of one input; files appear under their names at `finish`.

    As a context manager it discards what was not finished.
    """

    def __init__(self, base: Path, formats: tuple[Format, ...], kind: CsvKind, units: UnitNames):
        """Prepares the files; nothing is created before the first row.

        Args:
            base: the files' path without suffix.
            formats: which files.
            kind: whose rows they are.
            units: action units of the rows, or that `finish` gives them.
        """
        self._paths = {name: base.with_name(f"{base.name}.{name}") for name in formats}
        self._kind: CsvKind = kind
        self._units = units
        csv = self._paths.get("csv")
        self._csv = None if csv is None else CsvWriter(csv, kind=kind, units=units)
        whole = [path for name, path in self._paths.items() if name != "csv"]
        self._spool = TableSpool(whole[0]) if whole else None
        self._stack = contextlib.ExitStack()
        self.rows = 0

    def __enter__(self) -> "ResultWriter":
        for writer in (self._csv, self._spool):
            if writer is not None:
                self._stack.enter_context(writer)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def write(self, row: Table) -> None:
        """Appends a few rows, all with action units or all without. Raises `OutputError`."""
        self.rows += len(row)
        for writer in (self._csv, self._spool):
            if writer is not None:
                writer.write(row)

    def finish(self, action_units: Iterable[_UnitRow] | None, record: Record) -> tuple[Path, ...]:
        """Completes the files and gives them their names.

        Args:
            action_units: intensity and presence of every row that came without; None if the rows
                have them already, or if there are none at all.
            record: what made the rows; a CSV does not hold it.
        Returns:
            The files, none where there was no row.
        Raises:
            OutputError: one cannot be written.
        """
        if self._spool is not None and action_units is not None:
            action_units = list(action_units)  # for both
        found = None if self._csv is None else self._csv.finish(action_units)
        paths = [] if found is None else [found]
        table = None if self._spool is None else self._spool.table()
        if table is None:
            return tuple(paths)
        if action_units is not None:
            pairs = zip(*action_units, strict=True)
            intensity, presence = (np.stack(list(values)) for values in pairs)
            table = dataclasses.replace(table, au_intensity=intensity, au_presence=presence)
        known = table.au_intensity.shape[1] or table.au_presence.shape[1]
        units = self._units if known else NO_UNITS
        lanes = record.get("settings", {}).get("lanes", 1)
        stored = Stored(table, About(self._kind, units, lanes, record))
        for name, write in (("parquet", write_parquet), ("npz", write_npz)):
            if name in self._paths:
                paths.append(write(self._paths[name], stored))
        return tuple(paths)
