"""Reads CSV files, OpenFace's and our own, back into tables."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..errors import InputError
from ._columns import KEYS, CsvKind, Group, Layout, column_groups, from_values, names_of
from ._rows import Table, UnitNames

_COPY = "write or copy the file again"
_WHOLE = "write it again with whole groups of columns, in OpenFace's order"
_WITHOUT_FACES = tuple(key for key in KEYS if key != "face_id")  # OpenFace up to 2.0
_LARGEST = 2**53  # beyond it a float64 is no integer for sure
_INTEGERS = ("frame", "face_id", "face", "success")


def read_csv(path: str | Path) -> tuple[Table, CsvKind, UnitNames]:
    """Reads a CSV that OpenFace or `write_csv` has written, of any number of landmarks, shape
    coefficients and action units.

    Groups of columns that OpenFace leaves out on request (gaze with the eyes, pose, landmarks in
    two or three dimensions, parameters of the shape, action units) may be missing, and so may what
    older versions did not write: `face_id`, the angles of gaze, the landmarks of the eyes.

    Args:
        path: the file.
    Returns:
        The rows; whose CSV it is; its action units. `write_csv` writes from these the same bytes,
        if OpenFace 2.2.0 or `write_csv` wrote the file. What has no columns has no width, see
        `Table`; without a column `frame` is 1, `face_id` and `timestamp` are 0, `success` is true.
    Raises:
        InputError: the file is missing, damaged, or no such CSV; it names line and column.
    Reference:
        Specification 03, E.4.
    """
    path = Path(path)
    header, *lines = _lines(path)
    names = true_names(header.split(","))
    image = names[0] == "face"
    layout = layout_from(names)
    groups = column_groups("image" if image else "video", layout)
    check_names(path, names, names_of(groups), "the header (line 1)")
    cells = [_cells(path, number, line, len(names)) for number, line in enumerate(lines, 2)]
    table = from_values(_numbers(path, cells, names), groups)
    kind: CsvKind = "image" if image else _sequence_kind(cells, table, groups)
    return table, kind, layout.units


def _lines(path: Path) -> list[str]:
    """Lines of a text file that ends with a whole one; at least one."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        reason = "nothing there" if not path.exists() else error.strerror or str(error)
        raise InputError(path, "a CSV file", reason, "check the path") from error
    except UnicodeDecodeError as error:
        got = f"byte {error.object[error.start]} at {error.start}, which is no text"
        raise InputError(path, "a CSV file", got, _COPY) from error
    if not text:
        raise InputError(path, "a CSV file with a header", "an empty file (0 bytes)", _COPY)
    lines = text.replace("\r\n", "\n").split("\n")
    if lines.pop():
        got = "the end of the file within the line"
        raise InputError(path, f"a whole line {len(lines) + 1}", got, _COPY)
    return lines


def true_names(names: list[str]) -> list[str]:
    """Names of columns without blanks around them.

    OpenFace had a "gaze_2_z" for "gaze_1_z" until September 2016.
    """
    stripped = [name.strip() for name in names]
    if "gaze_1_z" in stripped:
        return stripped
    return ["gaze_1_z" if name == "gaze_2_z" else name for name in stripped]


def layout_from(names: list[str]) -> Layout:
    """The columns that names seem to be of; `check_names` says whether they are."""

    def count(prefix: str, axes: str) -> int:
        numbered = re.compile(rf"{prefix}[{axes}]_(\d{{1,4}})")
        found = [int(match[1]) for name in names if (match := numbered.fullmatch(name))]
        return max(found, default=-1) + 1

    def some(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in names)

    def units(ending: str) -> tuple[str, ...]:
        found = (name for name in names if name.startswith("AU") and name.endswith(ending))
        return tuple(name.removesuffix(ending) for name in found)

    numbered = re.compile(r"p_(\d{1,4})")
    modes = [int(match[1]) for name in names if (match := numbered.fullmatch(name))]
    eyes = max(count("eye_lmk_", "xy"), count("eye_lmk_", "XYZ"))  # OpenFace gives both or none
    return Layout(
        keys=None if "face" in names or "face_id" in names else _WITHOUT_FACES,
        gaze=some("gaze_") or eyes > 0,
        gaze_angle=some("gaze_angle"),
        eye_landmarks=eyes,
        eye_landmarks_3d=eyes,
        head_pose=some("pose_"),
        landmarks=count("", "xy"),
        landmarks_3d=count("", "XYZ"),
        parameters=some("p_"),
        modes=max(modes, default=-1) + 1,
        units=UnitNames(units("_r"), units("_c")),
    )


def check_names(path: Path, names: list[str], expected: list[str], head: str) -> None:
    """Refuses columns that are not those that they should be.

    Args:
        path: the file.
        names: that it has.
        expected: that it should have.
        head: where they stand in it, for the message.
    """
    for number, name in enumerate(expected, 1):
        got = repr(names[number - 1]) if number <= len(names) else "the end of the line"
        if got != repr(name):
            raise InputError(path, f"{name!r} as column {number} of {head}", got, _WHOLE)
    if len(names) > len(expected):
        where = f"{head} to end after column {len(expected)}, {expected[-1]!r}"
        raise InputError(path, where, repr(names[len(expected)]), "remove the columns behind it")


def _cells(path: Path, number: int, line: str, count: int) -> list[str]:
    cells = line.split(",")
    if len(cells) != count:
        raise InputError(path, f"{count} values in line {number}", str(len(cells)), _COPY)
    return cells


def _numbers(
    path: Path, cells: list[list[str]], names: list[str]
) -> Float[np.ndarray, "n columns"]:
    """The cells as numbers."""
    whole = [i for i, name in enumerate(names) if name in _INTEGERS]
    values = np.zeros((len(cells), len(names)))
    for row, line in enumerate(cells):
        try:
            values[row] = [float(cell) for cell in line]
        except ValueError:
            column = next(i for i, cell in enumerate(line) if not _is_number(cell))
            raise _wrong_cell(path, "a number", row, names[column], line[column]) from None
        for column in whole:
            value = float(values[row, column])
            if not value.is_integer() or abs(value) > _LARGEST:
                raise _wrong_cell(path, "an integer", row, names[column], line[column])
    if "success" in names:
        column = names.index("success")
        wrong = np.flatnonzero(~np.isin(values[:, column], (0, 1)))
        if len(wrong):
            raise _wrong_cell(path, "0 or 1", int(wrong[0]), "success", cells[wrong[0]][column])
    return values


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _wrong_cell(path: Path, expected: str, row: int, name: str, cell: str) -> InputError:
    where = f"{expected} in line {row + 2}, column {name!r}"
    return InputError(path, where, repr(cell.strip()), _COPY)


def _sequence_kind(cells: list[list[str]], table: Table, groups: tuple[Group, ...]) -> CsvKind:
    """Whether one face was followed or several.

    FeatureExtraction, which follows one, prints the presence of action units with two decimals.
    """
    if not any(group.names for group in groups if group.field == "face_id"):
        return "video"
    if table.au_presence.shape[1] and len(cells):
        names = names_of(groups)
        start = len(names) - table.au_presence.shape[1]
        return "video" if len(cells[0][start].strip().partition(".")[2]) == 2 else "multi_face"
    again = len(np.unique(table.frame)) < len(table)
    return "multi_face" if again or table.face_id.any() else "video"
