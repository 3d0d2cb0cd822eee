"""README's pictures of a report show the frame that they should, and are small."""

import numpy as np
import pytest

from jaxface.io import read_image

from .report_picture import DATA, FRAME, SIZES
from .talking_head import TRUTH, read_columns

_SIZE = 640, 480  # width and height of the clip, px
# Left, top, width and height of it in the pictures, px.
_FILMS = {"report.png": (19, 276, 400, 300), "report_narrow.png": (40, 383, 310, 232)}
_NEAR = 5  # px of the picture
_INNER = np.r_[17:36, 48:60]  # brows, nose and mouth; rays and irises may cover the eyes


def _truth(frame: int, width: int) -> np.ndarray:
    """Landmarks of a frame in a film of some width, px."""
    columns = read_columns(TRUTH)
    points = np.array([[columns[f"{c}_{i}"][frame - 1] for c in "xy"] for i in _INNER])
    return points * width / _SIZE[0]


@pytest.mark.parametrize("name", SIZES)
def test_pictures_show_their_frame(name: str):
    picture, size = read_image(DATA / name), SIZES[name]
    assert picture.shape == (size[1], size[0], 3)
    assert (DATA / name).stat().st_size < 250_000
    left, top, width, height = _FILMS[name]
    film = picture[top : top + height, left : left + width].astype(int)
    red, green, blue = np.moveaxis(film, -1, 0)
    y, x = np.nonzero((green > 140) & (green - red > 40) & (green - blue > 15))  # landmarks
    dots = np.stack([x, y], axis=1)

    def share_near(frame: int) -> float:
        apart = np.linalg.norm(_truth(frame, width)[:, None] - dots[None], axis=-1)
        return float((apart.min(axis=1) < _NEAR).mean())

    assert share_near(FRAME) > 0.85
    assert max(share_near(frame) for frame in (1, 62, 200)) < 0.6
