"""The clip of a report, in few bytes."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from .._film import FilmWriter
from ._page import Film

_WIDEST = 900  # px, of a picture
_QUALITY = 82  # of JPEG, of 100

Picture = UInt8[np.ndarray, "h w 3"]  # RGB, 0 to 255


def encode_film(pictures: Iterable[tuple[Picture, float]], *, note: str, words: str) -> Film | None:
    """Encodes pictures as a small film.

    Args:
        pictures: RGB, each with the time at which it is shown, s, ascending.
        note: what the film is, for the reader.
        words: what it is, for those who do not see it.
    Returns:
        H.264 in MP4; None where there is no picture.
    Raises:
        OutputError: the disk for temporary files is full.
    """
    start, height, width = 0.0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        with FilmWriter(Path(folder) / "film.mp4", small=True) as film:
            for picture, time in pictures:
                if not film.frames:
                    start, (height, width) = time, picture.shape[:2]
                film.write(picture, time - start)
            if not film.frames:
                return None
            data = film.finish().read_bytes()
    return Film(data, "video/mp4", width, height, start, note, words)


def encode_picture(picture: Picture, *, note: str, words: str) -> Film:
    """Encodes one picture.

    Args:
        picture: RGB.
        note: what it is, for the reader.
        words: what it is, for those who do not see it.
    Returns:
        A JPEG of at most 900 px in width.
    """
    height, width = picture.shape[:2]
    if width > _WIDEST:
        height, width = max(round(height * _WIDEST / width), 1), _WIDEST
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return Film(data.tobytes(), "image/jpeg", width, height, 0.0, note, words)
