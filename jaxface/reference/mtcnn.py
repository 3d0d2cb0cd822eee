"""MTCNN face detection as OpenFace runs it.

Specification 01, 0.2 and A. Images are (h, w, 3), RGB, 0 to 255; maps are (channel, row, col);
boxes are x y w h, px, float32. Network sums are float64; what decides a threshold, a truncation
or an overlap is rounded to float32 where OpenFace's is.
"""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Layer:
    kind: str  # conv, prelu, pool or dense
    weight: Floats  # conv (out, in, kh, kw), prelu (channel,), dense (out, in); pool empty
    bias: Floats  # empty where the layer has none
    kernel: int = 0  # pool
    stride: int = 0  # pool


Net = list[Layer]


@dataclasses.dataclass(frozen=True)
class MTCNN:
    pnet: Net
    rnet: Net
    onet: Net
    landmark_frame: tuple[float, float, float, float]  # landmarks in a box, x y w h in box sizes


@dataclasses.dataclass
class Candidates:
    boxes: Floats32  # (n, 4)
    scores: Floats32
    corrections: Floats32  # (n, 4)

    def take(self, index: list[int]) -> "Candidates":
        return Candidates(self.boxes[index], self.scores[index], self.corrections[index])


@dataclasses.dataclass
class Level:
    picture: Floats32  # normalised
    maps: Floats  # (6, rows, cols)
    proposed: Candidates
    kept: Candidates


@dataclasses.dataclass
class Result:
    """Detections and everything on the way to them."""

    levels: list[Level]
    rnet_boxes: Floats32
    rnet_raw: Floats
    onet_boxes: Floats32
    onet_raw: Floats
    boxes: Floats32  # (f, 4) tight around the landmarks
    scores: Floats32
    points: Floats  # (f, 5, 2)


def detect(
    model: MTCNN,
    image: NDArray,
    *,
    min_face_size: float = 60.0,
    factor: float = 0.709,
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
) -> Result:
    """Runs the detector on one image and keeps the intermediate results."""
    image = np.asarray(image, np.float32)
    levels = []
    for scale in pyramid_scales(min(image.shape[:2]), min_face_size, factor):
        height, width = (math.ceil(size * scale) for size in image.shape[:2])
        picture = normalise(resize(image, height, width))
        maps = run_net(model.pnet, picture.transpose(2, 0, 1).astype(np.float64))
        proposed = propose(maps, scale, thresholds[0])
        kept = proposed.take(suppress(proposed.boxes, proposed.scores, 0.5))
        levels.append(Level(picture, maps, proposed, kept))
    candidates = concatenate([level.kept for level in levels])
    candidates = candidates.take(suppress(candidates.boxes, candidates.scores, 0.7))

    candidates, rnet_raw = classify(model.rnet, image, candidates, 24)
    rnet_boxes = candidates.boxes
    candidates = candidates.take(passing(candidates.scores, thresholds[1]))
    candidates = candidates.take(suppress(candidates.boxes, candidates.scores, 0.7))

    candidates, onet_raw = classify(model.onet, image, candidates, 48)
    onet_boxes = candidates.boxes
    over = passing(candidates.scores, thresholds[2])
    boxes = correct(candidates.take(over), extra=1)
    chosen = suppress(boxes, candidates.scores[over], 0.7, minimum=True)
    order = [over[i] for i in chosen]
    fractions = onet_raw[order, 6:].reshape(-1, 2, 5).transpose(0, 2, 1)
    points = onet_boxes[order, None, :2] + onet_boxes[order, None, 2:] * fractions
    final, scores = landmark_boxes(boxes[chosen], model.landmark_frame), candidates.scores[order]
    return Result(levels, rnet_boxes, rnet_raw, onet_boxes, onet_raw, final, scores, points)


def pyramid_scales(shorter: int, min_face_size: float, factor: float) -> list[float]:
    """Scale of each level, from the largest picture to the smallest."""
    count = math.floor(math.log(min_face_size / shorter) / math.log(factor)) + 1
    return [12 / min_face_size * factor**i for i in range(count)]


def axis_taps(source: int, out: int) -> tuple[NDArray, NDArray, Floats32]:
    """Both source indices and the weight of the second, per output index: specification 01, 0.2."""
    position = ((np.arange(out) + 0.5) * (1 / (out / source)) - 0.5).astype(np.float32)
    first = np.floor(position).astype(int)
    weight = position - first.astype(np.float32)
    weight[(first < 0) | (first >= source - 1)] = 0
    first = np.clip(first, 0, source - 1)
    return first, np.minimum(first + 1, source - 1), weight


def resize(image: Floats32, height: int, width: int) -> Floats32:
    first, second, weight = axis_taps(image.shape[1], width)
    weight = weight[None, :, None]
    wide = image[:, first] * (1 - weight) + image[:, second] * weight
    first, second, weight = axis_taps(image.shape[0], height)
    weight = weight[:, None, None]
    return (wide[first] * (1 - weight) + wide[second] * weight).astype(np.float32)


def normalise(image: Floats32) -> Floats32:
    return (image - np.float32(127.5)) * np.float32(0.0078125)


def run_net(net: Net, maps: Floats) -> Floats:
    for layer in net:
        maps = run_layer(layer, maps)
    return maps


def run_layer(layer: Layer, maps: Floats) -> Floats:
    if layer.kind == "conv":
        return convolve(maps, layer.weight) + layer.bias[:, None, None]
    if layer.kind == "prelu":
        slope = layer.weight.reshape(-1, *[1] * (maps.ndim - 1))
        return np.where(maps >= 0, maps, maps * slope)
    if layer.kind == "pool":
        return max_pool(maps, layer.kernel, layer.stride)
    if maps.ndim == 3 and len(maps) == layer.weight.shape[1]:
        return np.tensordot(layer.weight, maps, 1) + layer.bias[:, None, None]
    if maps.ndim == 3:
        maps = maps.transpose(0, 2, 1).reshape(-1)
    return layer.weight @ maps + layer.bias


def convolve(maps: Floats, weight: Floats) -> Floats:
    """Valid cross-correlation."""
    kernel_height, kernel_width = weight.shape[2:]
    rows, cols = maps.shape[1] - kernel_height + 1, maps.shape[2] - kernel_width + 1
    total = np.zeros((len(weight), rows, cols))
    for i in range(kernel_height):
        for j in range(kernel_width):
            total += np.tensordot(weight[:, :, i, j], maps[:, i : i + rows, j : j + cols], 1)
    return total


def max_pool(maps: Floats, kernel: int, stride: int) -> Floats:
    """Windows start at multiples of the stride and are clipped at the end."""
    # OpenFace rounds halves away from zero.
    rows, cols = (math.floor((size - kernel) / stride + 0.5) + 1 for size in maps.shape[1:])
    pooled = np.empty((len(maps), rows, cols))
    for row in range(rows):
        for col in range(cols):
            y, x = row * stride, col * stride
            pooled[:, row, col] = maps[:, y : y + kernel, x : x + kernel].max(axis=(1, 2))
    return pooled


def probability(raw: Floats) -> Floats32:
    """Softmax of the face class, from the first two outputs."""
    logits = raw[..., :2].astype(np.float32)
    ratio = np.exp(logits[..., 0] - logits[..., 1]).astype(np.float64)
    return (1 / (1 + ratio)).astype(np.float32)


def propose(maps: Floats, scale: float, threshold: float) -> Candidates:
    """Cells over the threshold, column by column: specification 01, A.5."""
    scores = probability(maps.transpose(1, 2, 0))
    step = np.float32(scale)
    boxes, cells = [], []
    for col in range(maps.shape[2]):
        for row in range(maps.shape[1]):
            if scores[row, col] >= np.float32(threshold):
                x0, x1 = (int(np.float32(2 * col + k) / step) for k in (1, 12))
                y0, y1 = (int(np.float32(2 * row + k) / step) for k in (1, 12))
                boxes.append((x0, y0, x1 - x0, y1 - y0))
                cells.append((row, col))
    rows, cols = np.array(cells, int).reshape(-1, 2).T
    corrections = maps[2:, rows, cols].T.astype(np.float32)
    return Candidates(np.array(boxes, np.float32).reshape(-1, 4), scores[rows, cols], corrections)


def concatenate(groups: list[Candidates]) -> Candidates:
    boxes = [np.zeros((0, 4), np.float32)] + [group.boxes for group in groups]
    scores = [np.zeros(0, np.float32)] + [group.scores for group in groups]
    corrections = [np.zeros((0, 4), np.float32)] + [group.corrections for group in groups]
    return Candidates(np.concatenate(boxes), np.concatenate(scores), np.concatenate(corrections))


def suppress(
    boxes: Floats32, scores: Floats32, threshold: float, *, minimum: bool = False
) -> list[int]:
    """Indices of the boxes kept, best first: specification 01, A.6."""
    rectangles = np.rint(boxes).astype(int)
    left = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    kept = []
    while left:
        best = left.pop()
        kept.append(best)
        left = [
            i
            for i in left
            if not overlap(rectangles[best], rectangles[i], minimum) > np.float32(threshold)
        ]
    return kept


def overlap(a: NDArray, b: NDArray, minimum: bool) -> np.float32:
    """Shared area relative to the union or to the smaller box; NaN for 0/0."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = np.float32(width * height if width > 0 and height > 0 else 0)
    areas = int(a[2] * a[3]), int(b[2] * b[3])
    whole = np.float32(min(areas)) if minimum else np.float32(sum(areas)) - shared
    with np.errstate(divide="ignore", invalid="ignore"):
        return shared / whole


def correct(candidates: Candidates, *, extra: int = 0) -> Floats32:
    """Boxes with their edges moved: specification 01, A.7."""
    rounded = np.rint(candidates.boxes)
    low, size = rounded[:, :2], rounded[:, 2:] + np.float32(extra)
    new_low = low + candidates.corrections[:, :2] * size
    new_high = (low + size) + size * candidates.corrections[:, 2:]
    return np.concatenate([new_low, new_high - new_low], axis=1)


def square(boxes: Floats32) -> Floats32:
    """Squares with integral origin and side, rounded toward zero: specification 01, A.8."""
    side = boxes[:, 2:].max(axis=1, keepdims=True)
    low = boxes[:, :2].astype(np.float64) + 0.5 * (boxes[:, 2:] - side)
    return np.trunc(np.concatenate([low.astype(np.float32), side, side], axis=1))


def crop(image: Floats32, box: Floats32, side: int) -> Floats32 | None:
    """Normalised network input (side, side, 3); None where the box misses the image."""
    height, width = image.shape[:2]
    x, y, size = int(box[0]), int(box[1]), int(box[2])
    x0, x1 = max(x - 1, 0), min(x + size, width)
    y0, y1 = max(y - 1, 0), min(y + size, height)
    if x1 <= x0 or y1 <= y0:
        return None
    window = np.zeros((size + 1, size + 1, 3), np.float32)
    window[y0 - y + 1 : y1 - y + 1, x0 - x + 1 : x1 - x + 1] = image[y0:y1, x0:x1]
    return normalise(resize(window, side, side))


def classify(
    net: Net, image: Floats32, candidates: Candidates, side: int
) -> tuple[Candidates, Floats]:
    """Corrected and squared boxes with the network's scores and corrections."""
    boxes = square(correct(candidates))
    crops = [crop(image, box, side) for box in boxes]
    inside = [i for i, picture in enumerate(crops) if picture is not None]
    outputs = len(net[-1].bias)
    raw = np.zeros((len(inside), outputs))
    for row, i in enumerate(inside):
        picture = crops[i]
        assert picture is not None
        raw[row] = run_net(net, picture.transpose(2, 0, 1).astype(np.float64))
    corrections = raw[:, 2:6].astype(np.float32)
    return Candidates(boxes[inside], probability(raw), corrections), raw


def passing(scores: Floats32, threshold: float) -> list[int]:
    return [i for i, score in enumerate(scores) if score >= np.float32(threshold)]


def landmark_boxes(boxes: Floats32, frame: tuple[float, float, float, float]) -> Floats32:
    """Boxes tight around the 68 landmarks: specification 01, A.10, step 12."""
    x, y, width, height = boxes.astype(np.float64).T
    left, top, wide, high = frame
    moved = x + left * width, y + top * height, wide * width, high * height
    return np.stack(moved, axis=1).astype(np.float32)
