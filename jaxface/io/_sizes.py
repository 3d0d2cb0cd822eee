"""How large a picture says it is, before anything is decoded: damage may name any size."""

import struct
from pathlib import Path
from typing import Literal

from ..errors import InputError

_MOST = 1 << 28  # px; cameras have fewer
# px that a byte may stand for, in a PNG of one bit a pixel that is all alike; and of any file.
_DENSEST, _LEAST_MOST = 10_000, 1 << 20
_TIFF = (b"II*\0", b"MM\0*")
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # a JPEG's markers that state its size


def check_size(path: Path, data: bytes, length: int | None = None) -> None:
    """Refuses a picture whose header states no pixels, more than any camera has, or
    more than its bytes can hold.

    Args:
        path: of the picture.
        data: its bytes, or the first of them.
        length: number of all its bytes; by default those given.
    Raises:
        InputError: it does; to decode so many would take gigabytes.
    """
    size = _stated_size(data)
    if size is not None and 0 in size:  # libpng would complain on the terminal
        got = f"one of {size[0]}x{size[1]} px"
        raise InputError(path, "an image of one px or more", got, "copy or record it again")
    if size is not None and size[0] * size[1] > _MOST:
        got = f"one of {size[0]}x{size[1]} px"
        raise InputError(path, f"an image of at most {_MOST} px", got, "check it, or shrink it")
    length = len(data) if length is None else length
    dense = data.startswith((b"RIFF", *_TIFF))  # one colour throughout, or a fax, takes no space
    if size is not None and not dense and size[0] * size[1] > _LEAST_MOST + _DENSEST * length:
        got = f"{length} bytes that claim {size[0]}x{size[1]} px"
        raise InputError(path, "an image", got, "copy or record it again")


def has_overlong_chunk(data: bytes) -> bool:
    """Whether a chunk of a PNG claims more bytes than the file has: OpenCV would allocate them."""
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if length > len(data):
            return True
        at += 12 + length
    return False


def _stated_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG, PNG, GIF, BMP, WebP, TIFF or PNM, px; None: none is stated."""
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        return struct.unpack_from(">II", data, 16)
    if data.startswith(b"BM") and len(data) >= 26 and data[14] >= 40:
        width, height = struct.unpack_from("<ii", data, 18)
        return abs(width), abs(height)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    if data.startswith(b"GIF8") and len(data) >= 10:
        return struct.unpack_from("<HH", data, 6)
    if data.startswith(b"RIFF"):
        return _webp_size(data)
    if data.startswith(_TIFF):
        return _tiff_size(data)
    if data[:1] == b"P" and data[1:2].isdigit():
        numbers = [piece for piece in data[2:64].split() if piece.isdigit()]
        return (int(numbers[0]), int(numbers[1])) if len(numbers) > 1 else None
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    if data[12:16] == b"VP8X" and len(data) >= 30:
        width, height = (int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    if data[12:16] == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None  # of the other kind no side is longer than 16383


def _tiff_size(data: bytes) -> tuple[int, int] | None:
    """As the first directory states it."""
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"

    def number(at: int, length: int) -> int:
        return int.from_bytes(data[at : at + length], order)

    at, found = number(4, 4), {}
    for entry in range(at + 2, at + 2 + 12 * number(at, 2), 12):
        length = {3: 2, 4: 4}.get(number(entry + 2, 2), 0)
        found[number(entry, 2)] = number(entry + 8, length)
    return (found[256], found[257]) if 256 in found and 257 in found else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        # Fill bytes and markers without a length are one or two bytes long.
        alone = marker == 1 or 0xD0 <= marker <= 0xD9
        at += 1 if marker == 0xFF else 2
        at += 0 if alone or marker == 0xFF else int.from_bytes(data[at : at + 2], "big")
    return None
