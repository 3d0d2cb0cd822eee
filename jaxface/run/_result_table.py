"""Results of many files in one table."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..output import find_results
from ._results import read_results

if TYPE_CHECKING:
    import pandas as pd  # loaded by `to_dataframe`


def results_table(results: str | Path | Sequence[str | Path]) -> "pd.DataFrame":
    """Reads many files of results into one table.

    Args:
        results: files, in any formats that `read_results` reads; or a folder: the results in it and
            below it, each once, from Parquet or NPZ where there is one beside the CSV.
    Returns:
        OpenFace's columns, as of `Analysis.to_dataframe`, after a column `file`: the path as it was
        given, or below the folder. Files are in the order given, or by their names.
    Raises:
        InputError: there is none, one cannot be read, or has other columns than the first.
    """
    import pandas as pd

    if isinstance(results, str | Path):
        folder = Path(results)
        files = {path.relative_to(folder).as_posix(): path for path in _find(folder)}
    else:
        files = {str(path): Path(path) for path in results}
    if not files:
        expected = "files of results (.csv, .parquet, .npz)"
        raise InputError(str(results), expected, "none", "check the path")
    tables: list[pd.DataFrame] = []
    for path in files.values():
        table = read_results(path).to_dataframe()
        if tables and list(table.columns) != list(tables[0].columns):
            _refuse(path, next(iter(files)), list(tables[0].columns), list(table.columns))
        tables.append(table)
    names = pd.DataFrame({"file": np.repeat([*files], [len(table) for table in tables])})
    return pd.concat([names, pd.concat(tables, ignore_index=True)], axis=1)


def _find(folder: Path) -> list[Path]:
    """The results in a folder and below it, one for each name."""
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing there"
        raise InputError(folder, "a folder or a list of files", got, "call read_results for one")
    return sorted(find_results(folder).values(), key=os.fspath)


def _refuse(path: Path, first: str, wanted: list[str], found: list[str]) -> None:
    missing = [name for name in wanted if name not in found]
    more = [name for name in found if name not in wanted]
    got = ", ".join(
        f"{len(names)} {word}, as {names[0]!r}"
        for names, word in ((missing, "fewer"), (more, "more"))
        if names
    )
    hint = "read files of other columns apart, as those of images and clips"
    raise InputError(path, f"the columns of {first}", got or "another order", hint)
