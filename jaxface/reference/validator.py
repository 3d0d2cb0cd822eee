"""Landmark validator: piece-wise affine warp, normalisation and network of one view.

Specification 01, B.8. Warped faces are (60, 60), [row, col]; maps (channel, row, col).
"""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Floats32 = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class View:
    centre: Floats  # pitch yaw roll, rad
    mean: Floats  # (60, 60)
    std: Floats
    mask: NDArray[np.bool_]
    min_x: float
    min_y: float
    triangles: NDArray[np.int32]  # (t, 3) landmark indices
    triangle_id: NDArray[np.int32]  # (60, 60)
    alpha: Floats32  # (t, 3)
    beta: Floats32
    layers: list[tuple[str, Floats, Floats]]  # name, weight, bias; empty arrays for the rest


def certainty(views: list[View], gray: NDArray, landmarks: Floats, rotation: Floats) -> float:
    """Certainty, 0 to 1, that landmarks (n 2) are right."""
    view = views[nearest_view(views, rotation)]
    warped = warp(view, gray, landmarks)
    if warped is None:
        return 0.0
    logits = run_network(view, normalise(view, warped))
    step = 2 / len(logits)
    error = -1 + step / 2 + int(np.argmax(logits)) * step
    return float(np.float32(0.5 * (1 - error)))


def nearest_view(views: list[View], rotation: Floats) -> int:
    return int(np.argmin([np.linalg.norm(view.centre - rotation) for view in views]))


def warp(view: View, gray: NDArray, landmarks: Floats) -> Floats | None:
    """Face (60, 60) warped to the view's mean shape; None where the box is empty."""
    height, width = gray.shape
    x0 = max(math.trunc(landmarks[:, 0].min() - 3), 0)
    y0 = max(math.trunc(landmarks[:, 1].min() - 3), 0)
    x1 = min(math.trunc(landmarks[:, 0].max() + 3), width - 1)
    y1 = min(math.trunc(landmarks[:, 1].max() + 3), height - 1)
    if x1 - x0 <= 1 or y1 - y0 <= 1:
        return None
    region = gray[y0:y1, x0:x1]
    points = landmarks.astype(np.float32) - np.array([x0, y0], np.float32)
    # The map is float32 as in OpenFace: its 1/32-px rounding turns on the last bit.
    affine = []
    for (i, j, k), alpha, beta in zip(view.triangles, view.alpha, view.beta, strict=True):
        for axis in range(2):
            first = points[i, axis]
            second, third = points[j, axis] - first, points[k, axis] - first
            row = second * alpha + third * beta
            row[0] = first + second * alpha[0] + third * beta[0]
            affine.append(row)
    table = np.array(affine).reshape(-1, 2, 3)
    warped = np.zeros(view.mask.shape)
    for row, col in np.argwhere(view.mask):
        x, y = np.float32(col) + np.float32(view.min_x), np.float32(row) + np.float32(view.min_y)
        a = table[view.triangle_id[row, col]]
        source_x, source_y = a[:, 0] + a[:, 1] * x + a[:, 2] * y
        warped[row, col] = sample(region, source_x, source_y)
    return warped


def sample(image: NDArray, x: np.float32, y: np.float32) -> float:
    """Bilinear sample on the 1/32-px grid; each tap outside is 0: specification 01, 0.3."""
    ix, iy = int(np.rint(np.float32(32) * x)), int(np.rint(np.float32(32) * y))
    col, row, fx, fy = ix >> 5, iy >> 5, (ix & 31) / 32, (iy & 31) / 32
    value = 0.0
    for dy, dx, weight in (
        (0, 0, (1 - fx) * (1 - fy)),
        (0, 1, fx * (1 - fy)),
        (1, 0, (1 - fx) * fy),
        (1, 1, fx * fy),
    ):
        if 0 <= row + dy < image.shape[0] and 0 <= col + dx < image.shape[1]:
            value += weight * image[row + dy, col + dx]
    return value


def normalise(view: View, warped: Floats) -> Floats:
    """Standardised pixels of the mask, then the view's own mean and deviation; 0 outside."""
    pixels = warped[view.mask]
    deviation = pixels.std()
    standard = (pixels - pixels.mean()) / (deviation if deviation != 0 else 1.0)
    face = np.zeros_like(warped)
    face[view.mask] = (standard - view.mean[view.mask]) / view.std[view.mask]
    return face


def run_network(view: View, face: Floats) -> Floats:
    """Logits (bins,), the best class first."""
    x = face[None]
    for name, weight, bias in view.layers:
        if name == "relu":
            x = np.maximum(x, 0)
        elif name == "pool":
            x = pool(x)
        elif name == "conv":
            x = convolve(x, weight, bias)
        else:
            x = weight @ (x.transpose(0, 2, 1).ravel() if x.ndim == 3 else x) + bias
    return x


def convolve(x: Floats, weight: Floats, bias: Floats) -> Floats:
    """Valid cross-correlation with weights (out in row col)."""
    out, _, rows, cols = weight.shape
    height, width = x.shape[1] - rows + 1, x.shape[2] - cols + 1
    result = np.zeros((out, height, width)) + bias[:, None, None]
    for i in range(rows):
        for j in range(cols):
            window = x[:, i : i + height, j : j + width]
            result += np.tensordot(weight[:, :, i, j], window, axes=1)
    return result


def pool(x: Floats) -> Floats:
    """Maximum over 2x2 windows of stride 2, clipped at the edge."""
    channels, height, width = x.shape
    result = np.zeros((channels, math.ceil(height / 2), math.ceil(width / 2)))
    for row in range(result.shape[1]):
        for col in range(result.shape[2]):
            window = x[:, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
            result[:, row, col] = window.max(axis=(1, 2))
    return result
