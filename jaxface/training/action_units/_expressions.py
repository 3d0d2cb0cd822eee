"""Expressions that show each action unit alone, in natural company, and graded."""

import numpy as np

from ..data import HeadModel
from ._labels import sides_of

# What people do with a region of the face; shapes of one entry go together. Those of the last list
# show no unit and are there to be told from the others.
_BROWS = (
    ("browInnerUp",),
    ("browInnerUp",),
    ("browOuterUp",),
    ("browInnerUp", "browOuterUp"),
    ("browOuterUp", "browInnerUp"),
    ("browOuterUp", "browInnerUp"),
    ("browInnerUp", "browOuterUp", "eyeWide"),
    ("browOuterUp", "browInnerUp", "eyeWide"),
    ("browDown",),
    ("browDown",),
    ("browDown", "browInnerUp"),
    ("browDown", "noseSneer"),
    ("browDown", "eyeSquint"),
)
_EYES = (
    ("eyeBlink",),
    ("eyeBlink",),
    ("eyeBlink",),
    ("eyeWide",),
    ("eyeWide",),
    ("eyeSquint",),
    ("eyeSquint",),
    ("eyeSquint", "cheekSquint"),
    ("cheekRaiser", "cheekSquint"),
    ("cheekRaiser",),
)
_MOUTHS = (
    ("mouthSmile",),
    ("mouthSmile", "cheekRaiser"),
    ("mouthSmile", "cheekSquint", "eyeSquint"),
    ("mouthSmile", "cheekRaiser", "cheekSquint", "mouthUpperUp"),
    ("mouthDimple",),
    ("mouthDimple",),
    ("mouthDimple", "mouthSmile"),
    ("mouthFrown",),
    ("mouthFrown",),
    ("mouthFrown", "browDown"),
    ("mouthFrown", "mouthShrugLower"),
    ("mouthShrugLower",),
    ("mouthShrugLower",),
    ("mouthShrugLower", "mouthShrugUpper"),
    ("mouthStretch",),
    ("mouthStretch",),
    ("mouthStretch", "mouthLowerDown"),
    ("mouthUpperUp",),
    ("mouthUpperUp", "noseSneer"),
    ("noseSneer",),
    ("noseSneer",),
    ("mouthRollLower", "mouthRollUpper"),
    ("mouthRollUpper", "mouthRollLower"),
    ("mouthRollLower",),
)
_OTHERS = (
    ("mouthPress",),
    ("mouthPucker",),
    ("mouthFunnel",),
    ("mouthLowerDown",),
    ("mouthUpperUp", "mouthLowerDown"),
    ("mouthLeft",),
    ("mouthRight",),
    ("cheekPuff",),
    ("jawForward",),
)
_CHANCES = ((_BROWS, 0.4), (_EYES, 0.45), (_MOUTHS, 0.55), (_OTHERS, 0.15))
_AT_REST = 4  # one picture in so many shows nothing
_JAW, _JAW_CLOSED = 0.35, 0.1  # chance of an open jaw, and that the lips stay closed over it
_WEAKER = (0.4, 1.0)  # of the other shapes of an entry, as a share of the first one's strength
_ONE_SIDED = 0.1  # chance that the sides differ
_REST_CHANCE, _REST = 0.3, 0.15  # of a region of the face that is never quite at rest, and how much
_RESTING = ("browDown", "browInnerUp", "eyeSquint", "eyeBlink", "mouthFrown", "mouthSmile")


def resting_face(rng: np.random.Generator, head: HeadModel) -> np.ndarray:
    """Weights (57,) of what a person shows at rest: little, mostly nothing."""
    weights = np.zeros(len(head.expression_names), np.float32)
    for name in _RESTING:
        if rng.random() < _REST_CHANCE:
            weights[sides_of(head, name)] = rng.uniform(0, _REST)
    if rng.random() < _REST_CHANCE:
        weights[head.expression_index("jawOpen")] = rng.uniform(0, _REST)
    return weights


def expression_series(rng: np.random.Generator, head: HeadModel, count: int) -> np.ndarray:
    """Weights (count, 57), 0 to 1, of one person: some at rest, the others at random.

    Each region of the face moves by itself and is at rest in most pictures, as in a video.
    """
    series = [np.zeros(len(head.expression_names), np.float32) for _ in range(count)]
    for weights in series[count // _AT_REST :]:
        for entries, chance in _CHANCES:
            if rng.random() < chance:
                _show(rng, head, weights, entries[rng.integers(len(entries))])
        if rng.random() < _JAW:
            _open_jaw(rng, head, weights)
    return np.stack(series)


def _show(
    rng: np.random.Generator, head: HeadModel, weights: np.ndarray, entry: tuple[str, ...]
) -> None:
    strength = rng.uniform(0.1, 1.0)
    for place, name in enumerate(entry):
        share = strength * (rng.uniform(*_WEAKER) if place else 1)
        sides = sides_of(head, name)
        values = np.full(len(sides), share)
        if len(sides) == 2 and rng.random() < _ONE_SIDED:
            values[rng.integers(2)] *= rng.uniform(0.2, 0.8)
        weights[sides] = np.maximum(weights[sides], values)


def _open_jaw(rng: np.random.Generator, head: HeadModel, weights: np.ndarray) -> None:
    """Opens the jaw, rarely wide; sometimes the lips stay together."""
    strength = rng.uniform(0, 1) ** 1.5
    weights[head.expression_index("jawOpen")] = strength
    if rng.random() < _JAW_CLOSED:
        weights[head.expression_index("mouthClose")] = strength
