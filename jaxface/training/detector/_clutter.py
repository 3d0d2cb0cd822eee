"""Procedural pictures without faces: what a detector must learn to leave alone."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

Generator = np.random.Generator
Picture = UInt8[np.ndarray, "_ _ 3"]  # several in one call differ in size

_TEXT = "abcdefgkmnoprstuwxyzABEGHKMNRSW0123456789&?@#"


def _color(rng: Generator) -> np.ndarray:
    """A colour; one in three is some skin tone, lest skin alone mean a face."""
    if rng.random() < 0.33:
        return np.array([1.0, 0.72, 0.58]) * rng.uniform(60, 255) + rng.normal(0, 10, 3)
    return rng.uniform(0, 255, 3)


def _noise(rng: Generator, height: int, width: int) -> np.ndarray:
    """Clouds: noise of all wavelengths, in one colour direction or three."""
    channels = 1 if rng.random() < 0.5 else 3
    total = np.zeros((height, width, channels), np.float32)
    roughness = rng.uniform(0.35, 0.9)
    for octave in range(7):
        cells = 2 << octave
        grid = rng.normal(0, roughness**octave, (cells + 1, cells + 1, channels))
        layer = cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        total += layer.reshape(height, width, channels)
    return total * rng.uniform(15, 60) * np.ones(3, np.float32)


def _ramp(rng: Generator, height: int, width: int) -> np.ndarray:
    """A gradient between two colours."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    along = np.cos(angle) * x / width + np.sin(angle) * y / height
    share = ((along - along.min()) / max(np.ptp(along), 1e-6))[..., None]
    return (_color(rng) * (1 - share) + _color(rng) * share).astype(np.float32)


def _pattern(rng: Generator, height: int, width: int) -> np.ndarray:
    """Stripes, grids and bricks, warped a little."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(4), np.log(80)))
    bend = rng.uniform(0, 0.3) * period * np.sin(x / rng.uniform(20, 100))
    u = (np.cos(angle) * x + np.sin(angle) * y + bend) / period
    v = (np.cos(angle) * y - np.sin(angle) * x) / (period * rng.uniform(0.3, 3))
    kind = rng.integers(4)
    if kind == 0:
        mask = np.sin(2 * np.pi * u)
    elif kind == 1:
        mask = np.sign(np.sin(2 * np.pi * u) * np.sin(2 * np.pi * v))
    elif kind == 2:
        shifted = v + 0.5 * (np.floor(u) % 2)
        mask = np.where((u % 1 < 0.1) | (shifted % 1 < 0.1), 1, -1)
    else:
        mask = np.where((u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < rng.uniform(0.02, 0.2), 1, -1)
    share = (mask[..., None] + 1) / 2
    return (_color(rng) * (1 - share) + _color(rng) * share).astype(np.float32)


def _draw_shape(rng: Generator, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    x, y = (int(rng.integers(-20, side + 20)) for side in (width, height))
    size = float(np.exp(rng.uniform(np.log(4), np.log(0.4 * min(height, width)))))
    color = tuple(float(c) for c in _color(rng))
    thickness = -1 if rng.random() < 0.6 else int(rng.integers(1, 5))
    axes = (max(int(size), 1), max(int(size * rng.uniform(0.3, 1.5)), 1))
    kind = rng.integers(5)
    if kind == 0:
        cv2.ellipse(image, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, color, thickness)
    elif kind == 1:
        cv2.rectangle(image, (x, y), (x + axes[0], y + axes[1]), color, thickness)
    elif kind == 2:
        end = (x + int(rng.normal(0, size)), y + int(rng.normal(0, size)))
        cv2.line(image, (x, y), end, color, int(rng.integers(1, 8)))
    elif kind == 3:
        corners = rng.normal((x, y), size, (int(rng.integers(3, 7)), 2)).astype(np.int32)
        cv2.fillPoly(image, [corners], color)
    else:
        text = "".join(rng.choice(list(_TEXT), rng.integers(1, 9)))
        font = int(rng.integers(0, 8))
        cv2.putText(image, text, (x, y), font, size / 25, color, int(rng.integers(1, 4)))


def _draw_two_spots(rng: Generator, image: np.ndarray) -> None:
    """An oval with dark spots: nearly a face, and not one."""
    height, width = image.shape[:2]
    center = rng.uniform((0, 0), (width, height))
    size = float(np.exp(rng.uniform(np.log(6), np.log(0.25 * min(height, width)))))
    color = tuple(float(c) for c in _color(rng))
    axes = (int(size) + 1, int(size * rng.uniform(0.8, 1.5)) + 1)
    cv2.ellipse(image, (int(center[0]), int(center[1])), axes, 0, 0, 360, color, -1)
    dark = tuple(float(c) * rng.uniform(0.1, 0.7) for c in color)
    for _ in range(int(rng.integers(1, 5))):
        x, y = center + rng.uniform(-0.6, 0.6, 2) * size
        spot = (int(size * rng.uniform(0.05, 0.3)) + 1, int(size * rng.uniform(0.05, 0.2)) + 1)
        cv2.ellipse(image, (int(x), int(y)), spot, float(rng.uniform(-30, 30)), 0, 360, dark, -1)


def _place_patch(rng: Generator, image: np.ndarray, patch: Picture) -> None:
    """Lays a piece of a photograph somewhere, turned by a multiple of 90 degrees and resized."""
    height, width = image.shape[:2]
    patch = np.rot90(patch, int(rng.choice([0, 0, 1, 2, 3])))
    side = int(rng.uniform(0.2, 1.2) * max(height, width))
    ratio = side / max(patch.shape[:2])
    size = (max(int(patch.shape[1] * ratio), 2), max(int(patch.shape[0] * ratio), 2))
    shape = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    patch = cv2.resize(np.ascontiguousarray(patch), size, interpolation=shape)
    x, y = int(rng.integers(-size[0] // 2, width)), int(rng.integers(-size[1] // 2, height))
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + size[0], width), min(y + size[1], height)
    if right > left and bottom > top:
        image[top:bottom, left:right] = patch[top - y : bottom - y, left - x : right - x]


def make_clutter(rng: Generator, height: int, width: int, patches: Sequence[Picture]) -> Picture:
    """Draws one picture without a face.

    Args:
        rng: decides everything.
        height: px.
        width: px.
        patches: pieces of photographs that show no face; some are laid into the picture.
    Returns:
        RGB.
    """
    kind = rng.random()
    base = _ramp if kind < 0.5 else _pattern
    image = base(rng, height, width) if kind < 0.75 else np.tile(_color(rng), (height, width, 1))
    image = image.astype(np.float32)
    if rng.random() < 0.6:
        image += _noise(rng, height, width)
    image = np.clip(image, 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(0, 4)) if len(patches) else 0):
        _place_patch(rng, image, patches[int(rng.integers(len(patches)))])
    for _ in range(int(rng.choice([0, 5, 20, 60]))):
        _draw_shape(rng, image)
    for _ in range(int(rng.choice([0, 0, 2, 6]))):
        _draw_two_spots(rng, image)
    return image
