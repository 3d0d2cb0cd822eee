"""A picture as a value that notebooks show."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from ._pictures import write_picture

_QUALITY = 92  # of 100: letters stay sharp, at a tenth of a PNG's bytes


@dataclasses.dataclass(frozen=True, eq=False)
class Still:
    """One picture. Notebooks show it; `np.asarray` gives its pixels, `save` writes it."""

    pixels: UInt8[np.ndarray, "h w 3"]  # RGB, 0 to 255

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        height, width = self.pixels.shape[:2]
        return height, width

    def save(self, path: str | Path) -> Path:
        """Writes the picture in the format that the name's suffix tells, as .png or .jpg.

        Args:
            path: the file; its folder is created if need be.
        Returns:
            The path.
        Raises:
            OutputError: it cannot be written.
        """
        return write_picture(path, self.pixels)

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        """The pixels, as `np.asarray` asks for them: always a copy."""
        return np.array(self.pixels, dtype=dtype)  # pyright: ignore[reportCallIssue, reportArgumentType]

    def __repr__(self) -> str:
        height, width = self.shape
        return f"<Still: {width}x{height} px>"

    def _repr_jpeg_(self) -> bytes:
        return to_jpeg(self.pixels, quality=_QUALITY)


def to_jpeg(pixels: UInt8[np.ndarray, "h w 3"], *, quality: int) -> bytes:
    """A picture as the bytes of a JPEG file.

    Args:
        pixels: RGB, 0 to 255.
        quality: 0 to 100.
    """
    order = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", order, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()
