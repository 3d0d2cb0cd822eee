"""Which action units the head model's expression shapes teach, and how strongly a face shows them.

Left out are units that no shape expresses by itself: AU23 (the nearest shape, mouthPress, is
AU24, which the package does not report).
"""

import numpy as np

from ..data import HeadModel

FULL = 5.0  # intensity of a shape at weight 1
PRESENT = 1.0  # intensity from which a unit counts as present
_OPEN = 12.0  # mm between the lips at which they count as fully parted
_CLOSED = 0.5  # mm between the lips that no one sees
_LIPS = ((61, 67), (62, 66), (63, 65))  # landmarks of the upper and the lower inner lip

# The shapes of each unit; a name without side stands for the mean of both sides. Of several shapes
# the strongest counts. No shape: the gap between the lips.
SHAPES: dict[str, tuple[str, ...]] = {
    "AU01": ("browInnerUp",),
    "AU02": ("browOuterUp",),
    "AU04": ("browDown",),
    "AU05": ("eyeWide",),
    "AU06": ("cheekRaiser", "cheekSquint"),
    "AU07": ("eyeSquint",),
    "AU09": ("noseSneer",),
    "AU10": ("mouthUpperUp",),
    "AU12": ("mouthSmile",),
    "AU14": ("mouthDimple",),
    "AU15": ("mouthFrown",),
    "AU17": ("mouthShrugLower",),
    "AU20": ("mouthStretch",),
    "AU25": (),
    "AU26": ("jawOpen",),
    "AU28": ("mouthRollLower", "mouthRollUpper"),
    "AU45": ("eyeBlink",),
}
UNITS = tuple(SHAPES)
INTENSITY_UNITS = tuple(name for name in UNITS if name != "AU28")  # OpenFace has no AU28_r


def sides_of(head: HeadModel, name: str) -> np.ndarray:
    """Shapes (k,) of the head model that a name without side stands for: one, or left and right.

    Raises:
        ValueError: the head model has no such shape.
    """
    names = [name] if name in head.expression_names else [f"{name}_L", f"{name}_R"]
    missing = [side for side in names if side not in head.expression_names]
    if missing:
        raise ValueError(f"head model: expected the expression shape {name}, found none")
    return np.array([head.expression_index(side) for side in names])


def lip_gap(points: np.ndarray) -> float:
    """Mean distance, mm, between the inner lips of landmarks (68, 3), mm."""
    upper, lower = np.array(_LIPS).T
    return float(np.linalg.norm(points[upper] - points[lower], axis=1).mean())


def label_units(head: HeadModel, weights: np.ndarray, gap: float) -> np.ndarray:
    """Intensities (units,), 0 to 5, in the order of `UNITS`.

    Args:
        weights: (57,) of the expression shapes, 0 to 1.
        gap: between the lips, mm.
    """
    intensities = []
    for shapes in SHAPES.values():
        if shapes:
            strength = max(float(weights[sides_of(head, shape)].mean()) for shape in shapes)
        else:
            strength = (gap - _CLOSED) / (_OPEN - _CLOSED)
        intensities.append(FULL * np.clip(strength, 0, 1))
    return np.array(intensities, np.float32)
