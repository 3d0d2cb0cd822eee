"""NPZ files: one array for each field of a table, which `numpy.load` reads without pickle."""

import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import InputError
from ._about import Stored, about_text, read_about
from ._arrays import check_size, to_table
from ._atomic import OutputFile, output_errors
from ._rows import FIELDS

_ABOUT = "about"
_EXTRAS = ("fhog", "aligned")
_LONGEST = 2**24  # bytes of `about`
_AGAIN = "write or copy the file again"
# What `zipfile` and NumPy raise for damage, encryption, and names that are no text.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(RuntimeError, ValueError, ArithmeticError),
)
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # as `numpy.savez` and `savez_compressed`
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def write_npz(path: str | Path, stored: Stored) -> Path:
    """Writes a table as NPZ, every array as it is.

    Args:
        path: the file, replaced only when the new one is complete.
        stored: the rows and what belongs to all of them.
    Returns:
        The path.
    Raises:
        OutputError: it cannot be written; what was there before is untouched.
    """
    units = stored.about.units
    arrays = {name: getattr(stored.table, name) for name in FIELDS}
    extras = {"fhog": stored.fhog, "aligned": stored.aligned}
    arrays |= {name: values for name, values in extras.items() if values is not None}
    # Which columns the action units are, for those who read the file with NumPy alone.
    arrays["intensity_names"] = np.array(units.intensity, np.str_)
    arrays["presence_names"] = np.array(units.presence, np.str_)
    arrays[_ABOUT] = np.array(about_text(stored.about))
    file = OutputFile(Path(path))
    try:
        # Not `numpy.savez`, which needs a file that can be read, too.
        with output_errors(Path(path)), zipfile.ZipFile(file.stream, "w") as archive:
            for name, values in arrays.items():
                # A `ZipInfo` of its own has no time of day: equal results are equal files.
                entry = zipfile.ZipInfo(f"{name}.npy")
                with archive.open(entry, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, np.asarray(values), allow_pickle=False)
        return file.commit()
    except BaseException:
        file.discard()
        raise


def read_npz(path: Path) -> Stored:
    """Reads an NPZ file of `write_npz`.

    Args:
        path: the file.
    Raises:
        InputError: it is damaged, or holds something else; nothing of it is run.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(path, archive)
    except InputError:
        raise
    except _DAMAGE as error:
        got = f"a damaged one ({error or type(error).__name__})"
        raise InputError(path, "a whole NPZ file", got, _AGAIN) from error


def _read(path: Path, archive: zipfile.ZipFile) -> Stored:
    entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if _ABOUT not in entries:
        named = ", ".join(sorted(entries)[:5]) or "nothing"
        expected = f"an NPZ file of jaxface.write_npz, with an entry {_ABOUT!r}"
        raise InputError(path, expected, f"one with {named}", "check which file it is")
    wanted = [entries[name] for name in (_ABOUT, *FIELDS, *_EXTRAS) if name in entries]
    check_size(path, sum(info.file_size for info in wanted))
    if entries[_ABOUT].file_size > _LONGEST:
        got = f"one of {entries[_ABOUT].file_size} bytes"
        raise InputError(path, f"a short entry {_ABOUT!r}", got, _AGAIN)
    text = _array(path, archive, entries[_ABOUT])
    if text.dtype.kind != "U" or text.ndim:
        raise InputError(path, f"a text in {_ABOUT!r}", f"{text.dtype} {text.shape}", _AGAIN)
    about = read_about(path, str(text))
    arrays = {name: _array(path, archive, entries[name]) for name in FIELDS if name in entries}
    table = to_table(path, arrays, about.kind, about.units)
    fhog, aligned = (
        _array(path, archive, entries[name]) if name in entries else None for name in _EXTRAS
    )
    rows = len(table)
    if fhog is not None and (fhog.dtype.kind != "f" or fhog.shape != (rows, 4464)):
        raise InputError(path, f"floats in 'fhog', {rows} by 4464", _what(fhog), _AGAIN)
    if aligned is not None and not _are_pictures(aligned, rows):
        raise InputError(path, f"{rows} square RGB pictures in 'aligned'", _what(aligned), _AGAIN)
    return Stored(table, about, fhog, aligned)


def _array(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """One entry, whose header is compared with its size before anything is laid out in memory."""
    if entry.compress_type not in _PACKED:
        expected = f"entry {entry.filename!r} as NumPy packs it"
        raise InputError(path, expected, f"method {entry.compress_type}", _AGAIN)
    with archive.open(entry) as stream:
        shape, backwards, dtype = _header(path, stream, entry)
        # Python's integers, which do not overflow.
        size = dtype.itemsize
        for side in shape:
            size *= side
        left = entry.file_size - stream.tell()
        if size != left:
            expected = f"{left} bytes in entry {entry.filename!r}"
            raise InputError(path, expected, f"a header that claims {size}", _AGAIN)
        data = bytearray(stream.read())
    values = np.ndarray(shape, dtype, data, order="F" if backwards else "C")
    return np.asarray(values, dtype.newbyteorder("="))


def _header(
    path: Path, stream: IO[bytes] | zipfile.ZipExtFile, entry: zipfile.ZipInfo
) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the first axis runs fastest, and type of an entry's array."""
    try:
        shape, backwards, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
    except (ValueError, LookupError, SyntaxError, RecursionError) as error:
        expected = f"an array in entry {entry.filename!r}"
        raise InputError(path, expected, f"something else ({error})", _AGAIN) from error
    if dtype.hasobject:
        expected = f"numbers in entry {entry.filename!r}"
        got = "a pickle, which could run any program and is not read"
        raise InputError(path, expected, got, "check where the file is from")
    return shape, backwards, dtype


def _are_pictures(values: np.ndarray, rows: int) -> bool:
    shape = values.shape
    square = values.ndim == 4 and shape[0] == rows and shape[1] == shape[2] and shape[3] == 3
    return square and values.dtype == np.uint8


def _what(values: np.ndarray) -> str:
    return f"{values.dtype} of shape {values.shape}"
