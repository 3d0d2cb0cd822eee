"""What the networks learn from: crops of scenes, sorted by their overlap with the faces.

Boxes are x y w h, px, as inside `jaxface.detect`. The box that the networks learn reaches from
the forehead to under the chin, so that a square around it holds the whole face; `LANDMARK_FRAME`
leads from it to the box tight around the 68 landmarks.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float32, Int, Int8, UInt8

from ...detect import BoxFrame

_ABOVE, _BELOW = 0.25, 0.05  # added to the landmarks' box, in its heights
_HEIGHT = 1 + _ABOVE + _BELOW
LANDMARK_FRAME: BoxFrame = (0.0, _ABOVE / _HEIGHT, 1.0, 1 / _HEIGHT)

NEGATIVE, PARTIAL, POSITIVE = 0, 1, 2
# Overlap with a face from which, and below which, a square is of a kind.
_LIMITS = {NEGATIVE: (0.0, 0.3), PARTIAL: (0.4, 0.62), POSITIVE: (0.62, 1.01)}
_TOUCHED = 0.3  # share of the smaller of two boxes
_CELL = 12  # px that a P-Net cell sees, 11 of which it calls its box


@dataclasses.dataclass(frozen=True)
class Crops:
    """Crops of one network with their labels; `save_crops` puts them on disk."""

    images: UInt8[np.ndarray, "n s s 3"]
    kinds: Int8[np.ndarray, " n"]  # NEGATIVE, PARTIAL or POSITIVE
    corrections: Float32[np.ndarray, "n 4"]  # dx0 dy0 dx1 dy1, in box sizes; 0 for negatives
    points: Float32[np.ndarray, "n 5 2"]  # fractions of the box; 0 for negatives

    def __len__(self) -> int:
        return len(self.kinds)


def face_boxes(landmarks: Float32[np.ndarray, "f 68 2"]) -> Float32[np.ndarray, "f 4"]:
    """The boxes that the networks learn, of faces with these landmarks."""
    low, high = landmarks.min(1), landmarks.max(1)
    extent = high - low
    top = low[:, 1] - np.float32(_ABOVE) * extent[:, 1]
    height = np.float32(_HEIGHT) * extent[:, 1]
    return np.stack([low[:, 0], top, extent[:, 0], height], axis=1)


def five_points(landmarks: Float32[np.ndarray, "f 68 2"]) -> Float32[np.ndarray, "f 5 2"]:
    """Middle of each eye, tip of the nose, corners of the mouth; left in the picture first."""
    eyes = [landmarks[:, 36:42].mean(1), landmarks[:, 42:48].mean(1)]
    return np.stack([*eyes, landmarks[:, 30], landmarks[:, 48], landmarks[:, 54]], axis=1)


def square_around(boxes: Float32[np.ndarray, "n 4"]) -> Float32[np.ndarray, "n 4"]:
    """Squares of the longer side, with the boxes' middles."""
    side = boxes[:, 2:].max(1, keepdims=True)
    return np.concatenate([boxes[:, :2] + (boxes[:, 2:] - side) / 2, side, side], axis=1)


def overlaps(
    a: Float32[np.ndarray, "n 4"], b: Float32[np.ndarray, "m 4"]
) -> Float32[np.ndarray, "n m"]:
    """Intersection over union of each box of `a` with each of `b`."""
    low = np.maximum(a[:, None, :2], b[:, :2])
    high = np.minimum((a[:, :2] + a[:, 2:])[:, None], b[:, :2] + b[:, 2:])
    shared = np.maximum(high - low, 0).prod(-1)
    return shared / (a[:, 2:].prod(1)[:, None] + b[:, 2:].prod(1) - shared)


def _contained(
    a: Float32[np.ndarray, "n 4"], b: Float32[np.ndarray, "m 4"]
) -> Float32[np.ndarray, "n m"]:
    """Intersection over the smaller of two boxes."""
    low = np.maximum(a[:, None, :2], b[:, :2])
    high = np.minimum((a[:, :2] + a[:, 2:])[:, None], b[:, :2] + b[:, 2:])
    area = [box[:, 2:].prod(1) for box in (a, b)]
    return np.maximum(high - low, 0).prod(-1) / np.minimum(area[0][:, None], area[1])


def match(
    squares: Float32[np.ndarray, "n 4"],
    landmarks: Float32[np.ndarray, "f 68 2"],
    ignored: Float32[np.ndarray, "g 68 2"] = np.zeros((0, 68, 2), np.float32),
) -> tuple[Int8[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Sorts squares by their overlap with the squares around the faces.

    Args:
        squares: x y w h, px.
        landmarks: of the faces.
        ignored: landmarks of faces that are neither; what touches them is left out.
    Returns:
        NEGATIVE, PARTIAL, POSITIVE, or -1 for those between; and the face that each overlaps most.
    """
    shared = overlaps(squares, square_around(face_boxes(landmarks)))
    best = shared.max(1, initial=0)
    nearest = shared.argmax(1) if len(landmarks) else np.zeros(len(squares), np.int64)
    kinds = np.full(len(squares), -1, np.int8)
    for kind, (low, high) in _LIMITS.items():
        kinds[(best >= low) & (best < high)] = kind
    touched = _contained(squares, square_around(face_boxes(ignored))) > _TOUCHED
    kinds[(kinds == NEGATIVE) & touched.any(1)] = -1
    return kinds, nearest


def random_squares(
    rng: np.random.Generator,
    landmarks: Float32[np.ndarray, "f 68 2"],
    size: tuple[int, int],
    *,
    near: int,
    anywhere: int,
) -> Float32[np.ndarray, "n 4"]:
    """Squares around faces, more or less displaced, and squares anywhere; integral.

    Args:
        rng: decides.
        landmarks: of the faces.
        size: height and width of the picture, px.
        near: squares per face.
        anywhere: squares in the picture.
    """
    faces = square_around(face_boxes(landmarks)) if len(landmarks) else np.zeros((0, 4))
    faces = np.repeat(faces, near, axis=0)
    spread = rng.choice([0.05, 0.12, 0.3], (len(faces), 1))
    side = faces[:, 2:3] * np.exp(rng.normal(0, 1.5, (len(faces), 1)) * spread)
    middle = faces[:, :2] + faces[:, 2:] / 2 + rng.normal(0, 1, (len(faces), 2)) * spread * side
    sides = np.exp(rng.uniform(np.log(16), np.log(min(size)), (anywhere, 1)))
    middles = rng.uniform(sides / 4, np.array(size[::-1]) - sides / 4)
    side, middle = np.concatenate([side, sides]), np.concatenate([middle, middles])
    squares = np.concatenate([middle - side / 2, side, side], axis=1)
    return np.round(squares).astype(np.float32)


def choose(
    rng: np.random.Generator, kinds: Int8[np.ndarray, " n"], most: tuple[int, int, int]
) -> Int[np.ndarray, " k"]:
    """Indices of at most so many negatives, partial faces and positives, at random; ascending."""
    chosen = []
    for kind, count in zip((NEGATIVE, PARTIAL, POSITIVE), most, strict=True):
        index = np.flatnonzero(kinds == kind)
        chosen.append(rng.permutation(index)[:count])
    return np.sort(np.concatenate(chosen))


def cut(image: UInt8[np.ndarray, "h w 3"], square: np.ndarray, side: int) -> np.ndarray:
    """What a network sees of a square: see `jaxface.detect`, and specification 01, A.9.

    P-Net's own windows follow from its pyramid: their squares are those of `cell_square`.
    """
    x, y, size = int(square[0]) - 1, int(square[1]) - 1, int(square[2]) + 1
    height, width = image.shape[:2]
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + size, width), min(y + size, height)
    if right <= left or bottom <= top:
        return np.zeros((side, side, 3), np.uint8)
    window = image[top:bottom, left:right]
    if window.shape[:2] != (size, size):
        margins = (top - y, y + size - bottom, left - x, x + size - right)
        window = cv2.copyMakeBorder(window, *margins, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    return cv2.resize(window, (side, side), interpolation=cv2.INTER_LINEAR)


def cell_box(square: Float32[np.ndarray, "n 4"]) -> Float32[np.ndarray, "n 4"]:
    """The box that P-Net claims for the window that `cut` takes for a square.

    A cell sees 12 px of its level, and calls the last 11 of them its box; dividing by the
    scale truncates half a pixel on average.
    """
    step = (square[:, 2:] + 1) / _CELL
    return np.concatenate([square[:, :2] - 1.5 + step, (_CELL - 1) * step], axis=1)


def label(
    squares: Float32[np.ndarray, "n 4"],
    landmarks: Float32[np.ndarray, "n 68 2"],
    *,
    inclusive: bool,
) -> tuple[Float32[np.ndarray, "n 4"], Float32[np.ndarray, "n 5 2"]]:
    """Corrections that turn squares into the boxes of faces, and the faces' five points.

    Args:
        squares: one per face.
        landmarks: of the faces.
        inclusive: sizes count one pixel more (O-Net).
    """
    boxes = face_boxes(landmarks)
    extent = squares[:, 2:] + np.float32(inclusive)
    low = (boxes[:, :2] - squares[:, :2]) / extent
    high = (boxes[:, :2] + boxes[:, 2:] - squares[:, :2] - extent) / extent
    points = (five_points(landmarks) - squares[:, None, :2]) / squares[:, None, 2:]
    return np.concatenate([low, high], axis=1), points


def make_crops(
    name: str,
    image: UInt8[np.ndarray, "h w 3"],
    landmarks: Float32[np.ndarray, "f 68 2"],
    ignored: Float32[np.ndarray, "g 68 2"],
    squares: Float32[np.ndarray, "n 4"],
    side: int,
    *,
    rng: np.random.Generator,
    most: tuple[int, int, int],
) -> Crops:
    """Cuts and labels crops of one picture.

    Args:
        name: "pnet", "rnet" or "onet".
        image: the picture.
        landmarks: of its faces.
        ignored: of faces that hardly show.
        squares: candidates; those that are of no kind go.
        side: of the crops, px.
        rng: decides which are kept.
        most: negatives, partial faces and positives kept.
    """
    claimed = cell_box(squares) if name == "pnet" else squares
    kinds, nearest = match(claimed, landmarks, ignored)
    index = choose(rng, kinds, most)
    kinds, nearest = kinds[index], nearest[index]
    images = np.zeros((len(index), side, side, 3), np.uint8)
    for row, square in enumerate(squares[index]):
        images[row] = cut(image, square, side)
    corrections = np.zeros((len(index), 4), np.float32)
    points = np.zeros((len(index), 5, 2), np.float32)
    faces = kinds != NEGATIVE
    if faces.any():
        corrections[faces], points[faces] = label(
            claimed[index][faces], landmarks[nearest[faces]], inclusive=name == "onet"
        )
    return Crops(images, kinds, corrections, points)


def join(sets: Sequence[Crops]) -> Crops:
    """All crops of several pictures."""
    fields = [field.name for field in dataclasses.fields(Crops)]
    return Crops(*(np.concatenate([getattr(crops, field) for crops in sets]) for field in fields))
