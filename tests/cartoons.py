"""Cartoon faces, and scenes of them, to train toy detectors with."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxface.training import Scene
from jaxface.training.detector import Face, Picture, Scenes, Sources, build_scenes, make_scene


def oval(center: tuple[float, float], size: float) -> np.ndarray:
    """68 landmarks of a face `size` px wide and high: eyes, nose and mouth in their places."""
    angle = np.linspace(0, np.pi, 17)
    jaw = np.stack([-np.cos(angle), 1.2 * np.sin(angle) - 0.2], axis=1)
    brows = np.stack([np.linspace(-0.7, 0.7, 10), np.full(10, -1.0)], axis=1)
    nose = np.stack([[0, 0, 0, 0, -0.2, -0.1, 0, 0.1, 0.2], np.linspace(-0.5, 0.1, 9)], axis=1)
    turn = np.linspace(0, 2 * np.pi, 6, endpoint=False)
    eye = np.stack([-0.15 * np.cos(turn), 0.05 * np.sin(turn)], axis=1)
    mouth = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    mouth = np.stack([-0.4 * np.cos(mouth), 0.15 * np.sin(mouth) + 0.5], axis=1)
    mouth[6] = (0.4, 0.5)
    parts = [jaw, brows, nose, eye + (-0.4, -0.6), eye + (0.4, -0.6), mouth]
    return (np.concatenate(parts) * size / 2 + center).astype(np.float32)


def draw_face(size: int = 96) -> Face:
    """A cartoon: skin, two dark eyes and a dark mouth."""
    side = 2 * size
    y, x = np.mgrid[:side, :side].astype(np.float32)
    landmarks = oval((side / 2, side / 2), size)
    image = np.full((side, side, 3), (60, 90, 140), np.uint8)
    head = ((x - size) / (0.6 * size)) ** 2 + ((y - 0.95 * size) / (0.75 * size)) ** 2 < 1
    image[head] = (220, 170, 140)
    for start, end in ((36, 42), (42, 48), (48, 68)):
        low, high = landmarks[start:end].min(0) - 2, landmarks[start:end].max(0) + 2
        inside = (x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1])
        image[inside] = (40, 20, 20)
    return Face(image, landmarks, head.astype(np.uint8) * 255, True)


def cartoon_sources() -> Sources:
    """Two faces, and pictures of nothing."""
    rng = np.random.default_rng(7)
    patches = tuple(rng.integers(0, 256, (50, 60, 3), np.uint8) for _ in range(2))
    return Sources((draw_face(96), draw_face(120)), patches)


def parts_of(sources: Sources) -> tuple[tuple[Face, ...], tuple[Picture, ...]]:
    return sources.faces, sources.patches


def scene_maker(sources: Sources) -> Callable[[int], Scene]:
    """What makes a scene by its number."""

    def make(index: int) -> Scene:
        return make_scene(np.random.default_rng([3, index]), *parts_of(sources), 128)

    return make


def cartoon_scenes(sources: Sources, folder: Path) -> Scenes:
    """Thirty scenes, kept in a folder."""
    return build_scenes(scene_maker(sources), 30, 128, path=folder / "toy.npy")
