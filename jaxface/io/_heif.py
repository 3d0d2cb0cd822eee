"""HEIC and AVIF: pictures of phones, which may be made of tiles."""

import io
import struct
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from ..errors import InputError
from ._quiet import quiet_opencv
from ._signatures import AVIF, HEIC, Signature

_SLACK = 1  # px by which a stated and a decoded side may differ: some codecs want even ones


def decode_heif(path: Path, data: bytes, signature: Signature) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes the main picture of a HEIC or AVIF file, turned as it is shown.

    Args:
        path: the file, for messages.
        data: what it holds.
        signature: which of the two it is.
    Returns:
        RGB, 0 to 255.
    Raises:
        InputError: nothing that is installed reads it, or only a part of the picture came out.
    """
    image = _decode_avif(path, data) if signature == AVIF else _decode_heic(path, data)
    stated = stated_size(data)
    if stated is not None and not _fits(image.shape, stated):
        got = f"{image.shape[1]}x{image.shape[0]} px of a picture of {stated[0]}x{stated[1]} px"
        raise InputError(path, signature.name, got, "convert it to PNG or JPEG")
    return image


def stated_size(data: bytes) -> tuple[int, int] | None:
    """Width and height, px, of the largest picture that a HEIC or AVIF file says it holds."""
    sizes, at = [], data.find(b"ispe")
    while 0 <= at <= len(data) - 16:
        sizes.append(struct.unpack_from(">II", data, at + 8))
        at = data.find(b"ispe", at + 4, data.find(b"mdat", at))
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def _fits(shape: tuple[int, ...], stated: tuple[int, int]) -> bool:
    """Whether a picture is as large as stated, upright or turned, or cropped a little."""
    found, wanted = sorted(shape[:2]), sorted(stated)
    return all(2 * a > b and a <= b + _SLACK for a, b in zip(found, wanted, strict=True)) and (
        10 * found[0] * found[1] > 9 * wanted[0] * wanted[1]
    )


def _decode_avif(path: Path, data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """By OpenCV, which has a decoder of AVIF in its wheels from 4.11 on, or by Pillow."""
    with quiet_opencv():
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:
            image = None
    if image is not None:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise _without_extra(path, AVIF) from error
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return np.array(ImageOps.exif_transpose(opened).convert("RGB"))
    except Exception as error:  # of damaged files, decoders raise whatever there is
        raise _undecodable(path, AVIF, error) from error


def _decode_heic(path: Path, data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    try:
        import pillow_heif
    except ImportError as error:
        raise _without_extra(path, HEIC) from error
    try:
        image = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
        return np.array(image.to_pillow().convert("RGB"))
    except Exception as error:  # likewise
        raise _undecodable(path, HEIC, error) from error


def _without_extra(path: Path, signature: Signature) -> InputError:
    action = "pip install 'jaxface[heif]', or convert it to PNG or JPEG"
    return InputError(path, "an image", f"{signature.name}, which needs the extra heif", action)


def _undecodable(path: Path, signature: Signature, error: Exception) -> InputError:
    got = f"{signature.name} that cannot be decoded ({error})"
    return InputError(path, "an image", got, "convert it to PNG or JPEG")
