"""Readers of OpenFace's two matrix encodings, checked at every step.

A matrix is rows, cols, an element type, then rows * cols elements in row-major order: little-endian
binary, or text with `#` comment lines (specification 02, A.3 and A.4).
"""

import struct
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from .._store import ModelFileError

_TYPES = {
    0: np.dtype(np.uint8),
    4: np.dtype("<i4"),
    5: np.dtype("<f4"),
    6: np.dtype("<f8"),
}
_LARGEST = float(np.finfo(np.float32).max)  # models are float32, some of their files are not
_ADVICE = "Fetch the file again from OpenFace 2.2.0, then repeat the import."

Array = np.ndarray


def fail(path: Path, problem: str) -> ModelFileError:
    """The error for a file that cannot be used."""
    return ModelFileError(f"{path}: {problem}. {_ADVICE}")


def check_finite(path: Path, values: Shaped[Array, "..."], what: str) -> Shaped[Array, "..."]:
    """Returns `values`; raises ModelFileError when one of them is NaN, or infinite in float32."""
    if not (np.abs(values) <= _LARGEST).all():
        raise fail(path, f"{what} holds numbers that are not finite")
    return values


class BinaryReader:
    """Reads a binary file from front to back; every error names file, offset and field."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self._data = data
        self._offset = 0

    def _take(self, size: int, what: str) -> int:
        start = self._offset
        left = len(self._data) - start
        if size > left:
            raise fail(
                self.path,
                f"ends too early: {what} at byte {start} needs {size} bytes, {left} are left",
            )
        self._offset = start + size
        return start

    def int32(self, what: str) -> int:
        """The next int32."""
        return struct.unpack_from("<i", self._data, self._take(4, what))[0]

    def count(self, what: str, *, most: int = 100_000) -> int:
        """The next int32, which must lie in 0..most."""
        value = self.int32(what)
        if not 0 <= value <= most:
            raise fail(self.path, f"{what}: expected 0 to {most}, found {value}")
        return value

    def expect(self, value: int, what: str) -> None:
        """Reads an int32 that must equal `value`."""
        found = self.int32(what)
        if found != value:
            raise fail(self.path, f"{what}: expected {value}, found {found}")

    def number(self, what: str) -> float:
        """The next float64."""
        value = struct.unpack_from("<d", self._data, self._take(8, what))[0]
        if not abs(value) <= _LARGEST:  # NaN neither
            raise fail(self.path, f"{what} is not finite")
        return value

    def array(self, dtype: np.dtype, size: int, what: str) -> Shaped[Array, " size"]:
        """The next `size` elements without a header."""
        start = self._take(dtype.itemsize * size, what)
        values = np.frombuffer(self._data, dtype, size, start)
        return check_finite(self.path, values, what)

    def float32s(self, size: int, what: str) -> Shaped[Array, " size"]:
        """The next `size` float32 without a header."""
        return self.array(_TYPES[5], size, what)

    def matrix(
        self, what: str, *, types: tuple[int, ...], shape: tuple[int | None, int | None]
    ) -> Shaped[Array, "rows cols"]:
        """The next matrix with its header.

        Args:
            types: element types allowed (0 uint8, 4 int32, 5 float32, 6 float64).
            shape: rows and columns expected; None for any.
        """
        rows, cols, kind = struct.unpack_from("<3i", self._data, self._take(12, what))
        _check_header(self.path, what, (rows, cols, kind), types, shape)
        return self.array(_TYPES[kind], rows * cols, what).reshape(rows, cols)

    def finish(self) -> None:
        """Raises ModelFileError when bytes are left."""
        left = len(self._data) - self._offset
        if left:
            raise fail(self.path, f"{left} bytes are left over after byte {self._offset}")


class TextReader:
    """Reads a text file of whitespace-separated numbers; lines that start with # are comments."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self._next = 0
        try:
            lines = data.decode("ascii").splitlines()
            tokens = " ".join(line for line in lines if not line.startswith("#")).split()
            self._values = np.array(tokens, np.float64)
        except ValueError as error:
            raise fail(path, f"expected a text file of numbers ({error})") from error

    def _take(self, size: int, what: str) -> Shaped[Array, " size"]:
        left = self._values.size - self._next
        if size > left:
            raise fail(self.path, f"ends too early: {what} needs {size} numbers, {left} are left")
        self._next += size
        values = self._values[self._next - size : self._next]
        return check_finite(self.path, values, what)

    def number(self, what: str) -> float:
        """The next number."""
        return float(self._take(1, what)[0])

    def numbers(self, size: int, what: str) -> Shaped[Array, " size"]:
        """The next `size` numbers."""
        return self._take(size, what)

    def rest(self, what: str) -> Shaped[Array, " size"]:
        """All numbers that are left."""
        return self._take(self._values.size - self._next, what)

    def count(self, what: str, *, most: int = 100_000) -> int:
        """The next number, which must be an integer in 0..most."""
        value = self.number(what)
        if value != int(value) or not 0 <= value <= most:
            raise fail(self.path, f"{what}: expected an integer from 0 to {most}, found {value:g}")
        return int(value)

    def expect(self, value: int, what: str) -> None:
        """Reads a number that must equal `value`."""
        found = self.number(what)
        if found != value:
            raise fail(self.path, f"{what}: expected {value}, found {found:g}")

    def matrix(
        self, what: str, *, types: tuple[int, ...], shape: tuple[int | None, int | None]
    ) -> Shaped[Array, "rows cols"]:
        """The next matrix with its header; arguments as in `BinaryReader.matrix`."""
        header = self.count(what), self.count(what), self.count(what)
        _check_header(self.path, what, header, types, shape)
        rows, cols, kind = header
        values = self._take(rows * cols, what)
        with np.errstate(invalid="ignore", over="ignore"):  # of what is no integer, see below
            cast = values.astype(_TYPES[kind])
        if kind in (0, 4) and (cast != values).any():
            raise fail(self.path, f"{what}: expected integers")
        return cast.reshape(rows, cols)

    def finish(self) -> None:
        """Raises ModelFileError when numbers are left."""
        left = self._values.size - self._next
        if left:
            raise fail(self.path, f"{left} numbers are left over after the last field")


Reader = BinaryReader | TextReader


def _check_header(
    path: Path,
    what: str,
    header: tuple[int, int, int],
    types: tuple[int, ...],
    shape: tuple[int | None, int | None],
) -> None:
    rows, cols, kind = header
    wanted = [size if size is not None else "any" for size in shape]
    fits = all(size in (None, n) for size, n in zip(shape, (rows, cols), strict=True))
    if not fits or min(rows, cols) < 0 or rows * cols > 100_000_000:
        raise fail(path, f"{what}: expected {wanted[0]} x {wanted[1]}, found {rows} x {cols}")
    if kind not in types:
        raise fail(path, f"{what}: expected element type {types}, found {kind}")
