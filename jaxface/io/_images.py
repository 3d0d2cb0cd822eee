"""Still images, decoded as OpenFace does."""

import warnings
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from ..errors import InputError, InputWarning
from ._checks import check_file, file_signature
from ._endings import count_pictures, picture_end
from ._heif import decode_heif
from ._quiet import quiet_opencv, quiet_stderr
from ._signatures import AVIF, GIF, HEIC, PNG, Content
from ._sizes import check_size, has_overlong_chunk

_CONVERT = "convert it to PNG or JPEG"
_JPEG_END = b"\xff\xd9"


def read_image(path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
    """Reads one image as 8-bit RGB: JPEG, PNG, BMP, TIFF, WebP, GIF, JPEG 2000, PNM, AVIF, HEIC.

    What the file is, its contents say. The orientation is applied, an alpha channel dropped, grey
    replicated, and 16-bit samples are reduced to their high byte. Of several pages or pictures
    the first is taken. HEIC needs the extra `heif`.

    Args:
        path: the image file.
    Returns:
        RGB, 0 to 255.
    Raises:
        InputError: the file is missing, empty, unreadable or no image.
    Warns:
        InputWarning: a JPEG ends early; what is missing is grey.
    Reference:
        Specification 01, C.1. Differs: OpenFace reads what OpenCV reads.
    """
    check_file(path, "an image")
    path = Path(path)
    signature = file_signature(path)
    if signature is not None and signature.content is not Content.PICTURE:
        raise InputError(path, "an image", signature.name, _CONVERT)
    try:
        data = path.read_bytes()
    except OSError as error:  # of a disk or a network
        got = error.strerror or str(error)
        raise InputError(path, "an image", got, "copy it again") from error
    if signature is not None and signature in (HEIC, AVIF):
        return decode_heif(path, data, signature)
    check_size(path, data)
    end = picture_end(data)
    # libjpeg completes a picture whose end it meets; without one, it gives up.
    image = None
    if signature != PNG or not has_overlong_chunk(data):
        image = _decode(path, data[:end] if end is not None else data + _JPEG_END, end is not None)
    if image is None and signature == GIF:
        image = _decode_gif(path)
    if image is None:
        kind = f" of {signature.name}" if signature else ""
        got = f"{len(data)} bytes{kind} that cannot be decoded"
        raise InputError(path, "an image", got, _CONVERT)
    if end is None:
        message = f"{path}: the file ends early; what is missing of the image is grey"
        warnings.warn(message, InputWarning, stacklevel=2)
    return image


def image_notes(path: str | Path) -> tuple[str, ...]:
    """What is left out of an image file, in words: the later pictures of an animated one."""
    data = Path(path).read_bytes()
    animated = count_pictures(data) > 1
    return ("first picture of an animated one",) if animated else ()


def _decode(path: Path, data: bytes, whole: bool) -> UInt8[np.ndarray, "h w 3"] | None:
    try:
        with quiet_opencv() if whole else quiet_stderr():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(path, "an image", reason, _CONVERT) from error
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _decode_gif(path: Path) -> UInt8[np.ndarray, "h w 3"] | None:
    """By FFmpeg: OpenCV reads GIF from 4.11 on."""
    from ._decode import first_picture

    return first_picture(path)
