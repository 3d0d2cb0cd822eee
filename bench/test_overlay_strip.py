"""README's picture shows what it should: landmarks where the truth of the clip has them."""

import numpy as np
import pytest

from jaxface.io import read_image

from .overlay_strip import COLUMNS, FRAMES, ROWS, SIZE, STRIP
from .talking_head import TRUTH, read_columns

_NEAR = 6  # px of the strip; the farthest of the four panels lies 5.5 px off, where a mouth opens
_INNER = np.r_[17:36, 48:60]  # brows, nose and mouth; rays and irises may cover the eyes


def _dots(panel: np.ndarray) -> np.ndarray:
    """Columns and rows of what is as green as a landmark; nothing else in the clip is."""
    red, green, blue = np.moveaxis(panel.astype(int), -1, 0)
    y, x = np.nonzero((green > 150) & (green - red > 50) & (green - blue > 20))
    return np.stack([x, y], axis=1)


def _truth(frame: int) -> np.ndarray:
    """Landmarks of a frame in its panel, px."""
    columns = read_columns(TRUTH)
    points = np.array([[columns[f"{c}_{i}"][frame - 1] for c in "xy"] for i in _INNER])
    scale = SIZE[0] / (COLUMNS.stop - COLUMNS.start), SIZE[1] / (ROWS.stop - ROWS.start)
    return (points - [COLUMNS.start, ROWS.start]) * scale


def _share_near(points: np.ndarray, dots: np.ndarray) -> float:
    apart = np.linalg.norm(points[:, None] - dots[None], axis=-1)
    return float((apart.min(axis=1) < _NEAR).mean())


@pytest.mark.parametrize("number", range(len(FRAMES)))
def test_each_panel_shows_its_frames_landmarks(number):
    strip = read_image(STRIP)
    assert strip.shape == (SIZE[1], SIZE[0] * len(FRAMES), 3)
    assert STRIP.stat().st_size < 250_000
    dots = _dots(strip[:, number * SIZE[0] : (number + 1) * SIZE[0]])
    assert _share_near(_truth(FRAMES[number]), dots) > 0.9
    others = [_truth(frame) for frame in FRAMES if frame != FRAMES[number]]
    assert max(_share_near(points, dots) for points in others) < 0.75  # by chance
