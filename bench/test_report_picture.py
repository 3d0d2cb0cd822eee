"""README's picture of a report shows the frame that it should, and is small."""

import numpy as np

from jaxface.io import read_image

from .report_picture import FRAME, HEIGHT, PICTURE, WIDTH
from .talking_head import TRUTH, read_columns

_SIZE = 640, 480  # width and height of the clip, px
_FILM = 19, 276, 400, 300  # left, top, width and height of it in the picture, px
_NEAR = 5  # px of the picture
_INNER = np.r_[17:36, 48:60]  # brows, nose and mouth; rays and irises may cover the eyes


def _truth(frame: int) -> np.ndarray:
    """Landmarks of a frame in the film, px."""
    columns = read_columns(TRUTH)
    points = np.array([[columns[f"{c}_{i}"][frame - 1] for c in "xy"] for i in _INNER])
    return points * _FILM[2] / _SIZE[0]


def test_the_picture_shows_its_frame():
    picture = read_image(PICTURE)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert PICTURE.stat().st_size < 250_000
    left, top, width, height = _FILM
    film = picture[top : top + height, left : left + width].astype(int)
    red, green, blue = np.moveaxis(film, -1, 0)
    y, x = np.nonzero((green > 140) & (green - red > 40) & (green - blue > 15))  # landmarks
    dots = np.stack([x, y], axis=1)

    def share_near(frame: int) -> float:
        apart = np.linalg.norm(_truth(frame)[:, None] - dots[None], axis=-1)
        return float((apart.min(axis=1) < _NEAR).mean())

    assert share_near(FRAME) > 0.85
    assert max(share_near(frame) for frame in (1, 62, 200)) < 0.6
