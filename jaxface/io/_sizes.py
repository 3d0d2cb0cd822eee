"""How large a picture says it is, before anything is decoded: damage may name any size."""

import struct
from pathlib import Path

from ..errors import InputError

_MOST = 1 << 28  # px; cameras have fewer
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # a JPEG's markers that state its size


def check_size(path: Path, data: bytes) -> None:
    """Refuses a picture whose header states no pixels, or more than any camera has.

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


def _stated_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG, PNG, BMP, WebP or PNM, px; None where it is not found."""
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        return struct.unpack_from(">II", data, 16)
    if data.startswith(b"BM") and len(data) >= 26 and data[14] >= 40:
        width, height = struct.unpack_from("<ii", data, 18)
        return abs(width), abs(height)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    if data[:1] == b"P" and data[1:2].isdigit():
        numbers = [piece for piece in data[2:64].split() if piece.isdigit()]
        return (int(numbers[0]), int(numbers[1])) if len(numbers) > 1 else None
    return None


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
