"""Aligned faces as BMP files."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ._pictures import write_picture


def aligned_name(face_id: int, frame: int | None = None) -> str:
    """File name of one aligned face.

    Args:
        face_id: from 0.
        frame: from 1; None for a still image.
    Returns:
        The name without a folder.
    Reference:
        Specification 03, E.2.
    """
    if frame is None:
        return f"face_det_{face_id:06d}.bmp"
    return f"frame_det_{face_id:02d}_{frame:06d}.bmp"


def write_aligned(
    folder: str | Path,
    face: UInt8[np.ndarray, "h w 3"],
    *,
    face_id: int,
    frame: int | None = None,
    gray: bool = False,
) -> Path:
    """Writes one aligned face.

    Args:
        folder: created if need be.
        face: RGB, 0 to 255.
        face_id: from 0.
        frame: from 1; None for a still image.
        gray: write its luma, 8 bits to a pixel.
    Returns:
        The file's path.
    Raises:
        OutputError: it cannot be written.
    """
    return write_picture(Path(folder) / aligned_name(face_id, frame), face, gray=gray)
