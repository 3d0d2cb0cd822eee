"""Pictures with faces at known places: portraits pasted into clutter, then spoilt like snapshots.

A scene follows from its seed alone, so scenes are made anew instead of stored.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from ..render import lay_over
from ._clutter import Picture, make_clutter

Generator = np.random.Generator

_COUNTS = (0, 1, 2, 4, 8, 14)  # faces tried per scene
_ODDS = (0.12, 0.36, 0.2, 0.16, 0.1, 0.06)
_COVERED = 0.15  # share of a face that a later one may hide
_LIKE = 0.8  # correlation of a face with itself unspoilt, below which it is ignored
_CONTRAST = 6.0  # grey levels; standard deviation of 12 x 12 means, below which it is ignored
_SMALLEST = 20.0  # px, width of the landmarks' box


@dataclasses.dataclass(frozen=True)
class Face:
    """A photograph or rendering of one face."""

    image: Picture
    landmarks: Float32[np.ndarray, "68 2"]  # px
    matte: UInt8[np.ndarray, "h w"]  # 255 where the person is
    whole: bool  # a photograph, whose own background may be shown


@dataclasses.dataclass(frozen=True)
class Scene:
    """A picture and the landmarks of all faces in it."""

    image: Picture
    landmarks: Float32[np.ndarray, "f 68 2"]  # px
    # Faces that hardly show: neither to be found nor to be rejected.
    ignored: Float32[np.ndarray, "g 68 2"]


def _head_mask(rng: Generator, face: Face) -> UInt8[np.ndarray, "h w"]:
    """What of a picture is pasted: all, the person, or an oval around the head."""
    kind = rng.random()
    if face.whole and kind < 0.3:
        return np.full(face.matte.shape, 255, np.uint8)
    if kind < 0.75:
        return face.matte
    low, high = face.landmarks.min(0), face.landmarks.max(0)
    size, middle = float((high - low).mean()), (low + high) / 2
    wide, tall = rng.uniform(0.6, 0.85) * size, rng.uniform(0.75, 1.05) * size
    mask = np.zeros(face.matte.shape, np.uint8)
    center = (int(middle[0]), int(middle[1] - 0.15 * size))
    cv2.ellipse(mask, center, (int(wide), int(tall)), 0, 0, 360, 255, -1)
    blur = 2 * int(rng.choice([0.01, 0.04, 0.1]) * size) + 1
    mask = cv2.GaussianBlur(mask, (blur, blur), 0)
    return mask if face.whole else np.minimum(mask, face.matte)


def _shrink(face: Face, mask: np.ndarray, ratio: float) -> tuple[Face, np.ndarray]:
    """Halves photograph and mask while the paste would halve them anyway, against aliasing."""
    while ratio < 0.5 and min(face.image.shape[:2]) >= 32:
        size = (face.image.shape[1] // 2, face.image.shape[0] // 2)
        scale = np.array(size, np.float32) / face.image.shape[1::-1]
        image = cv2.resize(face.image, size, interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
        landmarks = (face.landmarks + np.float32(0.5)) * scale - np.float32(0.5)
        face = dataclasses.replace(face, image=image, landmarks=landmarks.astype(np.float32))
        ratio *= 2
    return face, mask


def _tint(rng: Generator, image: Picture) -> Picture:
    """Another exposure and skin tone."""
    if rng.random() < 0.3:
        return image
    gamma, gain = np.exp(rng.normal(0, 0.3)), rng.uniform(0.7, 1.2, 3)
    table = 255 * (np.arange(256)[:, None] / 255) ** gamma * gain
    return cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8)[None])


def _placement(
    rng: Generator, face: Face, width: float, shape: tuple[int, ...]
) -> Float32[np.ndarray, "2 3"]:
    """Affine map that puts a face `width` px wide somewhere, turned and slightly sheared."""
    low, high = face.landmarks.min(0), face.landmarks.max(0)
    roll = rng.uniform(-40, 40) if rng.random() < 0.35 else rng.normal(0, 8)
    roll = np.deg2rad(roll)
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    linear = turn @ np.array([[1, rng.normal(0, 0.05)], [0, np.exp(rng.normal(0, 0.06))]])
    linear *= width / float((high - low)[0])
    if rng.random() < 0.5:
        linear = linear @ np.diag([-1.0, 1.0])
    room = 0.25 * width
    target = rng.uniform((room, room), (shape[1] - room, shape[0] - room))
    if room * 2 >= min(shape[:2]):
        target = np.array([shape[1], shape[0]]) / 2 + rng.normal(0, 0.05 * width, 2)
    offset = target - linear @ ((low + high) / 2)
    return np.concatenate([linear, offset[:, None]], axis=1).astype(np.float32)


def mirror_landmarks(landmarks: Float32[np.ndarray, "68 2"]) -> Float32[np.ndarray, "68 2"]:
    """Renumbers the landmarks of a mirrored face, so that the lower numbers lie left again."""
    return landmarks[_MIRRORED]


_MIRRORED = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)]
)


def _covered(alpha: np.ndarray, landmarks: np.ndarray) -> float:
    """Share of a face's box that a paste would hide."""
    low, high = np.maximum(landmarks.min(0), 0).astype(int), landmarks.max(0).astype(int) + 1
    return float(alpha[low[1] : high[1], low[0] : high[0]].mean() / 255)


def _paste(
    rng: Generator, image: Picture, face: Face, width: float, taken: list[np.ndarray]
) -> np.ndarray | None:
    """Pastes a face unless it would cover another one; returns its landmarks."""
    matrix = _placement(rng, face, width, image.shape)
    landmarks = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
    low, high = landmarks.min(0), landmarks.max(0)
    shift = np.array([0, 0.3]) * (high - low)
    for other in taken:
        reach = np.minimum(high, other.max(0)) - np.maximum(low - shift, other.min(0))
        if np.all(reach > 0):
            return None
    inside = np.minimum(high, image.shape[1::-1]) - np.maximum(low, 0)
    if np.prod(np.maximum(inside, 0)) < 0.7 * np.prod(high - low):
        return None
    mask = _head_mask(rng, face)
    ratio = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    small, mask = _shrink(face, mask, ratio)
    back = np.array(face.image.shape[1::-1]) / small.image.shape[1::-1]
    matrix[:, 2] += matrix[:, :2] @ (0.5 * back - 0.5).astype(np.float32)
    matrix[:, :2] *= back.astype(np.float32)
    size = image.shape[1::-1]
    warped = cv2.warpAffine(_tint(rng, small.image), matrix, size)
    alpha = cv2.warpAffine(mask, matrix, size)
    if any(_covered(alpha, other) > _COVERED for other in taken):
        return None
    image[:] = lay_over(warped, image, alpha)
    return mirror_landmarks(landmarks) if np.linalg.det(matrix[:, :2]) < 0 else landmarks


def _occlude(rng: Generator, image: Picture, landmarks: np.ndarray) -> None:
    """Hides a region of one face behind something."""
    low, high = landmarks.min(0), landmarks.max(0)
    size = high - low
    color = tuple(float(c) for c in rng.uniform(0, 255, 3))
    extent = rng.uniform(0.15, 0.45, 2) * size
    edge = rng.choice([-0.1, 0.7], 2) + rng.uniform(0, 0.4, 2)
    edge[int(rng.integers(2))] = rng.uniform(-0.2, 0.9)
    start = (low + edge * size).astype(int)
    end = (start + extent + 1).astype(int)
    if rng.random() < 0.5:
        cv2.rectangle(image, start.tolist(), end.tolist(), color, -1)
    else:
        axes = np.maximum((end - start) // 2, 1).tolist()
        cv2.ellipse(image, start.tolist(), axes, float(rng.uniform(0, 180)), 0, 360, color, -1)


def _blur(rng: Generator, image: np.ndarray) -> np.ndarray:
    if rng.random() < 0.3:
        length = int(rng.integers(2, 9))
        kernel = np.zeros((9, 9), np.float32)
        angle = rng.uniform(0, np.pi)
        reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        ends = [(4 + sign * reach).astype(int).tolist() for sign in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0, 1)
        return cv2.filter2D(image, -1, kernel / kernel.sum())
    return cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 2.5)))


def degrade(rng: Generator, image: Picture) -> Picture:
    """Spoils a picture as cameras do: dark, grey, soft, noisy, compressed, coarse."""
    out = image
    if rng.random() < 0.2:
        height, width = out.shape[:2]
        ratio = rng.uniform(0.35, 0.9)
        size = (int(width * ratio), int(height * ratio))
        out = cv2.resize(out, size, interpolation=cv2.INTER_AREA)
        out = cv2.resize(out, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.35:
        out = _blur(rng, out)
    gamma = np.exp(rng.normal(0, 0.35))
    gain = rng.uniform(0.15, 0.6) if rng.random() < 0.3 else rng.uniform(0.7, 1.3)
    cast = np.exp(rng.normal(0, 0.12, 3))
    values = 255 * (np.arange(256)[:, None] / 255) ** gamma * gain * cast + rng.normal(0, 10)
    out = cv2.LUT(out, np.clip(values, 0, 255).astype(np.uint8)[None])
    if rng.random() < 0.25:
        out = np.repeat(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if rng.random() < 0.5:
        sigma = rng.uniform(1, 22)
        channels = 1 if rng.random() < 0.4 else 3
        grain = rng.normal(0, sigma, (*out.shape[:2], channels))
        out = np.clip(out + grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(12, 92))]
        out = cv2.imdecode(cv2.imencode(".jpg", out, quality)[1], cv2.IMREAD_COLOR)
    return np.ascontiguousarray(out)


def make_scene(
    rng: Generator, faces: Sequence[Face], patches: Sequence[Picture], size: int
) -> Scene:
    """Composes one square picture.

    Args:
        rng: decides everything.
        faces: to choose from.
        patches: pieces of photographs without a face, for the background.
        size: px.
    """
    image = make_clutter(rng, size, size, patches)
    count = int(rng.choice(_COUNTS, p=_ODDS))
    largest = {1: 0.85, 2: 0.5, 4: 0.35, 8: 0.25, 14: 0.18}.get(count, 0.85) * size
    widths = np.exp(rng.uniform(np.log(_SMALLEST), np.log(largest), count))
    taken: list[np.ndarray] = []
    for width in np.sort(widths)[::-1]:
        face = faces[int(rng.integers(len(faces)))]
        landmarks = _paste(rng, image, face, float(width), taken)
        if landmarks is not None:
            taken.append(landmarks)
    for landmarks in taken:
        if rng.random() < 0.15:
            _occlude(rng, image, landmarks)
    spoilt = degrade(rng, image)
    return divide_faces(
        spoilt, taken, [_likeness(image, spoilt, landmarks) > _LIKE for landmarks in taken]
    )


def divide_faces(image: Picture, faces: Sequence[np.ndarray], shown: Sequence[bool]) -> Scene:
    """A scene that ignores what is not shown, and what has hardly any contrast.

    Args:
        image: the picture.
        faces: landmarks (68, 2) of each face, px.
        shown: of each face.
    """
    clear = [
        bool(seen) and float(_thumbnail(image, landmarks).std()) > _CONTRAST
        for landmarks, seen in zip(faces, shown, strict=True)
    ]
    split = [
        [f for f, c in zip(faces, clear, strict=True) if c is wanted] for wanted in (True, False)
    ]
    seen, ignored = (np.array(faces, np.float32).reshape(-1, 68, 2) for faces in split)
    return Scene(image, seen, ignored)


def _thumbnail(image: Picture, landmarks: np.ndarray) -> Float32[np.ndarray, "12 12"]:
    """A face at P-Net's resolution, grey."""
    low = np.maximum(landmarks.min(0), 0).astype(int)
    high = np.maximum(landmarks.max(0).astype(int) + 1, low + 1)
    piece = image[low[1] : high[1], low[0] : high[0]].mean(-1, dtype=np.float32)
    if piece.size == 0:
        return np.zeros((12, 12), np.float32)
    return cv2.resize(piece, (12, 12), interpolation=cv2.INTER_AREA)


def _likeness(clean: Picture, spoilt: Picture, landmarks: np.ndarray) -> float:
    """Correlation of a face with what it was before the picture was spoilt."""
    a, b = (_thumbnail(image, landmarks).ravel() for image in (clean, spoilt))
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-6))
