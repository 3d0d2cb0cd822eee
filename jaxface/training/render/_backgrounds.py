"""Pictures without faces: procedural textures, clutter, and what is no face in the photographs."""

from collections.abc import Callable

import cv2
import numpy as np

_OCTAVES = 5
_FACE_MARGIN = 0.15  # of the face's size: kept free around it when photographs are cut up


def random_background(
    rng: np.random.Generator,
    height: int,
    width: int,
    *,
    photograph: Callable[[], np.ndarray] | None = None,
) -> np.ndarray:
    """Draws a picture (h, w, 3) uint8 that shows no face.

    Args:
        photograph: reads a picture (a, b, 3) uint8 without a face; called for some of the pictures.
    """
    kind = rng.random()
    if photograph is not None and kind < 0.3:
        picture = _cut(rng, photograph(), height, width)
    elif kind < 0.45:
        picture = _gradient(rng, height, width)
    elif kind < 0.7:
        picture = _clouds(rng, height, width)
    else:
        picture = _stripes(rng, height, width) if kind < 0.78 else _gradient(rng, height, width)
        picture = _clutter(rng, picture)
    if rng.random() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 0.03 * max(height, width) + 1))
    return picture


def _colour(rng: np.random.Generator) -> np.ndarray:
    """A colour (3,), 0 to 255; greyish ones are the most frequent, skin is among them."""
    if rng.random() < 0.25:
        skin = np.array([205, 150, 120]) * rng.uniform(0.35, 1.2)
        return np.clip(skin + rng.normal(0, 8, 3), 0, 255)
    grey = rng.uniform(0, 255)
    return np.clip(grey + rng.normal(0, 45, 3) * rng.random(), 0, 255)


def _gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    corners = np.stack([_colour(rng) for _ in range(4)]).reshape(2, 2, 3).astype(np.float32)
    picture = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    return picture.astype(np.uint8)


def _clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Fractal noise between two or three colours."""
    total = np.zeros((height, width, 2), np.float32)
    for octave in range(_OCTAVES):
        cells = 2 ** (octave + 1)
        field = rng.normal(size=(cells, cells, 2)).astype(np.float32)
        share = rng.uniform(0.4, 1) * 0.6**octave
        total += share * cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
    first, second, third = (_colour(rng) for _ in range(3))
    weight = 1 / (1 + np.exp(-2 * total))
    picture = first + weight[..., :1] * (second - first)
    picture = picture + weight[..., 1:] * (third - picture) * rng.random()
    return np.clip(picture, 0, 255).astype(np.uint8)


def _stripes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    total = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(1, 3)):
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 0.5 * width + 5)
        wave = np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / period)
        total += np.sign(wave) if rng.random() < 0.5 else wave
    weight = (0.5 + 0.25 * total)[..., None]
    first, second = _colour(rng), _colour(rng)
    return np.clip(first + weight * (second - first), 0, 255).astype(np.uint8)


def _clutter(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Shapes of all sizes over a picture: furniture, windows, bodies, letters."""
    height, width = picture.shape[:2]
    size = max(height, width)
    picture = picture.copy()
    for _ in range(rng.integers(5, 40)):
        colour = _colour(rng).tolist()
        x, y = int(rng.uniform(0, width)), int(rng.uniform(0, height))
        reach = size * rng.uniform(0.02, 0.35) * rng.random()
        a, b = (max(int(reach * rng.uniform(0.3, 1)), 1) for _ in range(2))
        kind = rng.integers(5)
        if kind == 0:
            cv2.ellipse(
                picture, (x, y), (a, b), rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA
            )
        elif kind == 1:
            cv2.rectangle(picture, (x - a, y - b), (x + a, y + b), colour, -1)
        elif kind == 2:
            end = (x + int(rng.normal(0, 0.3) * size), y + int(rng.normal(0, 0.3) * size))
            cv2.line(picture, (x, y), end, colour, max(int(reach / 6), 1), cv2.LINE_AA)
        elif kind == 3:
            corners = np.array([x, y]) + rng.normal(0, reach / 2, (rng.integers(3, 7), 2))
            cv2.fillPoly(picture, [corners.astype(np.int32)], colour, cv2.LINE_AA)
        else:
            text = "".join(chr(code) for code in rng.integers(48, 91, rng.integers(1, 6)))
            cv2.putText(picture, text, (x, y), 0, 0.2 + reach / 40, colour, 1 + int(reach / 20))
    return picture


def _cut(rng: np.random.Generator, photograph: np.ndarray, height: int, width: int) -> np.ndarray:
    """A piece of a photograph, turned and mirrored at random."""
    picture = np.rot90(photograph, int(rng.integers(4)))
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    available = picture.shape[:2]
    size = rng.uniform(0.3, 1.0) * min(available[0] / height, available[1] / width)
    rows, columns = max(int(size * height), 2), max(int(size * width), 2)
    top = rng.integers(available[0] - rows + 1)
    left = rng.integers(available[1] - columns + 1)
    piece = np.ascontiguousarray(picture[top : top + rows, left : left + columns])
    return cv2.resize(piece, (width, height), interpolation=cv2.INTER_AREA)


def faceless_piece(rng: np.random.Generator, image: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """The largest pieces of a photograph beside its face: hair, body, backdrop.

    Args:
        image: (h, w, 3) uint8.
        mesh: (478, 2 or more) px.

    Returns:
        One of the four rectangles above, below, left and right of the face that are not tiny.
    """
    height, width = image.shape[:2]
    low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
    margin = _FACE_MARGIN * (high - low)
    x0, y0 = np.clip(low - margin, 0, [width, height]).astype(int)
    x1, y1 = np.clip(high + margin, 0, [width, height]).astype(int)
    pieces = [image[:y0], image[y1:], image[:, :x0], image[:, x1:]]
    usable = [piece for piece in pieces if min(piece.shape[:2]) >= 24]
    return usable[rng.integers(len(usable))] if usable else image[:2, :2]
