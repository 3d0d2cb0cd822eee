"""Random expressions of the head model's FACS-like shapes."""

import numpy as np

from ..data import HeadModel

# Shapes that people make together; a name without side stands for both sides.
_BROWS = (("browDown",), ("browInnerUp",), ("browOuterUp",), ("browInnerUp", "browOuterUp"))
_EYES = (("eyeBlink",), ("eyeBlink",), ("eyeSquint",), ("eyeWide",), ("cheekRaiser", "eyeSquint"))
_MOUTHS = (
    ("mouthSmile",),
    ("mouthSmile", "cheekRaiser"),
    ("mouthSmile", "mouthUpperUp", "cheekSquint"),
    ("mouthFrown",),
    ("mouthFrown", "mouthShrugLower"),
    ("mouthStretch",),
    ("mouthPress",),
    ("mouthDimple",),
    ("mouthPucker",),
    ("mouthFunnel",),
    ("mouthRollLower", "mouthRollUpper"),
    ("mouthShrugLower", "mouthShrugUpper"),
    ("mouthUpperUp", "noseSneer"),
    ("mouthLowerDown",),
    ("mouthLeft",),
    ("mouthRight",),
    ("jawLeft",),
    ("jawRight",),
    ("jawForward",),
    ("noseSneer",),
    ("cheekPuff",),
)
_BROW_CHANCE, _EYE_CHANCE, _MOUTH_CHANCE, _JAW_CHANCE = 0.4, 0.4, 0.6, 0.4
_SHUT = (0.5, 0.85)  # share of the blinks that close the eyes, and from which strength on
_ONE_SIDED = 0.12  # chance that left and right differ
_LOOK_RANGE = np.radians(25)  # of the gaze at which an eyeLook shape has weight 1


def random_expression(rng: np.random.Generator, head: HeadModel) -> np.ndarray:
    """Weights (57,), 0 to 1: each region of the face by itself, often at rest."""
    weights = np.zeros(len(head.expression_names), np.float32)
    regions = ((_BROWS, _BROW_CHANCE), (_EYES, _EYE_CHANCE), (_MOUTHS, _MOUTH_CHANCE))
    for groups, chance in regions:
        if rng.random() < chance:
            names = groups[rng.integers(len(groups))]
            shut = names == ("eyeBlink",) and rng.random() < _SHUT[0]
            strength = rng.uniform(_SHUT[1] if shut else 0.1, 1.0)
            for name in names:
                _set(rng, head, weights, name, strength)
    if rng.random() < _JAW_CHANCE:
        weights[head.expression_index("jawOpen")] = rng.uniform(0, 1) ** 1.5
    return weights


def _set(
    rng: np.random.Generator, head: HeadModel, weights: np.ndarray, name: str, strength: float
) -> None:
    if name in head.expression_names:
        weights[head.expression_index(name)] = strength
        return
    sides = np.full(2, strength)
    if rng.random() < _ONE_SIDED:
        sides[rng.integers(2)] *= rng.uniform(0, 0.6)
    for side, value in zip("LR", sides, strict=True):
        weights[head.expression_index(f"{name}_{side}")] = value


def lids_follow(head: HeadModel, weights: np.ndarray, pitch: float, yaw: float) -> np.ndarray:
    """Adds the eyeLook shapes, which move the lids, to weights (57,).

    Args:
        pitch, yaw: of the gaze in the head frame, rad; positive looks down, and to the right of a
            frontal picture.
    """
    weights = weights.copy()
    down, right = np.clip(np.array([pitch, yaw]) / _LOOK_RANGE, -1, 1)
    values = {"Down": down, "Up": -down}
    for side, outward in (("L", right), ("R", -right)):
        for name, value in {**values, "Out": outward, "In": -outward}.items():
            weights[head.expression_index(f"eyeLook{name}_{side}")] = max(value, 0)
    return weights
