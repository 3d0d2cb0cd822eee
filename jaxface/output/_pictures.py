"""Pictures as files."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from ..errors import OutputError
from ._atomic import write_file


def write_picture(
    path: str | Path, image: UInt8[np.ndarray, "h w 3"], *, gray: bool = False
) -> Path:
    """Writes a picture in the format that the name's suffix tells.

    Args:
        path: the file, e.g. ending in .png or .bmp; its folder is created if need be.
        image: RGB, 0 to 255.
        gray: write its luma alone.
    Returns:
        The path.
    Raises:
        OutputError: it cannot be encoded or written; what was there before is untouched.
    """
    path = Path(path)
    try:
        order = cv2.COLOR_RGB2GRAY if gray else cv2.COLOR_RGB2BGR
        _, data = cv2.imencode(path.suffix, cv2.cvtColor(image, order))
    except cv2.error as error:
        reason = f"no {path.suffix} file of an array of shape {image.shape}"
        raise OutputError(path, reason) from error
    return write_file(path, data.tobytes())


def encode_jpeg(image: UInt8[np.ndarray, "h w 3"], *, quality: int = 85) -> bytes:
    """A picture as the bytes of a JPEG file.

    Args:
        image: RGB, 0 to 255.
        quality: 0 to 100.
    """
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    return data.tobytes()
