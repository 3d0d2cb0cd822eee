"""Scenes with several small faces, as a detector meets them."""

import dataclasses

import numpy as np

from ._degrade import degrade, occlude
from ._sample import Sample
from ._samples import SampleConfig, Sampler, head_over, portrait_over
from ._scenes import random_background

_ABOVE, _BELOW, _BESIDE = 1.6, 3.0, 2.4  # of a face's size: what is redrawn around its middle
_APART = 0.75  # of the sum of two faces' sizes: the least distance between their middles
_TRIES = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """Ranges of scenes; angles in degrees."""

    height: int = 360
    width: int = 480
    faces: tuple[int, int] = (1, 6)  # how many, both ends included
    size: tuple[float, float] = (20.0, 200.0)  # longer side of a face's box, px
    heads: float = 0.25  # share of made-up heads
    yaw: float = 60.0
    pitch: float = 25.0
    roll: float = 30.0
    occlude: float = 0.15  # chance of something in front of a face
    degrade: float = 1.0


@dataclasses.dataclass(frozen=True)
class Scene:
    """A picture and all faces in it."""

    image: np.ndarray  # (h, w, 3) uint8
    boxes: np.ndarray  # (k, 4) x0 y0 x1 y1, px, tight around the landmarks
    landmarks: np.ndarray  # (k, 68, 2) px
    visible: np.ndarray  # (k, 68) bool: not hidden by the own head, a thing or the border


def sample_scene(
    sampler: Sampler,
    rng: np.random.Generator,
    *,
    people: np.ndarray | None = None,
    config: SceneConfig = SceneConfig(),
) -> Scene:
    """Draws a cluttered picture with some faces; those that come later may cover others' bodies.

    Args:
        people: numbers to choose from, by default those of the training part.
    """
    people = sampler.of_split("train") if people is None else people
    height, width = config.height, config.width
    canvas = random_background(rng, height, width)
    pose = SampleConfig(yaw=config.yaw, pitch=config.pitch, roll=config.roll)
    samples = []
    for face, middle in _places(rng, config):
        corner, part = _part(canvas, face, middle)
        if rng.random() < config.heads:
            drawn = head_over(sampler, rng, part, face, middle - corner, config=pose)
        else:
            person = int(people[rng.integers(len(people))])
            drawn = portrait_over(sampler, rng, person, part, face, middle - corner, config=pose)
        image, visible = drawn.image, drawn.visible
        if rng.random() < config.occlude:
            image, hidden = occlude(rng, image, drawn.landmarks)
            limits = np.array(image.shape[1::-1]) - 1
            x, y = np.clip(np.rint(drawn.landmarks), 0, limits).astype(int).T
            visible = visible & ~hidden[y, x]
        part[:] = image
        samples.append(_moved(drawn, corner, visible))
    return Scene(
        image=degrade(rng, canvas, strength=config.degrade),
        boxes=np.array([box for box, _, _ in samples], np.float32).reshape(-1, 4),
        landmarks=np.array([points for _, points, _ in samples], np.float32).reshape(-1, 68, 2),
        visible=np.array([shown for _, _, shown in samples], bool).reshape(-1, 68),
    )


def _places(rng: np.random.Generator, config: SceneConfig) -> list[tuple[float, np.ndarray]]:
    """Sizes and middles of faces that do not cover each other, small ones (far away) first."""
    found: list[tuple[float, np.ndarray]] = []
    limits = np.array([config.width, config.height])
    for _ in range(rng.integers(config.faces[0], config.faces[1] + 1)):
        for _ in range(_TRIES):
            largest = min(config.size[1], 0.8 * min(limits))
            face = float(np.exp(rng.uniform(*np.log([config.size[0], largest]))))
            middle = rng.uniform(0.55 * face, limits - 0.55 * face)
            distances = (np.linalg.norm(middle - other) for _, other in found)
            sizes = (face + size for size, _ in found)
            if all(d > _APART * s for d, s in zip(distances, sizes, strict=True)):
                found.append((face, middle))
                break
    return sorted(found, key=lambda place: place[0])


def _part(canvas: np.ndarray, face: float, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Top left corner (2,) and view of the part of a picture in which a person is drawn."""
    limits = np.array(canvas.shape[1::-1])
    low = np.clip(np.floor(middle - face * np.array([_BESIDE, _ABOVE])), 0, limits).astype(int)
    high = np.clip(np.ceil(middle + face * np.array([_BESIDE, _BELOW])), 0, limits).astype(int)
    return low, canvas[low[1] : high[1], low[0] : high[0]]


def _moved(
    drawn: Sample, corner: np.ndarray, visible: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Box, landmarks and visibility in the whole picture."""
    return drawn.box + np.tile(corner, 2), drawn.landmarks + corner, visible
