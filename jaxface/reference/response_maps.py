"""Patch-expert responses in float64: image areas, CCNF with its Sigma, SVR and CEN experts.

Weights are indexed [row, col] of the 11x11 patch. Areas are (side, side), side = window + 10,
and response maps (window, window), both [row, col].
"""

import functools
import itertools
import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Floats32 = NDArray[np.float32]

SUPPORT = 11
INVERTED_PAIRS = ((0, 5), (0, 6), (5, 0), (6, 0), (5, 5), (6, 6))  # |row|, |col| steps of S3


def nearest_view(rotation: Floats32, centres: Floats) -> int:
    """View whose centre is nearest to the Euler angles: specification 02, C.1."""
    distances = []
    for centre in centres:
        difference = np.subtract(rotation, centre, dtype=np.float64).astype(np.float32)
        distances.append(float(np.sum(difference.astype(np.float64) ** 2)))
    return int(np.argmin(distances))


def align_to_reference(landmarks: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """Similarity (2 2) from `landmarks` to `reference` (n 2) and its inverse: C.2."""
    a = landmarks - landmarks.mean(axis=0)
    b = reference - reference.mean(axis=0)
    angle = math.atan2(
        np.sum(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]), np.sum(a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1])
    )
    ratio = math.sqrt(np.sum(b * b) / np.sum(a * a))
    to_reference = ratio * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    return to_reference, np.linalg.inv(to_reference)


def area_matrix(landmark: Floats32, reference_to_image: Floats32, side: int) -> Floats32:
    """Affine map (2 3) from area pixel to image, in float32 from left to right: C.3."""
    x, y = landmark.astype(np.float32)
    to_image = reference_to_image.astype(np.float32)
    a, b = to_image[0, 0], -to_image[0, 1]
    half = np.float32((side - 1) / 2)
    return np.array([[a, -b, x - a * half + b * half], [b, a, y - a * half - b * half]], np.float32)


def sample(image: NDArray, matrix: Floats32, side: int) -> Floats:
    """Samples a square area on OpenCV's 1/32-pixel grid; outside the image is 0: C.3."""
    m = matrix.astype(np.float64)
    height, width = image.shape
    area = np.zeros((side, side))
    column = np.arange(side)
    step_x = np.rint(m[0, 0] * column * 1024).astype(np.int64)
    step_y = np.rint(m[1, 0] * column * 1024).astype(np.int64)
    for v in range(side):
        start_x = int(np.rint((m[0, 1] * v + m[0, 2]) * 1024)) + 16
        start_y = int(np.rint((m[1, 1] * v + m[1, 2]) * 1024)) + 16
        cell_x, cell_y = (start_x + step_x) >> 5, (start_y + step_y) >> 5
        x, y = cell_x >> 5, cell_y >> 5
        fx, fy = (cell_x & 31) / 32, (cell_y & 31) / 32
        taps = (
            (0, 0, (1 - fy) * (1 - fx)),
            (0, 1, (1 - fy) * fx),
            (1, 0, fy * (1 - fx)),
            (1, 1, fy * fx),
        )
        for dy, dx, weight in taps:
            row, col = y + dy, x + dx
            inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)
            pixel = image[np.clip(row, 0, height - 1), np.clip(col, 0, width - 1)]
            area[v] += np.where(inside, weight * pixel, 0)
    return area


def area_of_interest(
    gray: NDArray, landmark: Floats32, reference_to_image: Floats32, window: int
) -> Floats:
    """Image around one landmark, seen in the reference frame."""
    side = window + SUPPORT - 1
    return sample(gray, area_matrix(landmark, reference_to_image, side), side)


def normalised_patch(area: Floats, row: int, col: int) -> Floats:
    """Patch (11 11) with zero mean and unit length; a flat one is 0: C.4, step 1."""
    patch = area[row : row + SUPPORT, col : col + SUPPORT]
    patch = patch - patch.mean()
    length = np.linalg.norm(patch)
    return patch / (length if length != 0 else 1.0)


def ccnf_sigma(window: int, alpha: Floats, beta: Floats, *, with_components: bool) -> Floats:
    """Covariance (window^2, window^2) of the CCNF; diagonal without components: C.4, A.5."""
    size = window * window
    precision = alpha.sum() * np.eye(size)
    if with_components and beta.size:
        for weight, component in zip(beta, sigma_components(window), strict=True):
            precision = precision + weight * component
    return np.linalg.inv(2 * precision)


@functools.cache
def sigma_components(window: int) -> tuple[Floats, Floats, Floats]:
    """S1, S2, S3: smoothness over direct and diagonal neighbours, sparsity over far ones."""
    cells = list(itertools.product(range(window), repeat=2))
    size = len(cells)
    components = [np.zeros((size, size)) for _ in range(3)]
    for i, (row, col) in enumerate(cells):
        for j, (other_row, other_col) in enumerate(cells):
            step = abs(row - other_row), abs(col - other_col)
            if step in ((0, 1), (1, 0)):
                components[0][i, j] = -1
            if step == (1, 1):
                components[1][i, j] = -1
            if step in INVERTED_PAIRS:
                components[2][i, j] = 1
    for component in components:
        component += np.diag(np.abs(component).sum(axis=1))
    return components[0], components[1], components[2]


def ccnf_response(
    area: Floats, weights: Floats, bias: Floats, alpha: Floats, sigma: Floats
) -> Floats:
    """Response of one CCNF expert with neurons `weights` (k 11 11): C.4."""
    window = len(area) - SUPPORT + 1
    field = np.zeros((window, window))
    for row, col in itertools.product(range(window), repeat=2):
        patch = normalised_patch(area, row, col)
        activation = bias + np.sum(weights * patch, axis=(1, 2))
        terms = 2 * alpha / (1 + np.exp(-activation))
        field[row, col] = terms[alpha > 1e-4].sum()
    response = (sigma @ field.ravel()).reshape(window, window)
    return response - min(response.min(), 0.0)


def svr_response(area: Floats, weights: Floats, scaling: Floats, bias: Floats) -> Floats:
    """Product of the raw and the gradient modality of one SVR expert, `weights` (2 11 11): C.6."""
    window = len(area) - SUPPORT + 1
    deviation = area.std()
    raw = (area - area.mean()) / (deviation if deviation != 0 else 1.0)
    gradient = np.zeros_like(area)
    horizontal = area[1:-1, 2:] - area[1:-1, :-2]
    vertical = area[2:, 1:-1] - area[:-2, 1:-1]
    gradient[1:-1, 1:-1] = horizontal**2 + vertical**2
    response = np.ones((window, window))
    for modality, template, gain, offset in zip(
        (raw, gradient), weights, scaling, bias, strict=True
    ):
        for row, col in itertools.product(range(window), repeat=2):
            patch = modality[row : row + SUPPORT, col : col + SUPPORT]
            score = correlation(patch, template) * gain + offset
            response[row, col] *= 1 / (1 + math.exp(-score))
    return response


def correlation(patch: Floats, template: Floats) -> float:
    """Normalised correlation coefficient with OpenCV's treatment of flat patches: C.6."""
    if template.var() < 2.2e-16:
        return 1.0
    centred = template - template.mean()
    number = float(np.sum(patch * centred))
    spread = max(float(np.sum((patch - patch.mean()) ** 2)), 0.0)
    limit = math.sqrt(spread) * math.sqrt(float(np.sum(centred**2)))
    if abs(number) < limit:
        return number / limit
    if abs(number) < 1.125 * limit:
        return math.copysign(1.0, number)
    return 0.0


def cen_response(
    area: Floats,
    layers: list[tuple[Floats, Floats]],
    activations: tuple[str, ...],
    *,
    mirrored: bool,
) -> Floats:
    """Response of one CEN expert, layers of (weight (out in), bias (out,)): C.7.

    The network runs on every second position; the others are means of their neighbours. A
    mirrored expert sees the flipped area and its map is flipped back.
    """
    if mirrored:
        return cen_response(area[:, ::-1], layers, activations, mirrored=False)[:, ::-1]
    window = len(area) - SUPPORT + 1
    response = np.zeros((window, window))
    computed = np.zeros((window, window), bool)
    for col, row in itertools.product(range(window), repeat=2):
        if (col * window + row) % 2 == 1:
            pixels = normalised_patch(area, row, col).T.ravel()
            response[row, col] = run_network(np.append(1.0, pixels), layers, activations)
            computed[row, col] = True
    for row, col in itertools.product(range(window), repeat=2):
        if not computed[row, col]:
            steps = ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1))
            near = [response[r, c] for r, c in steps if 0 <= r < window and 0 <= c < window]
            response[row, col] = sum(near) / len(near)
    return response


def run_network(
    values: Floats, layers: list[tuple[Floats, Floats]], activations: tuple[str, ...]
) -> float:
    """A fully connected network with one output."""
    for (weight, bias), activation in zip(layers, activations, strict=True):
        values = weight @ values + bias
        if activation == "sigmoid":
            values = 1 / (1 + np.exp(-values))
        elif activation == "relu":
            values = np.maximum(values, 0)
    return float(values[0])
