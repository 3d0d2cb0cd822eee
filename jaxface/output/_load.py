"""Reads a file of results, whatever format its bytes are in."""

from pathlib import Path

from ..errors import InputError
from ._about import About, Stored
from ._hog import is_hog
from ._npz import read_npz
from ._parquet import read_parquet
from ._read import read_csv

_PARQUET = b"PAR1"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # a ZIP archive, and an empty one
SUFFIXES = (".parquet", ".npz", ".csv")  # the more precise first
_SHORT = 12  # bytes that tell the formats apart


def read_file(path: str | Path) -> Stored:
    """Reads a CSV of OpenFace's or ours, a Parquet file or an NPZ file.

    Args:
        path: the file. Its contents tell the format, not its suffix.
    Returns:
        Its rows, and what it says of them; a CSV says nothing that its columns do not.
    Raises:
        InputError: the file is missing, damaged, or no results.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(_SHORT)
    except OSError as error:
        got = "nothing there" if not path.exists() else error.strerror or str(error)
        raise InputError(path, "a file of results", got, "check the path") from error
    if start.startswith(_PARQUET):
        return read_parquet(path)
    if start.startswith(_ZIP):
        return read_npz(path)
    if is_hog(start):
        expected = "a CSV, Parquet or NPZ file"
        raise InputError(path, expected, "OpenFace's HOG descriptors", "call read_hog for them")
    table, kind, units = read_csv(path)
    return Stored(table, About(kind, units))


def find_results(folder: Path) -> dict[str, Path]:
    """The results in a folder and below it, one for each name.

    Args:
        folder: that is there.
    Returns:
        Files by their path below the folder without suffix, in the order of these: of a name the
        Parquet or NPZ file where there is one beside the CSV. Hidden ones are left out.
    """
    best: dict[str, Path] = {}
    for suffix in reversed(SUFFIXES):
        for path in folder.rglob(f"*{suffix}"):
            inside = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") for part in inside.parts):
                best[inside.with_suffix("").as_posix()] = path
    return dict(sorted(best.items()))
