"""Scenes with several small faces, as a detector meets them."""

import dataclasses
import functools

import numpy as np

from ._backgrounds import random_background
from ._degrade import degrade, occlude
from ._sampler import SampleConfig, Sampler, faceless, head_over, portrait_over

_ABOVE, _BELOW, _BESIDE = 1.6, 2.6, 2.4  # of a face's size: what is redrawn around its middle
_APART = 0.75  # of the sum of two faces' sizes: the least distance between their middles
_BODY = 1.3, 1.4, 2.6  # of a face's size: what a person hides beside, above and below its middle
_HIDDEN = 0.5  # share of a face's landmarks; with fewer in sight, it is none that must be found
_PIECES = 10  # at most, of other backgrounds
_TRIES = 40


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
    """A picture and all faces in it; `doubtful` ones are mostly hidden or out of the picture."""

    image: np.ndarray  # (h, w, 3) uint8
    boxes: np.ndarray  # (k, 4) x0 y0 x1 y1, px, tight around the landmarks
    landmarks: np.ndarray  # (k, 68, 2) px
    visible: np.ndarray  # (k, 68) bool: not hidden by the own head, a thing or the border
    doubtful: np.ndarray  # (k,) bool


def sample_scene(
    sampler: Sampler,
    rng: np.random.Generator,
    *,
    people: np.ndarray | None = None,
    config: SceneConfig = SceneConfig(),
) -> Scene:
    """Draws a cluttered picture with some faces; those that come later may cover others' bodies.

    Args:
        people: numbers to choose from, by default those of the training set.
    """
    people = sampler.of_split("train") if people is None else people
    height, width = config.height, config.width
    canvas = _wall(rng, sampler, people, config)
    pose = SampleConfig(yaw=config.yaw, pitch=config.pitch, roll=config.roll)
    boxes, landmarks, visible, covered = [], [], [], []
    for face, middle in _places(rng, config):
        corner, piece = _piece(canvas, face, middle)
        if rng.random() < config.heads:
            drawn = head_over(sampler, rng, piece, face, middle - corner, config=pose)
        else:
            person = int(people[rng.integers(len(people))])
            drawn = portrait_over(sampler, rng, person, piece, face, middle - corner, config=pose)
        image, shown = drawn.image, drawn.visible
        if rng.random() < config.occlude:
            image, hidden = occlude(rng, image, drawn.landmarks)
            shown = shown & ~_at(hidden, drawn.landmarks)
        changed = np.zeros((height, width), bool)
        rows, columns = (slice(c, c + n) for c, n in zip(corner[::-1], piece.shape, strict=False))
        changed[rows, columns] = (piece != image).any(axis=2)
        piece[:] = image
        for number, points in enumerate(landmarks):
            lost = _at(changed, points)
            covered[number] |= lost
        boxes.append(drawn.box + np.tile(corner, 2))
        landmarks.append(drawn.landmarks + corner)
        visible.append(shown)
        covered.append(~_within(landmarks[-1], width, height))
    shape = (len(boxes), 68)
    lost = np.array(covered, bool).reshape(shape)
    return Scene(
        image=degrade(rng, canvas, strength=config.degrade),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        landmarks=np.array(landmarks, np.float32).reshape(*shape, 2),
        visible=np.array(visible, bool).reshape(shape) & ~lost,
        doubtful=lost.mean(axis=1) > _HIDDEN,
    )


def _wall(
    rng: np.random.Generator, sampler: Sampler, people: np.ndarray, config: SceneConfig
) -> np.ndarray:
    """A background on which pieces of other backgrounds hang."""
    height, width = config.height, config.width
    photograph = functools.partial(faceless, rng, sampler, people)
    canvas = random_background(rng, height, width, photograph=photograph)
    for _ in range(rng.integers(0, _PIECES + 1)):
        high = int(height * rng.uniform(0.08, 0.6))
        wide = int(width * rng.uniform(0.08, 0.6))
        top, left = rng.integers(height - high), rng.integers(width - wide)
        piece = random_background(rng, high, wide, photograph=photograph)
        canvas[top : top + high, left : left + wide] = piece
    return canvas


def _within(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """Which points (k, 2) lie in the picture."""
    x, y = np.rint(points).T
    return (x >= 0) & (y >= 0) & (x < width) & (y < height)


def _at(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values (k,) of a mask (h, w) at points (k, 2) px."""
    limits = np.array(mask.shape[::-1]) - 1
    x, y = np.clip(np.rint(points), 0, limits).astype(int).T
    return mask[y, x]


def _places(rng: np.random.Generator, config: SceneConfig) -> list[tuple[float, np.ndarray]]:
    """Sizes and middles of faces that do not cover each other, small ones (far away) first."""
    found: list[tuple[float, np.ndarray]] = []
    limits = np.array([config.width, config.height])
    for _ in range(rng.integers(config.faces[0], config.faces[1] + 1)):
        for _ in range(_TRIES):
            largest = min(config.size[1], 0.8 * min(limits))
            face = float(np.exp(rng.uniform(*np.log([config.size[0], largest]))))
            middle = rng.uniform(0.55 * face, limits - 0.55 * face)
            if not any(_collide(face, middle, size, other) for size, other in found):
                found.append((face, middle))
                break
    return sorted(found, key=lambda place: place[0])


def _collide(face: float, middle: np.ndarray, size: float, other: np.ndarray) -> bool:
    """Whether two faces overlap, or the smaller lies where the larger's body will be drawn."""
    if np.linalg.norm(middle - other) < _APART * (face + size):
        return True
    large, small = (
        ((face, middle), (size, other)) if face > size else ((size, other), (face, middle))
    )
    x, y = small[1] - large[1]
    beside, above, below = np.array(_BODY) * large[0] + 0.5 * small[0]
    return bool(abs(x) < beside and -above < y < below)


def _piece(canvas: np.ndarray, face: float, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Top left corner (2,) and view of the piece of a picture in which a person is drawn."""
    limits = np.array(canvas.shape[1::-1])
    low = np.clip(np.floor(middle - face * np.array([_BESIDE, _ABOVE])), 0, limits).astype(int)
    high = np.clip(np.ceil(middle + face * np.array([_BESIDE, _BELOW])), 0, limits).astype(int)
    return low, canvas[low[1] : high[1], low[0] : high[0]]
