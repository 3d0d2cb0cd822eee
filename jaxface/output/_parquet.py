"""Parquet files: OpenFace's columns at full precision. pyarrow is the extra `jaxface[parquet]`."""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ._about import About, Stored, about_text, read_about
from ._arrays import check_kind_of, check_size, to_table
from ._atomic import OutputFile, output_errors
from ._columns import KEYS, CsvKind, Group, column_groups, layout_of, names_of, usual_type
from ._read import check_names, layout_from, true_names

if TYPE_CHECKING:
    import pyarrow as pa

_ABOUT = b"jaxface"  # key of the file's metadata
_EMPTY = b"jaxface.empty"  # types of the fields without columns
_EXTRAS = ("fhog", "aligned")
_ROWS = 16384  # of a row group, 50 MB
_INSTALL = "pip install 'jaxface[parquet]'"
_AGAIN = "write or copy the file again"


def _check_installed() -> None:
    """Says how to install what Parquet files need."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Parquet files need pyarrow, which is not installed: run `{_INSTALL}`, or choose "
            "CSV or NPZ"
        ) from error


def write_parquet(path: str | Path, stored: Stored) -> Path:
    """Writes a table as Parquet, every column in the type of its array.

    Of images there are `frame`, `timestamp` and `success` too, which OpenFace's CSV leaves out.

    Args:
        path: the file, replaced only when the new one is complete.
        stored: the rows and what belongs to all of them.
    Returns:
        The path.
    Raises:
        OutputError: it cannot be written; what was there before is untouched.
        ModuleNotFoundError: pyarrow is missing.
    """
    _check_installed()
    import pyarrow as pa
    import pyarrow.parquet as pq

    table, about = stored.table, stored.about
    layout = dataclasses.replace(layout_of(table, about.units), keys=KEYS)
    groups = column_groups(about.kind, layout)
    columns = dict(_columns(stored, groups))
    types = {name: _type(values) for name, values in columns.items()}
    empty = {g.field: getattr(table, g.field).dtype.str for g in groups if not g.names}
    metadata = {_ABOUT: about_text(about), _EMPTY: json.dumps(empty)}
    schema = pa.schema(list(types.items()), metadata=metadata)
    file = OutputFile(Path(path))
    try:
        with output_errors(Path(path)):
            # Of landmarks no two values are the same: a dictionary of them saves nothing. The
            # ranges of 700 columns, which nobody looks for rows by, would be 40 kB.
            writer = pq.ParquetWriter(
                file.stream,
                schema,
                compression="zstd",
                use_dictionary=False,
                write_statistics=False,
                write_page_checksum=True,
            )
            with writer:
                for start in range(0, len(table), _ROWS):
                    some = slice(start, start + _ROWS)
                    arrays = [_to_arrow(values[some], types[n]) for n, values in columns.items()]
                    writer.write_table(pa.table(arrays, schema=schema))
        return file.commit()
    except BaseException:
        file.discard()
        raise


def _columns(stored: Stored, groups: tuple[Group, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Names and values of all columns; those of the extras have several values a row."""
    rows = len(stored.table)
    for group in groups:
        values = getattr(stored.table, group.field)
        if not group.names:
            continue
        if group.planar:
            values = np.swapaxes(values, 1, 2)
        for name, index in zip(group.names, np.ndindex(values.shape[1:]), strict=True):
            yield name, values[(slice(None), *index)]
    for name in _EXTRAS:
        values = getattr(stored, name)
        if values is not None:
            yield name, values.reshape(rows, math.prod(values.shape[1:]))


def _type(values: np.ndarray) -> "pa.DataType":
    import pyarrow as pa

    kind = pa.from_numpy_dtype(values.dtype)
    return kind if values.ndim == 1 else pa.list_(kind, values.shape[1])


def _to_arrow(values: np.ndarray, kind: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, type=kind)


def read_parquet(path: Path) -> Stored:
    """Reads a Parquet file of `write_parquet`, or of any program, with OpenFace's columns.

    Args:
        path: the file.
    Returns:
        Its table. Where jaxface has not written the file, the kind is told by the columns, and
        their types may be any that hold the same numbers.
    Raises:
        InputError: it is damaged, or holds something else, or pyarrow is missing.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise InputError(path, "pyarrow to read Parquet", "none installed", _INSTALL) from error
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            names = true_names(list(schema.names))
            _check_columns(path, names, schema.types)
            check_size(path, file.metadata.num_rows * sum(map(_row_bytes, schema.types)))
            # `rename_columns` drops the metadata.
            found = file.read().rename_columns(names).replace_schema_metadata(schema.metadata)
    except InputError:
        raise
    except (OSError, pa.ArrowException, ValueError, MemoryError) as error:
        got = f"a damaged one ({' '.join(str(error).split())[:200]})"
        raise InputError(path, "a whole Parquet file", got, _AGAIN) from error
    return _to_stored(path, found)


def _row_bytes(kind: "pa.DataType") -> int:
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind):
        return kind.list_size * _row_bytes(kind.value_type)
    return max(1, kind.bit_width // 8)


def _check_columns(path: Path, names: list[str], types: "list[pa.DataType]") -> None:
    """Refuses columns of other names than OpenFace's, and such as hold no numbers."""
    import pyarrow as pa

    plain = [name for name in names if name not in _EXTRAS]
    check_names(path, plain, names_of(_groups(plain)), "the table")
    for name, kind in zip(names, types, strict=True):
        lists = pa.types.is_fixed_size_list(kind)
        base = kind.value_type if lists else kind
        numbers = pa.types.is_integer(base) or pa.types.is_floating(base)
        if lists != (name in _EXTRAS) or not (numbers or pa.types.is_boolean(base)):
            expected = "lists of numbers" if name in _EXTRAS else "numbers"
            raise InputError(path, f"{expected} in column {name!r}", str(kind), _AGAIN)


def _groups(names: list[str], kind: CsvKind | None = None) -> tuple[Group, ...]:
    """The groups of columns that names seem to be of."""
    image = "face" in names
    keys = tuple(key for key in KEYS if ("face" if image and key == "face_id" else key) in names)
    if not image and not set(KEYS) - {"face_id"} <= set(keys):
        keys = KEYS  # what is missing is then named
    if image and "confidence" not in keys:
        keys = (*keys, "confidence")
    layout = dataclasses.replace(layout_from(names), keys=keys)
    return column_groups(kind or ("image" if image else "multi_face"), layout)


def _to_stored(path: Path, found: "pa.Table") -> Stored:
    text = (found.schema.metadata or {}).get(_ABOUT)
    about = None if text is None else read_about(path, text.decode("utf-8", "replace"))
    names = [name for name in found.column_names if name not in _EXTRAS]
    groups = _groups(names)
    for name in found.column_names:
        if found[name].null_count:
            raise InputError(path, "a value in every row", f"none in column {name!r}", _AGAIN)
    arrays = {group.field: _field(path, found, group) for group in groups}
    for name, kind in _empty_types(path, found).items():
        if name in arrays and not any(g.names for g in groups if g.field == name):
            arrays[name] = arrays[name].astype(kind)
    if about is None:
        units = layout_from(names).units
        about = About(_kind(names, arrays), units)
    table = to_table(path, arrays, about.kind, about.units)
    fhog, aligned = (_extra(found, name) for name in _EXTRAS)
    if aligned is not None:
        side = math.isqrt(aligned.shape[1] // 3)
        if aligned.dtype != np.uint8 or 3 * side * side != aligned.shape[1]:
            got = f"{aligned.shape[1]} values of {aligned.dtype}"
            raise InputError(path, "square RGB pictures in column 'aligned'", got, _AGAIN)
        aligned = aligned.reshape(-1, side, side, 3)
    if fhog is not None and (fhog.dtype.kind != "f" or fhog.shape[1] != 4464):
        got = f"{fhog.shape[1]} values of {fhog.dtype}"
        raise InputError(path, "4464 floats in column 'fhog'", got, _AGAIN)
    return Stored(table, about, fhog, aligned)


def _empty_types(path: Path, found: "pa.Table") -> dict[str, np.dtype]:
    """Types of the fields that had no columns, where jaxface has written the file."""
    text = (found.schema.metadata or {}).get(_EMPTY, b"{}")
    try:
        types = {str(name): np.dtype(kind) for name, kind in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError, SyntaxError, RecursionError) as error:
        got = repr(text[:60])
        raise InputError(path, "types of fields without columns", got, _AGAIN) from error
    for name, kind in types.items():
        check_kind_of(path, name, kind)
    return types


def _kind(names: list[str], arrays: dict[str, np.ndarray]) -> CsvKind:
    """Whose rows they are, where nothing says so."""
    if "face" in names:
        return "image"
    again = len(np.unique(arrays["frame"])) < len(arrays["frame"])
    return "multi_face" if again or arrays["face_id"].any() else "video"


def _field(path: Path, found: "pa.Table", group: Group) -> np.ndarray:
    """The array that some columns hold; where there are none, of no width or filled."""
    rows, usual = found.num_rows, usual_type(group.field)
    if not group.names:
        return np.full((rows, *group.shape), group.fill).astype(usual)
    columns = [found[name].to_numpy() for name in group.names]
    values = np.stack(columns, axis=1) if group.shape else np.array(columns[0])
    if usual.kind in "fb" and values.dtype.kind in "iub" and values.dtype.kind != usual.kind:
        # As programs make them that do not know what the numbers are.
        exact = values.astype(usual)
        if not np.array_equal(exact.astype(values.dtype), values):
            got = f"values of {values.dtype}"
            raise InputError(path, f"values of {usual} in {group.field!r}", got, _AGAIN)
        values = exact
    check_kind_of(path, group.field, values.dtype)
    values = values.reshape(rows, *group.shape[::-1] if group.planar else group.shape)
    return np.ascontiguousarray(np.swapaxes(values, 1, 2) if group.planar else values)


def _extra(found: "pa.Table", name: str) -> np.ndarray | None:
    if name not in found.column_names:
        return None
    column = found[name].combine_chunks()
    if not found.num_rows:
        return np.zeros((0, column.type.list_size), column.type.value_type.to_pandas_dtype())
    # A copy, as of the others: Arrow's own memory must not be changed.
    return np.array(column.flatten().to_numpy()).reshape(found.num_rows, -1)
