"""OpenFace's binary `.hog` files."""

import struct
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from ..errors import InputError
from ._atomic import OutputFile

_ROWS, _COLUMNS, _CHANNELS = 12, 12, 31
_VALUES = _ROWS * _COLUMNS * _CHANNELS
_HEADER = struct.Struct("<iiif")  # columns, rows, channels, +1 or -1


class HogWriter:
    """Writes a `.hog` file record by record; it appears under its name at `finish`.

    As a context manager it discards what was not finished.
    """

    def __init__(self, path: str | Path):
        """Creates the file; without a record it stays empty.

        Args:
            path: the file.
        Raises:
            OutputError: it cannot be created.
        """
        self._file = OutputFile(Path(path))

    def __enter__(self) -> "HogWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.discard()

    def write(self, descriptor: Float[np.ndarray, "..."], valid: bool) -> None:
        """Appends one record.

        Args:
            descriptor: 4464 values, row by row of the 12x12 cells, 31 to a cell.
            valid: the face was tracked.
        Raises:
            ValueError: another number of values.
            OutputError: it cannot be written.
        """
        values = np.asarray(descriptor, "<f4")
        if values.size != _VALUES:
            raise ValueError(f"descriptor: expected {_VALUES} values, got {values.size}")
        header = _HEADER.pack(_COLUMNS, _ROWS, _CHANNELS, 1.0 if valid else -1.0)
        self._file.write(header + values.tobytes())

    def finish(self) -> Path:
        """Gives the file its name. Returns the path. Raises `OutputError`."""
        return self._file.commit()


def is_hog(start: bytes) -> bool:
    """Whether a file that begins with at least 12 such bytes is a `.hog` file."""
    return start[:12] == struct.pack("<iii", _COLUMNS, _ROWS, _CHANNELS)


def read_hog(
    path: str | Path,
) -> tuple[Float[np.ndarray, "n 12 12 31"], Bool[np.ndarray, " n"]]:
    """Reads a `.hog` file.

    Args:
        path: the file.
    Returns:
        Descriptors (cell row, cell column, channel) and whether each was tracked.
    Raises:
        InputError: its length or a record's size is not OpenFace's.
    Reference:
        Specification 03, B.1.
    """
    data = Path(path).read_bytes()
    record = np.dtype([("size", "<i4", 3), ("valid", "<f4"), ("values", "<f4", _VALUES)])
    expected = f"records of {record.itemsize} bytes for 12x12 cells of 31 values"
    if len(data) % record.itemsize:
        raise InputError(path, expected, f"{len(data)} bytes", "write the file again")
    records = np.frombuffer(data, record)
    if not (records["size"] == (_COLUMNS, _ROWS, _CHANNELS)).all():
        raise InputError(path, expected, "another size", "use OpenFace's default size of 112")
    shape = (len(records), _ROWS, _COLUMNS, _CHANNELS)
    return records["values"].reshape(shape), records["valid"] > 0
