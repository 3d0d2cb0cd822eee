"""Which files are compared, and what the user says of them in files."""

import csv
import json
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import InputError
from .._load import SUFFIXES, find_results

_COLUMNS = ("clip", "cohort")


class FilePair(NamedTuple):
    """Two results of the same clip."""

    name: str  # of the clip; in a study no two have the same
    a: Path  # the reference
    b: Path


def pair_files(paths: Sequence[str | Path]) -> tuple[list[FilePair], list[str]]:
    """Pairs files, and the files of folders by their names.

    Args:
        paths: A, B, A2, B2 and so on: two files each, or two folders, in which and below which
            files of the same name without suffix are results of the same clip.
    Returns:
        The pairs, and a message for each file that has no partner and each path that is not there.
    Raises:
        ValueError: a path is left over, or one of two is a file and the other a folder.
    """
    if not paths or len(paths) % 2:
        raise ValueError(f"expected pairs of files or folders, got {len(paths)} of them")
    found: list[FilePair] = []
    problems: list[str] = []
    given = [Path(path) for path in paths]
    for a, b in zip(given[::2], given[1::2], strict=True):
        absent = [path for path in (a, b) if not path.exists()]
        if absent:
            problems += [f"{path}: nothing there; check the path" for path in absent]
        elif a.is_dir() != b.is_dir():
            folder, file = (a, b) if a.is_dir() else (b, a)
            raise ValueError(f"expected two files or two folders, got {folder}/ and {file}")
        elif a.is_dir():
            pairs, alone = _pair_folders(a, b)
            found += pairs
            problems += alone
        else:
            found.append(FilePair(_bare(a.name), a, b))
    return _name_apart(found), problems


def _pair_folders(a: Path, b: Path) -> tuple[list[FilePair], list[str]]:
    in_a, in_b = find_results(a), find_results(b)
    pairs = [FilePair(name, in_a[name], in_b[name]) for name in in_a if name in in_b]
    problems = [
        f"{files[name]}: no partner {name}.* in {other}"
        for files, others, other in ((in_a, in_b, b), (in_b, in_a, a))
        for name in files
        if name not in others
    ]
    if not in_a and not in_b:
        problems.append(f"{a}, {b}: no files of results ({', '.join(SUFFIXES)})")
    return pairs, problems


def _name_apart(pairs: list[FilePair]) -> list[FilePair]:
    """Pairs of which no two have the same name: by the path of A, or at last by number."""
    for rename in (
        lambda number, pair: (pair.a.parent / _bare(pair.a.name)).as_posix(),
        lambda number, pair: f"{pair.name} ({number})",
    ):
        names = [pair.name for pair in pairs]
        pairs = [
            pair._replace(name=rename(number, pair)) if names.count(pair.name) > 1 else pair
            for number, pair in enumerate(pairs, 1)
        ]
    return pairs


def read_cohorts(path: str | Path) -> dict[str, str]:
    """Reads which cohort each clip belongs to.

    Args:
        path: a CSV file with the columns `clip` and `cohort`, or a TOML or JSON file with clips
            as keys and cohorts as values. Clips are named as their files, the suffix left out.
    Raises:
        InputError: the file is missing, damaged, or names a clip twice.
    """
    path = Path(path)
    if path.suffix.lower() in (".toml", ".json"):
        return _texts(path)
    try:
        rows = list(csv.reader(_text(path).splitlines(), skipinitialspace=True))
    except csv.Error as error:
        raise InputError(path, "a CSV file", str(error), "check it") from error
    head = [name.strip() for name in rows[0]] if rows else []
    if not {*_COLUMNS} <= {*head}:
        got = ", ".join(head) or "none"
        raise InputError(path, "columns clip and cohort", got, "name them in the first line")
    clip, cohort = (head.index(name) for name in _COLUMNS)
    found: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(head):
            got = str(len(row))
            raise InputError(path, f"{len(head)} values in line {number}", got, "check the line")
        name = _bare(row[clip].strip())
        if name in found:
            raise InputError(path, "each clip once", f"{name!r} again in line {number}", "check it")
        found[name] = row[cohort].strip()
    return found


def _bare(name: str) -> str:
    """A clip's name without the suffix of results."""
    suffix = next((s for s in SUFFIXES if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


def _texts(path: Path) -> dict[str, str]:
    """Cohorts by clip, of a TOML or JSON file."""
    found: dict[str, str] = {}
    for name, value in _read_settings(path).items():
        if not isinstance(value, str):
            got = f"{value!r} for {name!r}"
            raise InputError(path, "a text for each clip, its cohort", got, "check it")
        if _bare(name) in found:
            raise InputError(path, "each clip once", f"{_bare(name)!r} again", "check it")
        found[_bare(name)] = value
    return found


def read_limits(path: str | Path) -> dict[str, Any]:
    """Reads limits from a TOML file: their names, with - or _, as keys.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = Path(path)
    return {key.replace("_", "-"): value for key, value in _read_settings(path).items()}


def _read_settings(path: Path) -> dict[str, Any]:
    text = _text(path)
    try:
        found = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # both formats' errors are ValueErrors
        kind = path.suffix[1:].upper() or "TOML"
        raise InputError(path, f"a {kind} file", f"another ({error})", "check it") from error
    if not isinstance(found, dict):
        raise InputError(path, "names and values", os.fspath(path.name), "check it")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        got = "nothing there" if not path.exists() else error.strerror or str(error)
        raise InputError(path, "a text file", got, "check the path") from error
    except UnicodeDecodeError as error:
        got = f"byte {error.object[error.start]} at {error.start}, which is no text"
        raise InputError(path, "a text file", got, "save it as UTF-8") from error
