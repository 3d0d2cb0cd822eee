"""Trees of arrays in files that are mapped into memory: only what is used is ever read.

A file holds a magic number, the length of a header, the header in JSON, which describes the tree
and places the arrays, the arrays, each on a multiple of 64 bytes so that JAX takes it where it
lies, and a checksum. It is written and read by one version of the package: what it is found by
must name that.
"""

import contextlib
import dataclasses
import importlib
import json
import math
import mmap
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from .._files import AtomicFile
from ..fit import Origin

_MAGIC = b"jaxface\x01"
_ALIGNMENT = 64  # bytes; JAX copies arrays that begin elsewhere
_PIECE = 1 << 20  # bytes that are checked at once
_PACKAGE = __name__.partition(".")[0]

_ToArray = Callable[[np.ndarray], Any]


class DamagedFileError(ValueError):
    """A file is not what was written."""


def write_tree(path: Path, tree: Any) -> None:
    """Writes a tree of arrays; the file appears under its name when it is complete.

    Args:
        path: in a folder that exists.
        tree: arrays and plain values in dataclasses of this package, tuples and dicts.
    Raises:
        TypeError: it holds something else, such as a class of the user's.
        OSError: the file cannot be written; an older one stays.
    """
    arrays: list[np.ndarray] = []
    described = _describe(tree, arrays)
    places, offset = [], 0
    for array in arrays:
        places.append([array.dtype.str, array.shape, offset])
        offset = _aligned(offset + array.nbytes)
    header = json.dumps({"tree": described, "arrays": places, "size": offset}).encode()
    header += b" " * (_aligned(start := 16 + len(header)) - start)
    with AtomicFile(path) as file:
        checked = _Checked(file.stream)
        checked.write(_MAGIC + len(header).to_bytes(8, "little") + header)
        for array in arrays:
            checked.write(array.reshape(-1).view(np.uint8).data)
            checked.write(bytes(_aligned(array.nbytes) - array.nbytes))
        file.stream.write(checked.sum.to_bytes(4, "little"))
        file.commit()


def read_tree(path: Path) -> Any:
    """Maps a file that `write_tree` has written.

    The file is checked from its first to its last byte, by way of a small buffer, so that the
    arrays take no memory until they are used. They stay readable after the file was replaced.

    Returns:
        The tree. Its arrays are JAX's, which lie in the mapped file where the default device is a
        CPU; inside an `Origin` they are NumPy's, and read-only.
    Raises:
        OSError: there is no such file, or it cannot be read.
        DamagedFileError: its bytes are not those that were written.
    """
    with path.open("rb") as file:
        _check(file)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    length = int.from_bytes(mapped[8:16], "little")
    header = json.loads(mapped[16 : 16 + length])
    body = np.frombuffer(mapped, np.uint8)[16 + length :]
    arrays = [_array(body, *place) for place in header["arrays"]]
    return _Reader(arrays).build(header["tree"], jax.device_put)


class _Checked:
    """Writes to a stream, and sums up what it wrote."""

    def __init__(self, stream: IO[bytes]):
        self._stream, self.sum = stream, 0

    def write(self, data: Any) -> None:
        self.sum = zlib.crc32(data, self.sum)
        self._stream.write(data)


def _check(file: IO[bytes]) -> None:
    """Compares a file with the checksum at its end."""
    left = file.seek(0, 2) - 4
    file.seek(0)
    if left < 16 or file.read(8) != _MAGIC:
        raise DamagedFileError(f"{file.name}: is no file of this kind, or a part of one")
    found, left = zlib.crc32(_MAGIC), left - 8
    buffer = memoryview(bytearray(_PIECE))
    while left > 0:
        count = file.readinto(buffer[: min(left, _PIECE)])  # pyright: ignore[reportAttributeAccessIssue]
        if not count:
            break
        found, left = zlib.crc32(buffer[:count], found), left - count
    if file.read() != found.to_bytes(4, "little"):
        raise DamagedFileError(f"{file.name}: is damaged")


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _array(body: np.ndarray, kind: str, shape: list[int], offset: int) -> np.ndarray:
    dtype = np.dtype(kind)
    size = dtype.itemsize * math.prod(shape)
    return body[offset : offset + size].view(dtype).reshape(shape)


def _describe(value: Any, arrays: list[np.ndarray]) -> Any:
    """A tree in JSON; its arrays are put in a list."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, jax.Array | np.ndarray):
        arrays.append(np.asarray(value, order="C"))
        return {"array": len(arrays) - 1}
    if type(value) is tuple:
        return [_describe(item, arrays) for item in value]
    if type(value) is dict:
        pairs = value.items()
        return {"dict": [[_describe(part, arrays) for part in pair] for pair in pairs]}
    kind = type(value)
    if not dataclasses.is_dataclass(kind) or kind.__module__.partition(".")[0] != _PACKAGE:
        raise TypeError(f"cannot keep a {kind.__module__}.{kind.__qualname__} in a mapped file")
    fields = {f.name: _describe(getattr(value, f.name), arrays) for f in dataclasses.fields(value)}
    return {"class": [kind.__module__, kind.__qualname__], "fields": fields}


class _Reader:
    """The inverse of `_describe`."""

    def __init__(self, arrays: list[np.ndarray]):
        self._arrays = arrays

    def build(self, described: Any, convert: _ToArray) -> Any:
        if isinstance(described, list):
            return tuple(self.build(item, convert) for item in described)
        if not isinstance(described, dict):
            return described
        if "array" in described:
            return convert(self._arrays[described["array"]])
        if "dict" in described:
            return dict(self._pairs(described["dict"], convert))
        module, name = described["class"]
        if module.partition(".")[0] != _PACKAGE:
            raise DamagedFileError(f"{module}: is no module of {_PACKAGE}")
        kind = getattr(importlib.import_module(module), name)
        if kind is Origin:  # what a model was prepared from lies on the host
            convert = _on_host
        # Not by its constructor: what it was made of has been checked before it was written.
        made = object.__new__(kind)
        for field, value in described["fields"].items():
            object.__setattr__(made, field, self.build(value, convert))
        return made

    def _pairs(self, pairs: list[Any], convert: _ToArray) -> Iterator[tuple[Any, Any]]:
        for key, value in pairs:
            yield self.build(key, convert), self.build(value, convert)


def _on_host(array: np.ndarray) -> np.ndarray:
    return array


def mark_used(path: Path) -> None:
    """Makes a file the one that was used last, as `drop_oldest` sees it."""
    with contextlib.suppress(OSError):
        os.utime(path)


def drop_oldest(folder: Path, pattern: str, most: int) -> None:
    """Deletes all of some files but those that were used last."""
    with contextlib.suppress(OSError):
        files = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime_ns)
        for path in files[:-most]:
            path.unlink(missing_ok=True)
