"""Pictures that show many samples at a glance."""

from collections.abc import Sequence

import cv2
import numpy as np

from ._crowd import Scene
from ._sample import Sample

_SEEN, _HIDDEN, _IRIS, _LID, _BOX = (
    (0, 255, 0),
    (255, 40, 40),
    (60, 120, 255),
    (255, 220, 0),
    (255,) * 3,
)


def contact_sheet(
    samples: Sequence[Sample | np.ndarray],
    *,
    columns: int = 8,
    cell: int = 192,
    labels: bool = True,
) -> np.ndarray:
    """Lays samples, or mere pictures, out in rows.

    Args:
        samples: not empty.
        cell: height and width of each, px.
        labels: draws landmarks (green if visible, else red), irises, lids and the box.

    Returns:
        RGB, (rows * cell, columns * cell, 3) uint8.

    Raises:
        ValueError: there are no samples.
    """
    if not samples:
        raise ValueError("samples: expected at least one, got none")
    cells = [_cell(sample, cell, labels) for sample in samples]
    blank = np.zeros((cell, cell, 3), np.uint8)
    cells += [blank] * (-len(cells) % columns)
    rows = [np.hstack(cells[first : first + columns]) for first in range(0, len(cells), columns)]
    return np.vstack(rows)


def draw_scene(scene: Scene) -> np.ndarray:
    """A scene (h, w, 3) uint8 with its boxes, red where doubtful, and landmarks."""
    picture = scene.image.copy()
    for box, doubtful in zip(np.rint(scene.boxes).astype(int), scene.doubtful, strict=True):
        corners = box[:2].tolist(), box[2:].tolist()
        cv2.rectangle(picture, *corners, _HIDDEN if doubtful else _BOX, 1)
    points, shown = scene.landmarks.reshape(-1, 2), scene.visible.ravel()
    for point, visible in zip(np.rint(points).astype(int).tolist(), shown, strict=True):
        cv2.circle(picture, point, 0, _SEEN if visible else _HIDDEN, -1)
    return picture


def _cell(sample: Sample | np.ndarray, cell: int, labels: bool) -> np.ndarray:
    image = sample.image if isinstance(sample, Sample) else sample
    factor = cell / max(image.shape[:2])
    picture = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    height, width = picture.shape[:2]
    padded = np.zeros((cell, cell, 3), np.uint8)
    padded[:height, :width] = picture
    if labels and isinstance(sample, Sample):
        _mark(padded, sample, factor)
    return padded


def _mark(picture: np.ndarray, sample: Sample, factor: float) -> None:
    def place(point: np.ndarray) -> tuple[int, int]:
        x, y = (np.asarray(point) + 0.5) * factor - 0.5
        return int(round(float(x))), int(round(float(y)))

    cv2.rectangle(picture, place(sample.box[:2]), place(sample.box[2:]), _BOX, 1)
    for points, colour in ((sample.lids, _LID), (sample.irises, _IRIS)):
        for point in points.reshape(-1, 2):
            cv2.circle(picture, place(point), 0, colour, -1)
    for point, shown in zip(sample.landmarks, sample.visible, strict=True):
        cv2.circle(picture, place(point), 1, _SEEN if shown else _HIDDEN, -1)
