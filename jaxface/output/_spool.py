"""Rows of a table on disk, as they come."""

import tempfile
from pathlib import Path
from typing import IO

import numpy as np

from ._atomic import make_folder, output_errors
from ._rows import FIELDS, Table, join_tables

_BLOCK = 64  # rows stored at a time


class TableSpool:
    """Keeps rows in a file without a name, in memory that does not grow with the clip.

    As a context manager it drops them at the end.
    """

    def __init__(self, path: Path):
        """Prepares a file; nothing is created before the first row.

        Args:
            path: the result that the rows are for: they lie beside it, and errors name it.
        """
        self._path = path
        self._pending: list[Table] = []
        self._file: IO[bytes] | None = None
        self._type: np.dtype | None = None  # of a row

    def __enter__(self) -> "TableSpool":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, row: Table) -> None:
        """Appends a few rows. Raises `OutputError`, for example when the disk is full."""
        self._pending.append(row)
        if len(self._pending) == _BLOCK:
            self._flush()

    def table(self) -> Table | None:
        """All rows so far, of which those that are looked at are in memory; None without any.

        Raises:
            OutputError: they cannot be stored.
        """
        self._flush()
        if self._file is None or self._type is None:
            return None
        with output_errors(self._path):
            self._file.flush()
        rows = np.memmap(self._file, self._type, mode="r").view(np.ndarray)
        return Table(**{name: rows[name] for name in FIELDS})

    def _flush(self) -> None:
        if not self._pending:
            return
        table, self._pending = join_tables(self._pending), []
        columns = {name: getattr(table, name) for name in FIELDS}
        if self._type is None:
            self._type = np.dtype([(n, c.dtype, c.shape[1:]) for n, c in columns.items()])
        rows = np.empty(len(table), self._type)
        for name, values in columns.items():
            if values.dtype != self._type[name].base:
                raise ValueError(f"{name}: expected {self._type[name].base}, got {values.dtype}")
            rows[name] = values
        if self._file is None:
            make_folder(self._path.parent)
        with output_errors(self._path):
            if self._file is None:
                # On the same disk, and without a name: it vanishes with the process.
                self._file = tempfile.TemporaryFile(dir=self._path.parent)
            self._file.write(rows.tobytes())
