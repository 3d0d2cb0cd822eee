"""Aligned faces as BMP files."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from ..errors import OutputError
from ._atomic import write_file


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
) -> Path:
    """Writes one aligned face.

    Args:
        folder: created if need be.
        face: RGB, 0 to 255.
        face_id: from 0.
        frame: from 1; None for a still image.
    Returns:
        The file's path.
    Raises:
        OutputError: it cannot be written.
    """
    path = Path(folder) / aligned_name(face_id, frame)
    done, data = cv2.imencode(".bmp", cv2.cvtColor(face, cv2.COLOR_RGB2BGR))
    if not done:
        raise OutputError(path, f"no BMP of shape {face.shape}")
    return write_file(path, data.tobytes())
