"""Where the data of a picture, or of a film, ends: whether the file is whole."""

import re
import struct
from pathlib import Path

from ._signatures import transport_step

_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")  # in coded data: no stuffed byte, no restart
_ALONE = {0x01, 0xD8, *range(0xD0, 0xD8)}  # markers without a length
_END, _SCAN = 0xD9, 0xDA
_SLACK = 8  # bytes that may be missing of a film's file: padding that some programs count and omit
_PES = re.compile(rb"\0\0\x01[\xbd-\xef]", re.DOTALL)  # starts of a program stream's packets
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def picture_end(data: bytes) -> int | None:
    """Finds the end of a JPEG or PNG.

    Cameras append films, thumbnails and padding: what stands behind the end is no part of it.

    Args:
        data: the file.
    Returns:
        The number of bytes up to the end; None if the file ends before. That of any other kind
        of file is its own length.
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg_end(data)
    return _png_end(data) if data.startswith(b"\x89PNG") else len(data)


def _jpeg_end(data: bytes) -> int | None:
    at = 2
    while (at := data.find(b"\xff", at)) >= 0:
        while data[at : at + 1] == b"\xff":  # a marker may have many
            at += 1
        if at >= len(data):
            return None
        marker, at = data[at], at + 1
        if marker == _END:
            return at
        if marker in _ALONE or marker == 0:
            continue
        at += int.from_bytes(data[at : at + 2], "big")
        if marker == _SCAN:
            found = _MARKER.search(data, at)
            if found is None:
                return None
            at = found.start()
    return None


def _png_end(data: bytes) -> int | None:
    at = 8
    while at + 12 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        at += length + 12
        if name == b"IEND":
            return at if at <= len(data) else None
    return None


def count_pictures(data: bytes) -> int:
    """How many pictures an animated PNG, WebP or GIF has; 1 for others. Two may mean more."""
    if data.startswith(b"\x89PNG"):
        at = data.find(b"acTL", 0, data.find(b"IDAT"))
        return int.from_bytes(data[at + 4 : at + 8], "big") if at > 0 else 1
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return data.count(b"ANMF") or 1
    return _count_gif(data) if data[:3] == b"GIF" else 1


def _count_gif(data: bytes) -> int:
    """Pictures of a GIF, up to two."""
    if len(data) < 13:
        return 1
    count, at = 0, 13 + _table(data[10])
    while at < len(data) and count < 2:
        block = data[at]
        if block == 0x21:  # an extension
            at = _after_blocks(data, at + 2)
        elif block == 0x2C and at + 10 <= len(data):
            count += 1
            at = _after_blocks(data, at + 11 + _table(data[at + 9]))
        else:
            break
    return max(count, 1)


def _table(flags: int) -> int:
    """Bytes of a GIF's table of colours."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    """Behind a GIF's chain of blocks, each with its length before it."""
    while at < len(data) and data[at]:
        at += data[at] + 1
    return at + 1


def is_cut(path: Path) -> bool:
    """Whether a film's file is shorter than it says itself. False where it does not say."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64 * 1024)
    stated = None
    if head[:4] == b"RIFF":
        stated = int.from_bytes(head[4:8], "little")
        stated = stated + 8 if 0 < stated < 0xFFFFFFF0 else None
    elif head.startswith(_EBML):
        stated = _matroska_size(head)
    elif head.startswith(_ASF):
        stated = _asf_size(head)
    elif head.startswith(b"\0\0\1\xba"):
        stated = _program_size(path, size)
    elif (step := transport_step(head)) is not None:
        return size % step != 0
    elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        stated = max(end for _, end in boxes(path))
    return stated is not None and stated > size + _SLACK


def _program_size(path: Path, size: int) -> int | None:
    """Where the last packet of an MPEG program stream ends."""
    with path.open("rb") as file:
        start = max(size - 128 * 1024, 0)
        file.seek(start)
        tail = file.read()
    last = None
    for last in _PES.finditer(tail):  # a picture's data holds no such mark
        pass
    if last is None or last.end() + 2 > len(tail):
        return None if last is None else size + 2 * _SLACK
    return start + last.end() + 2 + int.from_bytes(tail[last.end() : last.end() + 2], "big")


def boxes(path: Path) -> list[tuple[bytes, int]]:
    """Names and ends of the outermost boxes of an MP4 or QuickTime file, bytes."""
    found, at, size = [], 0, path.stat().st_size
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            length, name = int.from_bytes(head[:4], "big"), head[4:8]
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if not name.isascii() or length < 8 and length != 0:
                break
            at = size if length == 0 else at + length
            found.append((name, at))
    return found or [(b"", 0)]


def _matroska_size(head: bytes) -> int | None:
    length, after = _ebml_number(head, 4)
    at = after + (length or 0)
    if head[at : at + 4] != _SEGMENT:
        return None
    length, after = _ebml_number(head, at + 4)
    return None if length is None else after + length


def _ebml_number(head: bytes, at: int) -> tuple[int | None, int]:
    """A length of Matroska's, None where it is unknown, and where it ends."""
    first = head[at] if at < len(head) else 0
    count = 9 - first.bit_length()
    value = int.from_bytes(head[at : at + count], "big") & ((1 << 7 * count) - 1)
    return (None if value == (1 << 7 * count) - 1 else value), at + count


def _asf_size(head: bytes) -> int | None:
    at = head.find(_ASF_PROPERTIES)
    if at < 0 or len(head) < at + 92:
        return None
    (stated,), (flags,) = (
        struct.unpack_from("<Q", head, at + 40),
        struct.unpack_from("<I", head, at + 88),
    )
    return None if flags & 1 else stated  # 1: a broadcast, whose size was not known
